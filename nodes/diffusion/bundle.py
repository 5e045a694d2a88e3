"""Bundle: a whole pipeline on one wire. Each part of it is a model of its own to the engine, counted and evicted by itself.

What a part is made of is said by its folder; diffusers and transformers build and fill it. A pipeline object is put
together from parts that are in memory whenever a node uses it, which costs nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from graph_engine import NodeContext, NodeError
from graph_engine.errors import ModelError
from graph_engine.models.spec import ModelSpec
from nodes.diffusion import tiny
from nodes.diffusion.checkpoint import present
from nodes.diffusion.families import PART
from nodes.diffusion.folder import INDEX, STEMS, VARIANTS, is_model, is_pipeline, read_json, weights
from nodes.diffusion.found import candidates, find
from nodes.diffusion.header import read_header, weight_file

PIPELINE = "diffusion.pipeline"
PLACES = ("pipelines", "diffusers", "transformers")
PARTS = (
    "unet/",
    "transformer/",
    "vae/",
    "text_encoder/",
    "text_encoder_2/",
    "motion_adapter/",
    "vocoder/",
    "language_model/",
    "projection_model/",
)
"""Folders of parts in the pipelines that are known here."""
WHOLE = "model"
"""Name of the only part of a bundle that is one model."""

VOCABULARIES = (
    "tokenizer.json",
    "vocab.json",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)
"""Any one of these makes a tokenizer."""

_LOADING = threading.Lock()
"""transformers sets process-wide switches while it loads; two loads at once would meet each other's."""


def load(name: str, models_dir: Path, kinds: Mapping[str, str], noun: str, dtype: str = "float32") -> ModelSpec:
    """The bundle in a folder.

    kinds: what may be in it, pipeline class or `model_type` of transformers -> class of the model ("" for a pipeline). Raises
    NodeError or ModelError for what is absent, damaged or something else.
    """
    if name in tiny.MAKERS:
        tiny.ensure(models_dir, name)
    folder = find(name, models_dir, PLACES, is_bundle, noun)
    made = {"made": name} if name in tiny.MAKERS else {}
    if is_pipeline(folder):
        index = read_json(folder / INDEX)
        kind = str(index.get("_class_name", ""))
        _of_kind(kind, kinds, folder, noun)
        parts = {
            place: _part(folder / place, entry[0], entry[1], dtype)
            for place, entry in index.items()
            if isinstance(entry, list) and entry[0] is not None and _has_weights(folder / place)
        }
    else:
        kind = str(read_json(folder / "config.json").get("model_type", ""))
        _of_kind(kind, kinds, folder, noun)
        parts = {WHOLE: _part(folder, "transformers", kinds[kind], dtype)}
    parts = {place: replace(spec, extras={**made}) for place, spec in parts.items()}
    files = tuple(file for spec in parts.values() for file in spec.files)
    extras = {
        "folder": str(folder),
        "name": folder.name,
        "parts": {place: spec.to_dict() for place, spec in parts.items()},
        **made,
    }
    return ModelSpec(PIPELINE, {"kind": kind}, files, dtype or "float32", extras)


def is_bundle(path: Path) -> bool:
    return is_pipeline(path) or is_model(path)


def reads(literals: Mapping[str, Any]) -> list[str]:
    """Every file that a folder of this name may rest on, for the content key; most of them do not exist."""
    name = str(literals.get("name", ""))
    if name in tiny.MAKERS:
        return []
    weights = [f"{stem}{variant}.safetensors" for stem in STEMS for variant in VARIANTS]
    names = [INDEX, *(f"{place}{file}" for place in ("", *PARTS) for file in ("config.json", *weights))]
    return [f"{path}/{file}" for path in candidates(name, PLACES) for file in names]


def module(context: NodeContext, bundle: ModelSpec, place: str = WHOLE) -> Any:
    """One part, leased to this job."""
    spec = present(ModelSpec.from_dict(bundle.extras["parts"][place]), context.models_dir)
    return context.model(replace(spec, extras={}))


def pipeline(context: NodeContext, bundle: ModelSpec) -> Any:
    """The pipeline of diffusers around its leased parts; what has no weights is read from the folder."""
    import diffusers
    import transformers

    from nodes.diffusion.quiet import quiet

    quiet()
    folder = Path(bundle.extras["folder"])
    found: dict[str, Any] = {}
    for place, entry in read_json(folder / INDEX).items():
        if not isinstance(entry, list):
            continue
        if place in bundle.extras["parts"]:
            found[place] = module(context, bundle, place)
        elif entry[0] is None:
            found[place] = None
        else:
            library = transformers if entry[0] == "transformers" else diffusers
            found[place] = getattr(library, entry[1]).from_pretrained(folder / place, local_files_only=True)
    made = getattr(diffusers, bundle.config["kind"])(**found)
    made.set_progress_bar_config(disable=True)
    return made


def processor(bundle: ModelSpec, kind: str = "AutoProcessor") -> Any:
    """What turns media into a model's inputs, from the bundle's folder. Raises NodeError when its files are missing."""
    import transformers

    folder = bundle.extras["folder"]
    if kind == "AutoTokenizer" and not any((Path(folder) / name).is_file() for name in VOCABULARIES):
        # transformers would make an empty one, which knows no word.
        raise NodeError(
            f"{folder} has no vocabulary.",
            remedy=f"Put the tokenizer's files there: one of {', '.join(VOCABULARIES)}.",
            code="model_missing",
            port="model",
        )
    try:
        return getattr(transformers, kind).from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NodeError(
            f"{folder} lacks what turns media or text into the model's inputs: {str(error).splitlines()[0]}",
            remedy="Fetch the folder again, with its tokenizer and preprocessor files.",
            code="model_missing",
            port="model",
        ) from error


def stopper(context: NodeContext, total: int) -> Any:
    """For transformers' `generate`: tells progress token by token, and ends when the run was cancelled."""
    from transformers import StoppingCriteria, StoppingCriteriaList

    class Stop(StoppingCriteria):
        done = 0

        def __call__(self, ids: Any, scores: Any, **more: Any) -> Any:
            import torch

            context.progress(min(self.done, total), total)
            self.done += 1
            return torch.zeros(ids.shape[0], dtype=torch.bool, device=ids.device)

    return StoppingCriteriaList([Stop()])


def step_reporter(context: NodeContext, total: int) -> Callable[..., dict[str, Any]]:
    """For pipelines of diffusers: tells progress step by step, and ends when the run was cancelled."""

    def report(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        context.progress(step + 1, total)
        return {}

    return report


# --- parts ----------------------------------------------------------------------------------------------------------


def _of_kind(kind: str, kinds: Mapping[str, str], folder: Path, noun: str) -> None:
    if kind not in kinds:
        raise NodeError(
            f"{folder} holds {kind or 'something without a name'}, which is no {noun} that is known here.",
            remedy=f"Known are {', '.join(kinds)}.",
            code="unknown_architecture",
            port="name",
        )


def _has_weights(folder: Path) -> bool:
    """Schedulers, tokenizers and feature extractors have no config.json."""
    return (folder / "config.json").is_file()


def _part(folder: Path, library: str, kind: str, dtype: str) -> ModelSpec:
    paths = weights(folder)
    for path in paths:
        read_header(path)
    config = {"library": library, "class": kind, "folder": str(folder)}
    dtype = dtype or read_header(paths[0]).dtype
    return ModelSpec(PART, config, tuple(weight_file(path) for path in paths), dtype)


def load_part(spec: ModelSpec, device: str) -> Any:
    """A part as its own library loads it. Raises ModelError that names missing, unexpected and misshapen keys."""
    import torch

    from nodes.diffusion.quiet import quiet

    quiet()
    library, name, folder = spec.config["library"], spec.config["class"], spec.config["folder"]
    dtype = getattr(torch, spec.dtype)
    if library != "transformers":  # a module of diffusers, or a pipeline's own
        return _diffusers_part(spec, dtype, device)
    import transformers

    kind = getattr(transformers, name, None)
    if not (isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)):
        raise _unknown(spec)
    loader: Any = kind
    try:
        with _LOADING:
            module, report = loader.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=dtype, output_loading_info=True
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"{folder} cannot be loaded as {name}: {str(error).splitlines()[0]}",
            remedy="Check that the folder is complete and of this model.",
            code="model_mismatch",
        ) from error
    _account(spec, {what: sorted(map(str, report.get(what) or [])) for what in _LOSSES})
    return module.to(device)


_LOSSES = {"missing_keys": "missing", "unexpected_keys": "without a place", "mismatched_keys": "of another shape"}


def _account(spec: ModelSpec, found: Mapping[str, list[str]]) -> None:
    losses = [f"{len(keys)} keys are {_LOSSES[what]} ({', '.join(keys[:5])})" for what, keys in found.items() if keys]
    if losses:
        raise ModelError(
            f"{spec.config['folder']} does not hold the weights of {spec.config['class']}: {'; '.join(losses)}.",
            remedy="Check that the files belong to this model and size.",
            code="model_mismatch",
        )


def _diffusers_part(spec: ModelSpec, dtype: Any, device: str) -> Any:
    import diffusers
    import torch
    from safetensors.torch import load_file

    from nodes.diffusion.model.ldm import vae_state

    kind = getattr(diffusers, spec.config["class"], None)
    if not (isinstance(kind, type) and issubclass(kind, diffusers.ModelMixin)):
        raise _unknown(spec)
    with torch.device("meta"):
        module: Any = kind.from_config(read_json(Path(spec.config["folder"]) / "config.json"))
    state: dict[str, Any] = {}
    for file in spec.files:
        state |= load_file(file.path)
    state = vae_state(state) if spec.config["class"] == "AutoencoderKL" else state
    own = module.state_dict()
    _account(
        spec,
        {
            "missing_keys": sorted(own.keys() - state.keys()),
            "unexpected_keys": sorted(state.keys() - own.keys()),
            "mismatched_keys": sorted(key for key in own.keys() & state.keys() if own[key].shape != state[key].shape),
        },
    )
    ready = {key: value.to(device, dtype if value.is_floating_point() else None) for key, value in state.items()}
    module.load_state_dict(ready, assign=True)
    return module


def _unknown(spec: ModelSpec) -> ModelError:
    return ModelError(
        f"{spec.config['folder']} wants a {spec.config['class']} of {spec.config['library']}, which is not installed here.",
        remedy="Update the library, or choose another folder.",
        code="unknown_architecture",
    )
