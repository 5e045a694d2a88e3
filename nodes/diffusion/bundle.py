"""Bundle: a whole pipeline on one wire. Each part of it is a model of its own to the engine, counted and evicted by itself.

What a part is made of is said by its folder (`part.py`). A pipeline object is put together of stand-ins whenever a node
uses it, which costs nothing: a part is in memory while it is at work (`stage.py`), so a pipeline may be larger than it.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from graph_engine import NodeContext, NodeError
from graph_engine.models.spec import ModelSpec
from nodes.diffusion import tiny
from nodes.diffusion.checkpoint import present
from nodes.diffusion.folder import INDEX, STEMS, VARIANTS, is_model, is_pipeline, read_json
from nodes.diffusion.found import candidates, find
from nodes.diffusion.part import part, with_motion
from nodes.diffusion.stage import Stage, in_order

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
BESIDE = ("scheduler/", "tokenizer/", "tokenizer_2/", "feature_extractor/")
"""Folders without weights, which decide on what is made all the same."""
ADAPTER = "motion_adapter"
"""Its layers become part of the denoiser, if they are not yet."""
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
            place: part(folder / place, entry[0], entry[1], dtype)
            for place, entry in index.items()
            if isinstance(entry, list) and entry[0] is not None and _has_weights(folder / place)
        }
        if (adapter := parts.pop(ADAPTER, None)) is not None and "unet" in parts:
            parts["unet"] = with_motion(parts["unet"], adapter)
        parts = in_order(kind, parts)
    else:
        kind = str(read_json(folder / "config.json").get("model_type", ""))
        _of_kind(kind, kinds, folder, noun)
        parts = {WHOLE: part(folder, "transformers", kinds[kind], dtype)}
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
    """Every file that a folder of this name may rest on, for the content key; most of them do not exist.

    Files by name, and patterns for what has no fixed name: shards, vocabularies, settings of schedulers and processors.
    """
    name = str(literals.get("name", ""))
    if name in tiny.MAKERS:
        return []  # made
    weights = [f"{stem}{variant}.safetensors" for stem in STEMS for variant in VARIANTS]
    names = [INDEX, *(f"{place}{file}" for place in ("", *PARTS) for file in ("config.json", *weights))]
    files = [f"{path}/{file}" for path in candidates(name, PLACES) for file in names]
    patterns = [f"{glob.escape(path)}/{place}*" for path in candidates(name, PLACES) for place in ("", *PARTS, *BESIDE)]
    return files + patterns


def module(context: NodeContext, bundle: ModelSpec, place: str = WHOLE) -> Any:
    """One part, leased to this job."""
    return context.model(_spec(context, bundle, place))


def pipeline(context: NodeContext, bundle: ModelSpec) -> Any:
    """The pipeline of diffusers around stand-ins for its parts; what has no weights is read from the folder."""
    import diffusers
    import transformers

    from nodes.diffusion.quiet import quiet

    quiet()
    folder, kind = Path(bundle.extras["folder"]), bundle.config["kind"]
    stage = Stage(context, kind)
    found: dict[str, Any] = {}
    for place, entry in read_json(folder / INDEX).items():
        if not isinstance(entry, list):
            continue
        if place in bundle.extras["parts"]:
            found[place] = stage.stand_in(place, _spec(context, bundle, place))
        elif entry[0] is None or place == ADAPTER:
            found[place] = None
        else:
            library = transformers if entry[0] == "transformers" else diffusers
            found[place] = getattr(library, entry[1]).from_pretrained(folder / place, local_files_only=True)
    made = getattr(diffusers, kind)(**found)
    made.set_progress_bar_config(disable=True)
    return made


def _spec(context: NodeContext, bundle: ModelSpec, place: str) -> ModelSpec:
    spec = present(ModelSpec.from_dict(bundle.extras["parts"][place]), context.models_dir)
    return replace(spec, extras={})


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
