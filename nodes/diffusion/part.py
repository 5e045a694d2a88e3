"""Part: one model of a pipeline, as the engine sees it: what it is made of, where its weights are.

What can be built empty and filled from its files is: then it may come ahead, and block by block where it is larger than its
room. Of transformers those are the large text encoders; the others their library builds and fills, and they come whole.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from graph_engine.errors import ModelError
from graph_engine.models.spec import ModelSpec
from nodes.diffusion import families
from nodes.diffusion.folder import settings, weights
from nodes.diffusion.header import read_header, weight_file

MOTION = "motion."
"""Prefix of a motion adapter's tensors, beside those of the denoiser it is for."""
_LOADING = threading.Lock()
"""transformers sets process-wide switches while it loads; two loads at once would meet each other's."""


def part(folder: Path, library: str, kind: str, dtype: str) -> ModelSpec:
    """The spec of the model in a folder. kind: its class in `library`; dtype: without one as it is stored."""
    paths = weights(folder)
    for path in paths:
        read_header(path)
    dtype = dtype or read_header(paths[0]).dtype
    files = tuple(weight_file(path) for path in paths)
    if library == "transformers":
        config = settings(folder / "config.json")
        if kind == "CLIPTextModel":
            return ModelSpec(families.TEXT, config, files, dtype)
        if kind == "T5EncoderModel" and dtype != "float16":  # in float16 its library keeps some layers in float32
            return ModelSpec(families.T5, config, files, dtype)
        return ModelSpec(families.LIBRARY, {"class": kind, "folder": str(folder), "config": config}, files, dtype)
    return ModelSpec(families.PART, {"class": kind, "config": settings(folder / "config.json")}, files, dtype)


def with_motion(unet: ModelSpec, adapter: ModelSpec) -> ModelSpec:
    """A denoiser of pictures and the motion layers that make one of films of it, as one model (arXiv 2307.04725).

    One that was saved with its motion layers needs no others.
    """
    if unet.config.get("class") != "UNet2DConditionModel":
        return unet
    files = tuple(replace(file, prefix=MOTION) for file in adapter.files)
    config = {"unet": unet.config["config"], "motion": adapter.config["config"]}
    return ModelSpec(families.MOTION, config, (*unet.files, *files), unet.dtype)


# --- built empty ----------------------------------------------------------------------------------------------------


def build_part(config: Mapping[str, Any]) -> Any:
    """A model of diffusers, under `torch.device("meta")`. Raises ModelError for a class that is none."""
    import diffusers

    kind = getattr(diffusers, config["class"], None)
    if not (isinstance(kind, type) and issubclass(kind, diffusers.ModelMixin)):
        raise _unknown("diffusers", config["class"])
    made: Any = kind
    return made.from_config(dict(config["config"]))


def part_state(state: Mapping[str, Any], spec: ModelSpec) -> dict[str, Any]:
    from nodes.diffusion.model.ldm import vae_state

    return vae_state(state) if spec.config["class"] == "AutoencoderKL" else dict(state)


def build_motion(config: Mapping[str, Any]) -> Any:
    from diffusers import MotionAdapter, UNet2DConditionModel, UNetMotionModel

    unet = UNet2DConditionModel.from_config(dict(config["unet"]))
    return UNetMotionModel.from_unet2d(unet, MotionAdapter.from_config(dict(config["motion"])))


def motion_state(state: Mapping[str, Any], spec: ModelSpec) -> dict[str, Any]:
    """Motion layers have the names that they get. Of an adapter with an input of its own (PIA), the channels beyond the
    latent's are taken."""
    import torch

    found = {
        key.removeprefix(MOTION): tensor for key, tensor in state.items() if not key.startswith(MOTION + "conv_in.")
    }
    added = state.get(f"{MOTION}conv_in.weight")
    if added is not None:
        found["conv_in.weight"] = torch.cat([found["conv_in.weight"], added[:, found["conv_in.weight"].shape[1] :]], 1)
    return found


def build_t5(config: Mapping[str, Any]) -> Any:
    from transformers import T5Config, T5EncoderModel

    made: Any = T5EncoderModel(T5Config(**config))
    made.encoder.embed_tokens = made.shared
    return made


def t5_state(module: Any, state: Mapping[str, Any]) -> dict[str, Any]:
    """One table of words under two names; files have it under either."""
    tables = ("shared.weight", "encoder.embed_tokens.weight")
    table = next((state[key] for key in tables if key in state), None)
    found = {key: tensor for key, tensor in state.items() if key not in tables}
    return found if table is None else {**found, **dict.fromkeys(tables, table)}


def build_library(config: Mapping[str, Any]) -> Any:
    """A model of transformers without weights, for what can be asked of it before it is there."""
    import transformers

    kind = _of_transformers(config["class"])
    return kind(transformers.AutoConfig.from_pretrained(config["folder"], local_files_only=True))


# --- by its library -------------------------------------------------------------------------------------------------


def load_library(spec: ModelSpec, device: str) -> Any:
    """A model as transformers loads it. Raises ModelError that names missing, unexpected and misshapen keys."""
    import torch

    from nodes.diffusion.quiet import quiet

    quiet()
    name, folder = spec.config["class"], spec.config["folder"]
    kind = _of_transformers(name)
    try:
        with _LOADING:
            module, report = kind.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                dtype=getattr(torch, spec.dtype),
                output_loading_info=True,
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


def _of_transformers(name: str) -> Any:
    import transformers

    kind = getattr(transformers, name, None)
    if not (isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)):
        raise _unknown("transformers", name)
    return kind


def _unknown(library: str, name: str) -> ModelError:
    return ModelError(
        f"the folder wants a {name} of {library}, which is not installed here.",
        remedy="Update the library, or choose another folder.",
        code="unknown_architecture",
    )
