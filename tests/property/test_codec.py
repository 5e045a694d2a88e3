"""Whatever can be written comes back; whatever bytes arrive, the answer is a value or a StoreError."""

from __future__ import annotations

import msgpack
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graph_engine.errors import StoreError
from graph_engine.graph.outcome import UNSET, Skip
from graph_engine.store import frame
from graph_engine.store.artifacts import Artifact, size_of
from graph_engine.store.codec import decode, decode_artifact, encode, encode_artifact

TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=20)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**200), 2**200)
    | st.floats(allow_nan=False)
    | TEXT
    | st.binary(max_size=3000)
    | st.builds(Skip, TEXT)
    | st.just(UNSET)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=5) | st.lists(inner, max_size=5).map(tuple) | st.dictionaries(TEXT, inner, max_size=5)
    ),
    max_leaves=25,
)
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool, torch.complex64]


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    tensor = torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 99))))
    tensor = tensor.to(draw(st.sampled_from(DTYPES)))
    if shape and draw(st.booleans()):
        tensor = tensor.permute(*draw(st.permutations(range(len(shape)))))
    if shape and draw(st.booleans()):
        tensor = tensor[:: draw(st.integers(1, 3))]
    return tensor


def outcome(data: bytes) -> str:
    """The code of the StoreError, or "" for a value; anything else is raised and fails the test."""
    try:
        decode(data)
    except StoreError as error:
        return error.problem.code
    return ""


@given(VALUES)
@settings(max_examples=300, deadline=None)
def test_values_come_back(value: object) -> None:
    result = decode(encode(value))
    assert result == value
    assert repr(result) == repr(value)  # types too: a list is not a tuple, True is not 1


@given(st.lists(tensors(), max_size=4), VALUES)
@settings(max_examples=150, deadline=None)
def test_tensors_come_back(items: list[torch.Tensor], beside: object) -> None:
    outputs = (items, beside)
    result = decode_artifact(encode_artifact(Artifact.of("k", outputs, (True, False), seconds=1.0)))
    assert result.outputs[1] == beside
    assert result.shape[0].length == len(items)
    for tensor, copy in zip(items, result.outputs[0], strict=True):
        assert copy.dtype == tensor.dtype
        assert copy.shape == tensor.shape
        assert torch.equal(copy, tensor)


@given(VALUES)
@settings(max_examples=100, deadline=None)
def test_equal_values_have_equal_bytes(value: object) -> None:
    assert encode(value) == encode(decode(encode(value)))


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(StoreError):
        decode(data)


@given(st.binary(max_size=200), st.binary(max_size=200))
@settings(max_examples=500, deadline=None)
def test_any_tree_is_a_value_or_refused(tree: bytes, body: bytes) -> None:
    assert outcome(b"".join(frame.framed(b"", tree, [body]))) in ("", "value_damaged")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 2**40) | st.floats() | st.text(max_size=8) | st.binary(max_size=9)
    | st.sampled_from(["float32", "<f4", "<U4", "family", "config"]),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(st.lists(PLAIN, max_size=6), st.integers(0, 9), st.binary(max_size=64))
@settings(max_examples=200, deadline=None)
def test_any_tagged_tree_is_a_value_or_refused(rest: list[object], tag: int, body: bytes) -> None:
    assert outcome(b"".join(frame.framed(b"", msgpack.packb([tag, *rest]), [body]))) in ("", "value_damaged")


@given(VALUES, st.data())
@settings(max_examples=200, deadline=None)
def test_a_changed_byte_is_noticed(value: object, data: st.DataObject) -> None:
    whole = bytearray(encode(value))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(StoreError):
        decode(whole)


@given(st.lists(VALUES, max_size=4))
@settings(max_examples=100, deadline=None)
def test_every_value_has_a_size(values: list[object]) -> None:
    assert size_of(tuple(values)) >= 0
