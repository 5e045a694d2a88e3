"""Publishing: what was trained becomes the weight files of its preset, in half precision."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from graph_engine.errors import ModelError
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.snapshot import write


def publish(parts: Parts, target: Path, names: Iterable[str] | None = None) -> list[Path]:
    """Writes `TARGET/PART.safetensors` of these parts (all by default), where the preset looks for them.

    Raises ModelError for a part that was not trained, and before that writes nothing; StoreError for a full disk.
    """
    wanted = list(names or parts.preset.parts)
    lacking = [name for name in wanted if not parts.path(name).is_file()]
    if lacking:
        raise ModelError(
            f"{len(lacking)} parts were not trained in {parts.folder}: {', '.join(lacking)}.",
            remedy="Train the rest of the recipe, or name the parts that are to be published.",
            code="not_trained",
        )
    written = []
    for name in wanted:
        state = {
            key: tensor.detach().to(torch.float16 if tensor.is_floating_point() else tensor.dtype).contiguous().cpu()
            for key, tensor in parts.get(name).state_dict().items()
        }
        path = target / f"{name}.safetensors"
        write(path, state, {"preset": parts.preset.name})
        written.append(path)
    return written
