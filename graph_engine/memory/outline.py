"""The outline of a model: a module without weights, and where each of its tensors lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from graph_engine.errors import ModelError
from graph_engine.memory.absent import Absent, put
from graph_engine.memory.blocks import Block, layers_of, pack, pinned, sizes, tensors_of
from graph_engine.memory.streaming import DEPTH, least_room
from graph_engine.models.catalog import Family
from graph_engine.models.sources import Source, find_sources
from graph_engine.models.spec import ModelSpec


class Outline:
    """What a model takes is known before anything of it is read. All its weights are `Absent`, in the dtype of the spec.

    order: names of layers in the order of use, as far as that is known from an earlier life of the model.
    Raises ModelError as `materialise` does.
    """

    def __init__(
        self, spec: ModelSpec, family: Family, device: str, order: Sequence[str] = (), least_bytes: int | None = None
    ) -> None:
        self.key, self.name, self.device, self._least_bytes = spec.key, spec.family, torch.device(device), least_bytes
        self.module, sources = find_sources(spec, family)
        if family.layout is not None and self.device.type != "cpu":
            laid = family.layout(self.module)
            sources = {key: replace(source, strides=laid.get(key)) for key, source in sources.items()}
        _empty(self.module, sources, self.device)
        if family.finish is not None:
            family.finish(self.module)
        _settle(self.module, self.name, self.device)
        self.module.eval()
        # On the host a tensor that was computed lies in host memory anyhow.
        self._pinned = [
            name for name in layers_of(self.module) if self.device.type == "cpu" and self._is_computed(name)
        ]
        self._order = list(order)
        self.blocks = self.pack(order)
        self._pinned = [name for block in self.blocks if block.pinned for name in block.layers]

    def reorder(self, order: Sequence[str]) -> None:
        """Another order of layers is known by now."""
        if list(order) != self._order:
            self._order = list(order)
            self.blocks = self.pack(order)

    def pack(self, order: Sequence[str]) -> list[Block]:
        """The blocks, when layers are called in this order; layers that it does not name follow as registered."""
        layers = layers_of(self.module)
        known = frozenset(layers)
        first = [name for name in dict.fromkeys(order) if name in known]
        named = frozenset(first)
        order = [*first, *(name for name in layers if name not in named)]
        return pack(self.module, order, self._least_bytes, self._pinned)

    def _is_computed(self, name: str) -> bool:
        tensors = tensors_of(self.module.get_submodule(name))
        return any(isinstance(tensor, Absent) and tensor.source.value is not None for tensor in tensors)

    @property
    def computed_bytes(self) -> int:
        """Of weights that no file holds: they lie in the host's memory as long as this does."""
        tensors = {id(tensor): tensor for tensor in (*self.module.parameters(), *self.module.buffers())}.values()
        return sum(
            tensor.source.bytes for tensor in tensors if isinstance(tensor, Absent) and tensor.source.value is not None
        )

    @property
    def bytes(self) -> int:
        return sum(sizes(self.blocks))

    @property
    def least_room(self) -> int:
        """Bytes; in less it cannot work."""
        return least_room(sizes(self.blocks), DEPTH, pinned(self.blocks))


def _empty(module: Any, sources: Mapping[str, Source], device: torch.device) -> None:
    """Every tensor that a file holds becomes absent; one that has two names, under both."""
    absent: dict[int, Absent] = {}
    for prefix, owner in module.named_modules(remove_duplicate=False):
        for entries in (owner._parameters, owner._buffers):
            for name, tensor in list(entries.items()):
                source = sources.get(f"{prefix}.{name}" if prefix else name)
                if tensor is None or source is None or isinstance(tensor, Absent):
                    continue
                if id(tensor) not in absent:
                    absent[id(tensor)] = Absent(source, device, entries is owner._parameters)
                    absent[id(tensor)].stood_for = tensor  # type: ignore[attr-defined]  # so that its id is not given anew
                put(owner, name, absent[id(tensor)])
    for entry in absent.values():
        del entry.stood_for  # type: ignore[attr-defined]


def _settle(module: Any, name: str, device: torch.device) -> None:
    """What `finish` made goes to the device. Raises ModelError when something was left on meta."""
    left = []
    for prefix, owner in module.named_modules():
        for entries in (owner._parameters, owner._buffers):
            for key, tensor in list(entries.items()):
                if tensor is None or isinstance(tensor, Absent):
                    continue
                if tensor.is_meta:
                    left.append(f"{prefix}.{key}" if prefix else key)
                else:
                    moved = tensor.detach().to(device)
                    is_parameter = entries is owner._parameters
                    put(owner, key, torch.nn.Parameter(moved, requires_grad=False) if is_parameter else moved)
    if left:
        raise ModelError(
            f"{name}: nothing fills {', '.join(left[:5])}{', ...' if len(left) > 5 else ''}.",
            remedy="The family's `finish` must make the buffers that no file holds.",
            code="model_incomplete",
        )
