"""Values as bytes: a msgpack header that is a tree of plain data, then raw tensor bytes at multiples of 64.

In the tree None, bool, int, float, str, bytes and dict are msgpack's own; every array begins with a tag that says what
it is. Nothing is ever pickled, and no size in the file is believed before it was compared with what is there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgpack

from graph_engine.errors import AnyloomError, StoreError
from graph_engine.graph.outcome import UNSET, Skip, Unset
from graph_engine.models.spec import ModelSpec
from graph_engine.store.artifacts import Artifact, ListShape, Shape
from graph_engine.store.frame import ALIGN_BYTES, Buffer, damaged, framed, read_note, read_prefix, unframed
from graph_engine.store.tensors import array_bytes, array_from, scalar_from, tensor_bytes, tensor_from

DEPTH_LIMIT = 200
_LIST, _TUPLE, _INT, _SKIP, _UNSET, _BYTES, _TENSOR, _ARRAY, _SCALAR, _MODEL = range(10)
_RAW_FROM_BYTES = 1024
"""`bytes` of at least this length go to the body, which is not copied into the tree."""


class _Writer:
    """Builds the tree of a value and collects the pieces of the body."""

    def __init__(self) -> None:
        self.pieces: list[Buffer] = []
        self.size = 0

    def place(self, data: Buffer) -> tuple[int, int]:
        """Where `data` lies in the body: offset and length."""
        if padding := -self.size % ALIGN_BYTES:
            self.pieces.append(bytes(padding))
            self.size += padding
        offset, length = self.size, len(data)
        self.pieces.append(data)
        self.size += length
        return offset, length

    def tree(self, value: Any, path: str, depth: int = 0) -> Any:
        kind = type(value)
        if value is None or kind in (bool, float, str):
            return value
        if kind is int:
            if -(2**63) <= value < 2**64:
                return value
            return [_INT, value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)]
        if depth >= DEPTH_LIMIT:
            raise _unfit(path, f"is nested more than {DEPTH_LIMIT} deep")
        if kind is list or kind is tuple:
            items = [self.tree(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
            return [_LIST if kind is list else _TUPLE, *items]
        if kind is dict:
            for name in value:
                if type(name) is not str:
                    raise _unfit(path, f"has the key {name!r} of type {type(name).__name__}; keys must be text")
            return {name: self.tree(item, f"{path}[{name!r}]", depth + 1) for name, item in value.items()}
        if kind is bytes:
            return value if len(value) < _RAW_FROM_BYTES else [_BYTES, *self.place(value)]
        if kind is Skip:
            return [_SKIP, value.message]
        if kind is Unset:
            return [_UNSET]
        if kind is ModelSpec:
            return [_MODEL, self.tree(value.to_dict(), f"{path}.to_dict()", depth + 1)]
        return self._array(value, path)

    def _array(self, value: Any, path: str) -> Any:
        module, kind = type(value).__module__, type(value)
        try:
            if module == "torch" and kind.__name__ == "Tensor":
                dtype, shape, data = tensor_bytes(value)
                return [_TENSOR, dtype, list(shape), *self.place(data)]
            if module == "numpy" and (kind.__name__ == "ndarray" or hasattr(value, "dtype")):
                dtype, shape, data = array_bytes(value)
                return [_ARRAY if kind.__name__ == "ndarray" else _SCALAR, dtype, list(shape), *self.place(data)]
        except (ValueError, TypeError, RuntimeError) as error:
            raise _unfit(path, f"cannot be written: {error}") from error
        raise _unfit(path, f"is a {module}.{kind.__qualname__}, which has no form on disk")


def _unfit(path: str, why: str) -> StoreError:
    return StoreError(
        f"{path} {why}.",
        remedy="Use plain values, lists, tuples, dicts with text keys, tensors, arrays or model specs.",
        code="value_unstorable",
    )


def encode_pieces(value: Any, note: bytes = b"", *, path: str = "value") -> list[Buffer]:
    """What `encode` returns, in pieces to be written one after the other; tensors on the CPU are not copied.

    path: how the value is called in errors. Raises StoreError for a value that has no form on disk.
    """
    tree, pieces = flatten(value, path=path)
    try:
        return framed(note, tree, pieces)
    except ValueError as error:
        raise _unfit(path, f"cannot be written: {error}") from error


def flatten(value: Any, *, path: str = "value") -> tuple[bytes, list[Buffer]]:
    """The tree, and the pieces of the body, without an envelope: for a value that only goes to another process.

    Raises StoreError as `encode_pieces` does.
    """
    writer = _Writer()
    try:
        tree = msgpack.packb(writer.tree(value, path), use_bin_type=True, unicode_errors="surrogatepass")
        return tree, writer.pieces
    except (ValueError, OverflowError, TypeError, RecursionError) as error:
        raise _unfit(path, f"cannot be written: {error}") from error


def encode(value: Any) -> bytes:
    """Raises StoreError for a value that has no form on disk, with its type and its path inside the value."""
    return b"".join(encode_pieces(value))


def decode(buffer: Buffer, *, limit_bytes: int | None = None) -> Any:
    """The value. Tensors (on the CPU) and arrays share the memory of a writable buffer; a read-only one is copied once.

    limit_bytes: refuse larger buffers. Raises StoreError for anything that `encode` did not write.
    """
    if limit_bytes is not None and len(buffer) > limit_bytes:
        raise damaged(f"it has {len(buffer)} bytes, the limit is {limit_bytes}")
    return restore(*unframed(memoryview(buffer).cast("B")))


def restore(packed: Buffer, body: memoryview) -> Any:
    """The value of what `flatten` gave. Raises StoreError for anything else."""
    try:
        tree = msgpack.unpackb(packed, raw=False, strict_map_key=True, unicode_errors="surrogatepass")
        if body.readonly and len(body):
            body = memoryview(bytearray(body))
        return _value(tree, body, 0)
    except AnyloomError:
        raise
    except Exception as error:  # a hostile file may fail anywhere; whatever it hits is damage
        raise damaged(f"its content makes no sense: {error}") from error


def _value(tree: Any, body: memoryview, depth: int) -> Any:
    kind = type(tree)
    if kind is list:
        if depth > DEPTH_LIMIT + 2:
            raise damaged("it is nested too deep")
        tag = tree[0]
        if type(tag) is not int or not 0 <= tag < len(_READERS):
            raise damaged(f"it has the unknown tag {tag!r}")
        return _READERS[tag](tree, body, depth + 1)
    if kind is dict:
        if depth > DEPTH_LIMIT + 2:
            raise damaged("it is nested too deep")
        if not all(type(name) is str for name in tree):
            raise damaged("it has keys that are not text")
        return {name: _value(item, body, depth + 1) for name, item in tree.items()}
    if tree is None or kind in (bool, int, float, str, bytes):
        return tree
    raise damaged(f"it holds a {kind.__name__}")


def _region(body: memoryview, offset: Any, length: Any) -> memoryview:
    if type(offset) is not int or type(length) is not int or offset < 0 or length < 0 or offset + length > len(body):
        raise damaged("it points outside of itself")
    return body[offset : offset + length]


def _read_model(tree: list[Any], body: memoryview, depth: int) -> ModelSpec:
    entry = _value(tree[1], body, depth)
    spec = ModelSpec.from_dict(entry)
    if not isinstance(spec.family, str) or not isinstance(spec.config, dict) or not isinstance(spec.extras, dict):
        raise damaged("it holds a model spec that is none")
    return spec


def _read_skip(tree: list[Any], body: memoryview, depth: int) -> Skip:
    if type(tree[1]) is not str:
        raise damaged("it holds a skip without a message")
    return Skip(tree[1])


_READERS: tuple[Callable[[list[Any], memoryview, int], Any], ...] = (
    lambda tree, body, depth: [_value(item, body, depth) for item in tree[1:]],
    lambda tree, body, depth: tuple([_value(item, body, depth) for item in tree[1:]]),
    lambda tree, body, depth: int.from_bytes(tree[1], "little", signed=True),
    _read_skip,
    lambda tree, body, depth: UNSET,
    lambda tree, body, depth: bytes(_region(body, tree[1], tree[2])),
    lambda tree, body, depth: tensor_from(tree[1], tree[2], _region(body, tree[3], tree[4])),
    lambda tree, body, depth: array_from(tree[1], tree[2], _region(body, tree[3], tree[4])),
    lambda tree, body, depth: scalar_from(tree[1], tree[2], _region(body, tree[3], tree[4])),
    _read_model,
)


# --- artifacts --------------------------------------------------------------------------------------------------


class Note(NamedTuple):
    """What is known of a stored artifact without reading its outputs."""

    key: str
    shape: Shape
    bytes: int
    seconds: float


def encode_artifact_pieces(artifact: Artifact) -> list[Buffer]:
    shape = [
        port.message if isinstance(port, Skip) else [port.length, sorted(port.skipped)] if port is not None else None
        for port in artifact.shape
    ]
    note = msgpack.packb([artifact.key, shape, artifact.bytes, float(artifact.seconds)], unicode_errors="surrogatepass")
    return encode_pieces(artifact.outputs, note, path="outputs")


def encode_artifact(artifact: Artifact) -> bytes:
    """Raises StoreError for outputs that have no form on disk, naming the place: `outputs[0]['x']`."""
    return b"".join(encode_artifact_pieces(artifact))


def decode_note(note: bytes) -> Note:
    """Raises StoreError unless it is the note of an artifact."""
    try:
        key, ports, size, seconds = msgpack.unpackb(note, raw=False, unicode_errors="surrogatepass")
        shape = tuple([_port_shape(port) for port in ports])
        if type(key) is not str or type(size) is not int or size < 0 or type(seconds) is not float:
            raise ValueError("wrong fields")
        return Note(key, shape, size, seconds)
    except Exception as error:  # a hostile note may fail anywhere
        raise damaged(f"its note makes no sense: {error}") from error


def _port_shape(port: Any) -> ListShape | Skip | None:
    if port is None:
        return None
    if type(port) is str:
        return Skip(port)
    length, skipped = port
    if type(length) is not int or not all(type(index) is int and 0 <= index < length for index in skipped):
        raise ValueError("wrong list shape")
    return ListShape(length, frozenset(skipped))


def decode_artifact(buffer: Buffer, *, limit_bytes: int | None = None) -> Artifact:
    """Raises StoreError for anything that `encode_artifact` did not write."""
    outputs = decode(buffer, limit_bytes=limit_bytes)
    note = decode_note(read_note(buffer, read_prefix(buffer)))
    if type(outputs) is not tuple or len(outputs) != len(note.shape):
        raise damaged("its outputs and its note disagree")
    return Artifact(note.key, outputs, note.shape, note.bytes, note.seconds)
