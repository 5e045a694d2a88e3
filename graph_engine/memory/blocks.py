"""Blocks: the parts of a model that are copied as one. Small layers travel together, in the order of use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

LEAST_BYTES = 16 * 2**20
"""Smaller copies do not reach the full rate of a bus (a copy costs some 10 us however small it is)."""
TINY = 64
"""A layer smaller than a 64th of the least block (a norm, 256 KiB) stays: it costs a wait to stream and nothing to keep.
The blocks of a model smaller than 1 GiB are a 64th of it, so that its ring is small too."""

WHOLE = ("MultiheadAttention", "TransformerEncoderLayer")
"""Modules of torch that read the weights of their children without calling them: one layer with all that is in them."""
NEVER_CALLED = ("ParameterList", "ParameterDict")


class Block(NamedTuple):
    """layers: names of the modules whose tensors belong to it, in the order of use; pinned: it never leaves."""

    layers: tuple[str, ...]
    bytes: int
    pinned: bool = False


def layers_of(module: Any) -> list[str]:
    """Names of the modules that own tensors, as registered."""
    return [name for name, layer in _parts(module) if tensors_of(layer)]


def own_tensors(layer: Any) -> list[Any]:
    """Parameters and buffers of this module itself, without those of its children."""
    return [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]


def tensors_of(layer: Any) -> list[Any]:
    """What has to be there while the layer is called: its own tensors, of some modules also those of its children."""
    if _is_a(layer, WHOLE):
        return [*layer.parameters(), *layer.buffers()]
    return own_tensors(layer)


def pack(
    module: Any, layers: Iterable[str] | None = None, least_bytes: int | None = None, held: Iterable[str] = ()
) -> list[Block]:
    """The layers, in the order given (default: as registered), joined until a block has `least_bytes` (default: 16 MiB).

    What cannot come and go with the call of one layer makes a first block that is pinned: tensors of modules that have
    layers inside, or that nobody calls; tensors that two layers share; buffers that no file holds; tiny layers; and those
    named in `held`. Works on the meta device. Every tensor is in exactly one block.
    """
    modules = dict(module.named_modules())
    names = list(layers) if layers is not None else layers_of(module)
    if least_bytes is None:
        counted: set[int] = set()
        least_bytes = min(LEAST_BYTES, sum(_new_bytes(modules[name], counted) for name in names) // TINY)
    owners = Counter(
        id(tensor) for _, layer in _parts(module) for tensor in {id(t): t for t in tensors_of(layer)}.values()
    )
    pinned = {*held, *(name for name in names if _stays(modules[name], owners, least_bytes // TINY))}
    seen: set[int] = set()
    blocks: list[Block] = []
    first = [name for name in names if name in pinned]
    size = sum(_new_bytes(modules[name], seen) for name in first)
    if first:
        blocks.append(Block(tuple(first), size, True))
    joined: list[str] = []
    size = 0
    for name in names:
        if name not in pinned:
            size += _new_bytes(modules[name], seen)
            joined.append(name)
            if size >= least_bytes:
                blocks.append(Block(tuple(joined), size))
                joined, size = [], 0
    if joined:
        blocks.append(Block(tuple(joined), size))
    return blocks


def sizes(blocks: Sequence[Block]) -> tuple[int, ...]:
    return tuple(block.bytes for block in blocks)


def pinned(blocks: Sequence[Block]) -> int:
    """How many blocks at the beginning never leave."""
    return sum(block.pinned for block in blocks)


def _parts(module: Any) -> Iterable[tuple[str, Any]]:
    """Every module but those inside one that counts as a whole."""
    inside: set[int] = set()
    for name, layer in module.named_modules():
        if id(layer) not in inside:
            if _is_a(layer, WHOLE):
                inside.update(id(child) for child in layer.modules())
            yield name, layer


def _stays(layer: Any, owners: Counter[int], tiny: int) -> bool:
    tensors = tensors_of(layer)
    if sum(tensor.numel() * tensor.element_size() for tensor in tensors) < tiny or _is_a(layer, NEVER_CALLED):
        return True
    if any(owners[id(tensor)] > 1 for tensor in tensors):
        return True
    if _is_a(layer, WHOLE):
        return any(child._non_persistent_buffers_set for child in layer.modules())
    inner = any(own_tensors(child) for child in layer.modules() if child is not layer)
    return inner or bool(layer._non_persistent_buffers_set)


def _new_bytes(layer: Any, seen: set[int]) -> int:
    """Bytes of its tensors that were not counted yet."""
    size = 0
    for tensor in tensors_of(layer):
        if id(tensor) not in seen:
            seen.add(id(tensor))
            size += tensor.numel() * tensor.element_size()
    return size


def _is_a(layer: Any, names: tuple[str, ...]) -> bool:
    return any(base.__name__ in names for base in type(layer).__mro__)
