"""Blocks: the parts of a model that are copied as one. Small layers travel together, in the order of use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

LEAST_BYTES = 16 * 2**20
"""Smaller copies do not reach the full rate of a bus (a copy costs some 10 us however small it is)."""


class Block(NamedTuple):
    """layers: names of the modules whose own tensors belong to it, in the order of use."""

    layers: tuple[str, ...]
    bytes: int


def layers_of(module: Any) -> list[str]:
    """Names of the modules that own tensors, as registered. One tensor under two names belongs to the first."""
    seen: set[int] = set()
    names = []
    for name, layer in module.named_modules():
        own = [tensor for tensor in own_tensors(layer) if id(tensor) not in seen]
        seen.update(id(tensor) for tensor in own)
        if own:
            names.append(name)
    return names


def own_tensors(layer: Any) -> list[Any]:
    """Parameters and buffers of this module itself, without those of its children."""
    return [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]


def pack(module: Any, layers: Iterable[str] | None = None, least_bytes: int = LEAST_BYTES) -> list[Block]:
    """The layers, in the order given (default: as registered), joined until a block has `least_bytes`.

    Works on the meta device. Every tensor is in exactly one block.
    """
    modules = dict(module.named_modules())
    seen: set[int] = set()
    blocks: list[Block] = []
    names: list[str] = []
    size = 0
    for name in layers if layers is not None else layers_of(module):
        for tensor in own_tensors(modules[name]):
            if id(tensor) not in seen:
                seen.add(id(tensor))
                size += tensor.numel() * tensor.element_size()
        names.append(name)
        if size >= least_bytes:
            blocks.append(Block(tuple(names), size))
            names, size = [], 0
    if names:
        blocks.append(Block(tuple(names), size))
    return blocks


def sizes(blocks: Sequence[Block]) -> tuple[int, ...]:
    return tuple(block.bytes for block in blocks)
