"""Vision tower: CLIP or SigLIP in the place of ImageBind's eyes, from a folder as Hugging Face lays it out."""

from __future__ import annotations

import glob
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from graph_engine import Encoder, NodeContext, Widget, node
from graph_engine.errors import ModelError
from nodes.nextgpt.families import VISION_TOWER
from nodes.nextgpt.load import CATEGORY
from nodes.nextgpt.refusal import refusals

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"


def _reads(literals: Mapping[str, Any]) -> list[str]:
    folder = str(literals.get("folder", ""))
    return [
        *(f"{folder}/{name}" for name in (WEIGHTS, INDEX, CONFIG, PROCESSOR)),
        f"{glob.escape(folder)}/*.safetensors",
    ]


@node(id="nextgpt.load_vision_tower", category=CATEGORY, reads=_reads)
def load_vision_tower(
    context: NodeContext,
    folder: str,
    form: Literal["patch", "global"] = "patch",
    layer: Annotated[int, Widget(min=-48, max=-1)] = -2,
) -> Encoder:
    """A CLIP or SigLIP tower as encoder of pictures and videos, instead of ImageBind.

    folder: under the models folder, with config.json, preprocessor_config.json and model.safetensors (or its index and
    parts), of the tower alone or of the whole model. form: what `auto` means in the encode nodes. layer: whose output the
    patches are, -1 the last layer's; -2 is what LLaVA reads.
    """
    from graph_engine.models.spec import ModelSpec, WeightFile
    from nodes.nextgpt.model.vision_tower import TowerConfig

    place = _inside(context.models_dir, folder)
    config, processor = (_json(place / name) for name in (CONFIG, PROCESSOR))
    with refusals("bad_tower", "folder"):
        sizes = TowerConfig.of_folder(config, processor, layer).to_dict()
    if (place / INDEX).is_file():
        names = sorted(set(_json(place / INDEX).get("weight_map", {}).values()))
        paths = [_inside(place, str(name)) for name in names]
    else:
        paths = [place / WEIGHTS]
    return ModelSpec(VISION_TOWER, sizes, tuple(WeightFile.of(path) for path in paths), extras={"form": form})


def _inside(root: Path, name: str) -> Path:
    """A path under `root`; an index or a literal that names one outside is refused."""
    path = (root / name).resolve()
    if not name.strip() or not path.is_relative_to(root.resolve()):
        raise ModelError(
            f"{name!r} names no place inside {root.name}.", remedy="Give a name inside the folder.", code="path_outside"
        )
    return path


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"the vision tower lacks {path}.",
            remedy=f"Put config.json, {PROCESSOR} and {WEIGHTS} of the published model into {path.parent}.",
            code="model_missing",
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path} cannot be read: {error}.", remedy="Fetch the file again.", code="model_damaged"
        ) from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds no JSON object.", remedy="Fetch the file again.", code="model_damaged")
    return content
