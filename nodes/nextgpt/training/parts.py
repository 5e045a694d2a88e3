"""The models of a preset while they are trained: made or read when first asked for, saved part by part.

Where a part's weights come from: the training folder, where an earlier stage left them; else the preset's own files;
else, for a preset that is trained from nothing (`mini`, `tiny`), random ones that follow from the seed. `anew` goes past
the own files of such a preset, so that its recipe gives the same whether its weights are there already or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from graph_engine.errors import ModelError
from graph_engine.models.load import materialise
from nodes.nextgpt.checkpoint import find_preset, specs_of
from nodes.nextgpt.families import FAMILIES
from nodes.nextgpt.locate import locate
from nodes.nextgpt.training.finished import aside_path, settle, weights_path
from nodes.nextgpt.training.seeds import seed_of
from nodes.nextgpt.training.snapshot import write

_FAMILIES = {family.name: family for family in FAMILIES}


class Parts:
    """Modules by the names that the preset gives its parts; parameters are float32, frozen until a stage frees them."""

    def __init__(
        self, preset: str, folder: Path, models_dir: Path, device: str = "cpu", seed: int = 13, anew: bool = False
    ) -> None:
        self.preset = find_preset(preset)
        self.folder = folder
        self.models_dir = models_dir
        self.device = device
        self.seed = seed
        self.anew = anew
        self.untaught: set[str] = set()
        """Parts with random weights, since no stage before left any in the folder."""
        self._open: dict[str, Any] = {}
        settle(folder)

    def __contains__(self, part: str) -> bool:
        return part in self.preset.parts

    def extras(self, part: str) -> Mapping[str, Any]:
        return self.preset.parts[part].extras

    def path(self, part: str) -> Path:
        return weights_path(self.folder, part)

    def get(self, part: str) -> Any:
        """The module of a part, in eval mode. Raises ModelError for a part that the preset lacks or that does not fit."""
        if part not in self._open:
            self._known(part)
            self.put(part, self._made(part).float().to(self.device).eval().requires_grad_(False))
        return self._open[part]

    def renew(self, part: str) -> None:
        """Random weights in place of those that are there. Raises ModelError for a part that the preset lacks."""
        self._known(part)
        self.put(part, self._random(part).float().to(self.device).eval().requires_grad_(False))

    def _known(self, part: str) -> None:
        if part not in self:
            raise ModelError(
                f"the preset {self.preset.name!r} has no {part.replace('_', ' ')}.",
                remedy=f"It has {', '.join(self.preset.parts)}.",
                code="no_part",
            )

    def put(self, part: str, module: nn.Module) -> None:
        self._open[part] = module

    def forget(self, part: str) -> None:
        """The next `get` reads it from the training folder."""
        self._open.pop(part, None)

    def save(self, parts: Iterable[str], facts: Mapping[str, str]) -> list[Path]:
        """Writes the weights of these parts into the training folder. Raises StoreError."""
        return self._write({part: self.path(part) for part in parts}, facts)

    def put_aside(self, parts: Iterable[str], stage: str, facts: Mapping[str, str]) -> list[Path]:
        """Writes the weights of these parts beside those that are there, until `settle` finds the stage done.

        Returns where they will lie. Raises StoreError; then, and before the stage is done, nothing has changed.
        """
        chosen = list(parts)
        self._write({part: aside_path(self.folder, part, stage) for part in chosen}, facts)
        return [self.path(part) for part in chosen]

    def _write(self, paths: Mapping[str, Path], facts: Mapping[str, str]) -> list[Path]:
        for part, path in paths.items():
            state = {key: tensor.detach().contiguous().cpu() for key, tensor in self.get(part).state_dict().items()}
            write(path, state, facts)
        return list(paths.values())

    def _made(self, part: str) -> Any:
        entry = self.preset.parts[part]
        family, config = _FAMILIES[entry.family], dict(entry.config())
        self.untaught.discard(part)
        if self.path(part).is_file():
            return _filled(family.build(config), self.path(part))
        there = locate(self.preset, part, self.models_dir)
        if there.present and not self.preset.made and not (self.anew and self.preset.trained):
            return materialise(specs_of(self.preset.name, [part], self.models_dir)[0], family, self.device)
        if not self.preset.made and not self.preset.trained:
            specs_of(self.preset.name, [part], self.models_dir)  # raises, and says what is missing
        self.untaught.add(part)
        return self._random(part)

    def _random(self, part: str) -> Any:
        entry = self.preset.parts[part]
        family, config = _FAMILIES[entry.family], dict(entry.config())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(self.seed, self.preset.name, part))
            return family.build(config)


def _filled(module: Any, path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        module.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError, OSError) as error:
        raise ModelError(
            f"{path} does not fit the preset: {str(error).splitlines()[0]}",
            remedy="It was trained with other sizes; use another folder.",
            code="model_mismatch",
        ) from error
    return module
