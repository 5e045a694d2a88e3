"""An artifact: the immutable outputs of one finished step, under its content key."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

from graph_engine.graph.outcome import Skip
from graph_engine.tuples import made


class ListShape(NamedTuple):
    """A list output: how many items, and which of them (by index) are a `Skip`."""

    length: int
    skipped: frozenset[int] = frozenset()


PortShape = ListShape | Skip | None
"""None: a plain value; a `Skip`: the whole port has nothing."""
Shape = tuple[PortShape, ...]

_ONE_PLAIN: Shape = (None,)


def shape_of(outputs: tuple[Any, ...], list_flags: tuple[bool, ...] = ()) -> Shape:
    """What a reader must know to be planned without the values: one entry per output port.

    list_flags: which ports are list outputs, from the node type; () means none of them.
    Raises ValueError when the flags are not one per output.
    """
    if not list_flags:
        if len(outputs) == 1 and type(outputs[0]) is not Skip:
            return _ONE_PLAIN
        return tuple([value if type(value) is Skip else None for value in outputs])
    return tuple(
        [
            value if type(value) is Skip else _list_shape(value) if flag else None
            for value, flag in zip(outputs, list_flags, strict=True)
        ]
    )


def _list_shape(items: Any) -> ListShape:
    return ListShape(len(items), frozenset([index for index, item in enumerate(items) if type(item) is Skip]))


class Artifact(NamedTuple):
    """outputs: one value per output port, in the order of the ports; a value may be a `Skip`, and a list output is a
    Python list whose items may be. Make one with `Artifact.of`.

    A NamedTuple because it is the cheapest immutable object there is, and a large run makes one per step.
    """

    key: str
    outputs: tuple[Any, ...]
    shape: Shape
    bytes: int
    """Estimated memory of the outputs, in bytes."""
    seconds: float
    """What it cost to compute; a cache keeps what is dear."""

    @classmethod
    def of(
        cls, key: str, outputs: tuple[Any, ...], list_flags: tuple[bool, ...] = (), *, seconds: float = 0.0
    ) -> Artifact:
        return made(cls, (key, outputs, shape_of(outputs, list_flags), size_of(outputs), seconds))

    # Equal key, equal value is a law of the house; and comparing tensors with == has no truth value.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Artifact) and self.key == other.key

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"Artifact({self.key!r}, {len(self.outputs)} outputs, {self.bytes} bytes, {self.seconds:.3g} s)"


# --- size -------------------------------------------------------------------------------------------------------

_FLAT = {type(None): 16, bool: 28, float: 24}
_SIZED = frozenset({int, str, bytes, bytearray})
_OPAQUE = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType)
_VISIT_LIMIT = 200_000
"""Objects looked at before the rest is taken for free: an estimate must not cost more than the step."""


def size_of(outputs: tuple[Any, ...]) -> int:
    """Estimated memory in bytes. Storage that several values of `outputs` share is counted once."""
    total = 0
    seen: set[int] | None = None
    storages: dict[int, int] | None = None
    for value in outputs:
        kind = type(value)
        flat = _FLAT.get(kind)
        if flat is not None:
            total += flat
        elif kind in _SIZED:
            total += value.__sizeof__()
        else:
            if seen is None or storages is None:
                seen, storages = set(), {}
            total += _deep_size(value, seen, storages)
    return total


def _deep_size(root: Any, seen: set[int], storages: dict[int, int]) -> int:
    """seen: ids of objects already counted; storages: bytes already charged per tensor storage."""
    total, stack = 0, [root]
    while stack and len(seen) < _VISIT_LIMIT:
        value = stack.pop()
        kind = type(value)
        flat = _FLAT.get(kind)
        if flat is not None:
            total += flat
            continue
        mark = id(value)
        if mark in seen:
            continue
        seen.add(mark)
        if kind in _SIZED:
            total += value.__sizeof__()
        elif hasattr(value, "element_size") and hasattr(value, "numel"):
            total += _tensor_size(value, storages)
        elif hasattr(value, "nbytes") and hasattr(value, "dtype"):
            total += _array_size(value, storages)
        elif isinstance(value, _OPAQUE):
            continue
        else:
            total += sys.getsizeof(value, 64)
            if isinstance(value, Mapping):
                stack.extend(value.keys())
                stack.extend(value.values())
            elif isinstance(value, list | tuple | set | frozenset):
                stack.extend(value)
            elif isinstance(fields := getattr(value, "__dict__", None), dict):
                stack.extend(fields.values())
    return total


def _charge(storages: dict[int, int], address: int, wanted: int, capacity: int) -> int:
    """Views of one storage pay for what they show, and together never for more than there is."""
    paid = storages.get(address, 0)
    added = max(0, min(wanted, capacity - paid))
    storages[address] = paid + added
    return added


def _tensor_size(tensor: Any, storages: dict[int, int]) -> int:
    wanted = int(tensor.numel()) * int(tensor.element_size())
    try:
        storage = tensor.untyped_storage()
        return _charge(storages, storage.data_ptr(), wanted, int(storage.nbytes()))
    except (RuntimeError, AttributeError):  # sparse and fake tensors have no storage (NotImplementedError included)
        return wanted


def _array_size(array: Any, storages: dict[int, int]) -> int:
    owner = array
    while hasattr(getattr(owner, "base", None), "nbytes"):
        owner = owner.base
    # Not the object's address: that may collide with a tensor's storage, so tell the two apart by sign.
    return _charge(storages, -id(owner), int(array.nbytes), int(owner.nbytes))
