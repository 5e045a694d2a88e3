"""Small models on disk, for tests of what is brought into memory when."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from graph_engine.models.catalog import Family
from graph_engine.models.spec import ModelSpec, WeightFile


class Timed(torch.nn.Module):
    """A layer of `size` bytes that only takes its time."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(size, dtype=torch.uint8), requires_grad=False)
        self.compute: Callable[[], None] = lambda: None

    def forward(self) -> None:
        assert self.weight.sum() == 0, "an absent weight cannot be summed"
        self.compute()


class Chain(torch.nn.Module):
    """Timed layers; `forward` calls them in the order given (default: as registered)."""

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(Timed(size) for size in sizes)

    def forward(self, order: Sequence[int] | None = None) -> None:
        for index in order if order is not None else range(len(self.layers)):
            self.layers[index]()


def saved(folder: Path, module: torch.nn.Module, name: str = "weights") -> WeightFile:
    path = folder / f"{name}.safetensors"
    save_file(module.state_dict(), path)
    return WeightFile.of(path)


def family_of(build: Callable[[], torch.nn.Module], name: str = "trial", **options: Any) -> Family:
    def make(config: Mapping[str, Any]) -> Any:
        return build()

    return Family(name, make, **options)


def spec_of(file: WeightFile, dtype: str = "float32", family: str = "trial") -> ModelSpec:
    return ModelSpec(family, {}, (file,), dtype)
