"""Projector files: projectors that belong to no preset, whose mode and sizes are read off their file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from graph_engine import InputProjector, NodeContext, OutputProjector, Widget, node
from graph_engine.errors import ModelError
from nodes.nextgpt.families import INPUT_PROJECTOR
from nodes.nextgpt.load import CATEGORY
from nodes.nextgpt.modality import SPOKEN
from nodes.nextgpt.refusal import refusals


def _reads(literals: Mapping[str, Any]) -> list[str]:
    return [str(literals.get("file", ""))]


@node(id="nextgpt.load_input_projector_file", category=CATEGORY, reads=_reads)
def load_input_projector_file(context: NodeContext, file: str) -> InputProjector:
    """An input projector of any mode (linear, mlp, group) and any widths, from a safetensors file of the models folder.

    For another encoder (a vision tower) or language model than those of the presets. The file may hold the projector
    alone or be a whole checkpoint of NExT-GPT.
    """
    from nodes.nextgpt.model.input_projector import CURRENT_PREFIX, LEGACY_PREFIX, InputProjectorConfig, select_state

    weights, shapes, stated = _header(context.models_dir, file)
    with refusals("bad_projector", "file"):
        for prefix in (LEGACY_PREFIX, CURRENT_PREFIX):
            if any(key.startswith(prefix) for key in shapes):
                shapes = select_state(shapes, prefix)
                break
        config = InputProjectorConfig.from_dict(stated) if stated else InputProjectorConfig.of_shapes(shapes)
    return _spec(INPUT_PROJECTOR, config.to_dict(), weights, {})


@node(id="nextgpt.load_output_projector_file", category=CATEGORY, reads=_reads)
def load_output_projector_file(
    context: NodeContext, file: str, modality: Literal["image", "video", "audio"] = "image"
) -> OutputProjector:
    """An output projector of any mode (transformer, linear, qformer) and any widths, from a safetensors file.

    file: in the models folder; the projector alone or a whole checkpoint of NExT-GPT, from which that of the modality is
    taken.
    """
    from nodes.nextgpt.model.output_projector import (
        CURRENT_PREFIXES,
        LEGACY_PREFIXES,
        OutputProjectorConfig,
        canonical_state,
    )

    row = SPOKEN[modality]
    weights, shapes, stated = _header(context.models_dir, file)
    prefixes = (LEGACY_PREFIXES.get(modality, "\0"), CURRENT_PREFIXES.get(modality, "\0"))
    prefix = next((prefix for prefix in prefixes if any(key.startswith(prefix) for key in shapes)), "")
    with refusals("bad_projector", "file"):
        if stated:
            config = OutputProjectorConfig.from_dict(stated)
        else:
            config = OutputProjectorConfig.of_shapes(canonical_state(shapes, prefix), rows=row.condition[0])
    return _spec(row.projector, config.to_dict(), weights, {"modality": modality})


@node(id="nextgpt.identity_input_projector", category=CATEGORY)
def identity_input_projector(width: Annotated[int, Widget(min=1, max=65_536)] = 4096) -> InputProjector:
    """The projector that changes nothing, for an encoder as wide as the language model: `width` in, `width` out."""
    from nodes.nextgpt.model.input_projector import InputProjectorConfig

    return _spec(INPUT_PROJECTOR, InputProjectorConfig("identity", width, width).to_dict(), (), {})


def _spec(family: str, config: Mapping[str, Any], weights: tuple[Any, ...], extras: Mapping[str, Any]) -> Any:
    from graph_engine.models.spec import ModelSpec

    # Through JSON, so that a spec read back from a cache equals one made here.
    return ModelSpec(family, json.loads(json.dumps(config)), weights, extras=extras)


def _header(models_dir: Path, name: str) -> tuple[tuple[Any, ...], dict[str, list[int]], dict[str, Any]]:
    """The weight file, the shapes of its tensors, and the config that its metadata states, if any (as JSON)."""
    from safetensors import SafetensorError, safe_open

    from graph_engine.models.spec import WeightFile

    root = models_dir.resolve()
    path = (root / name).resolve()
    if not path.is_relative_to(root):
        raise ModelError(
            f"{name!r} names no file inside the models folder.",
            remedy="Give a name inside the folder.",
            code="path_outside",
        )
    weights = WeightFile.of(path)
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {key: list(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
            stated = json.loads((file.metadata() or {}).get("config", "{}"))
    except (SafetensorError, ValueError) as error:
        raise ModelError(
            f"the weight file {path} is damaged: {error}.", remedy="Fetch or convert it again.", code="model_damaged"
        ) from error
    return (weights,), shapes, stated if isinstance(stated, dict) else {}
