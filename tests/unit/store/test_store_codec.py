from __future__ import annotations

import math
import struct
import subprocess
import sys
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import msgpack
import numpy
import pytest
import torch

from graph_engine.errors import StoreError
from graph_engine.graph.outcome import UNSET, Skip
from graph_engine.models.spec import ModelSpec, WeightFile
from graph_engine.store import frame
from graph_engine.store.artifacts import Artifact, ListShape
from graph_engine.store.codec import decode, decode_artifact, encode, encode_artifact
from graph_engine.store.tensors import TENSOR_DTYPES


def again(value: Any) -> Any:
    return decode(encode(value))


def hostile(tree: Any, body: bytes = b"") -> bytes:
    """A file whose checksums are right and whose tree is whatever we like."""
    packed = msgpack.packb(tree)
    return b"".join(frame.framed(b"", packed, [body]))


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        0,
        -1,
        2**63 - 1,
        -(2**63),
        2**64 - 1,
        2**64,
        -(2**63) - 1,
        10**400,
        -(10**400),
        1.5,
        -0.0,
        math.inf,
        "",
        "text",
        "� lone",
        "\x00",
        b"",
        b"\x00" * 10,
        b"x" * 100000,
        [],
        (),
        {},
        [1, (2, [3])],
        {"": {"a": []}},
        Skip(),
        Skip("why"),
        UNSET,
        [Skip("a"), UNSET],
        ([1], (1,)),
    ],
)
def test_plain_values_come_back_with_their_types(value: Any) -> None:
    result = again(value)
    assert result == value
    assert type(result) is type(value)
    assert repr(result) == repr(value)  # tells list from tuple and Skip from tuple at every depth


def test_nan_and_bool_keep_their_nature() -> None:
    assert math.isnan(again(math.nan))
    assert [type(item) for item in again([True, 1, 1.0])] == [bool, int, float]


@pytest.mark.parametrize("name", sorted(TENSOR_DTYPES))
def test_every_dtype_comes_back_bit_for_bit(name: str) -> None:
    dtype = getattr(torch, name)
    tensor = (
        torch.arange(24, dtype=torch.uint8).to(torch.bool).view(torch.uint8)
    )  # bytes 0 and 1 are valid in every dtype
    tensor = tensor.repeat(dtype.itemsize).view(dtype).reshape(2, 3, 4)
    result = again(tensor)
    assert result.dtype == dtype
    assert result.shape == (2, 3, 4)
    assert torch.equal(result.view(torch.uint8), tensor.view(torch.uint8))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor(3.5),
        torch.empty(0),
        torch.empty(2, 0, 3, dtype=torch.int16),
        torch.arange(12.0).reshape(3, 4).t(),
        torch.arange(12.0)[::3],
        torch.arange(3.0)[1::2],
        torch.zeros(1).expand(5, 5),
        torch.arange(6.0).reshape(1, 2, 3).to(memory_format=torch.contiguous_format).permute(2, 0, 1),
        torch.tensor([1 + 2j]).conj(),
        torch.ones(2, requires_grad=True),
    ],
)
def test_odd_tensors_come_back(tensor: torch.Tensor) -> None:
    result = again({"x": [tensor]})["x"][0]
    assert result.shape == tensor.shape
    assert result.dtype == tensor.dtype
    assert torch.equal(result, tensor.detach())
    assert not result.requires_grad
    assert result.is_contiguous()


def test_tensors_lie_at_multiples_of_64_bytes() -> None:
    data = encode([torch.full((3,), 7, dtype=torch.uint8), torch.full((5,), 9, dtype=torch.uint8)])
    assert data.index(b"\x07\x07\x07") % 64 == 0
    assert data.index(b"\x09" * 5) % 64 == 0


def test_a_writable_buffer_is_shared_and_a_readonly_one_is_not() -> None:
    data = bytearray(encode(torch.ones(4)))
    tensor = decode(data)
    data[-4:] = struct.pack("<f", 5.0)
    assert tensor[-1] == 5.0
    frozen = encode(torch.ones(4))
    decode(frozen).zero_()
    assert decode(frozen).sum() == 4


@pytest.mark.parametrize("dtype", ["?", "i1", "<u2", ">i4", "<f2", "<f8", "<c16", "<U3", "S5", "<M8[ns]", "<m8[s]"])
def test_arrays_come_back(dtype: str) -> None:
    array = numpy.zeros((2, 3), dtype=dtype)
    array[0, 1] = 1
    result = again(array.T)
    assert result.dtype == array.dtype
    assert numpy.array_equal(result, array.T)
    assert result.flags.writeable


def test_arrays_of_one_element_come_back_whatever_their_strides() -> None:
    assert again(numpy.arange(3.0)[1::2]).tolist() == [1.0]
    assert again(numpy.arange(4.0).reshape(2, 2)[1:, ::2]).tolist() == [[2.0]]


def test_numpy_scalars_keep_their_type() -> None:
    assert again(numpy.float64(0.5)) == 0.5
    assert type(again(numpy.float64(0.5))) is numpy.float64
    assert type(again(numpy.array(2.0))) is numpy.ndarray


def test_model_specs_keep_their_key() -> None:
    spec = ModelSpec("decoder", {"width": 8}, (WeightFile("/a", 5, "s"),), "bfloat16", {"preset": "x"})
    result = again([spec])[0]
    assert result == spec
    assert result.key == spec.key


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"x": [1, {"y": object()}]}, r"value\['x'\]\[1\]\['y'\] is a builtins.object"),
        ((1, {2, 3}), r"value\[1\] is a builtins.set"),
        ({"a": {1: 2}}, r"value\['a'\] has the key 1 of type int"),
        (OrderedDict(a=1), "value is a collections.OrderedDict"),
        ([torch.eye(2).to_sparse()], r"value\[0\] cannot be written"),
        ([torch.empty(2, device="meta")], r"value\[0\] cannot be written"),
        ([torch.nn.Linear(1, 1)], r"value\[0\] is a torch.nn.modules.linear.Linear"),
        ([numpy.array([object()])], r"value\[0\] cannot be written"),
        ([numpy.zeros(1, dtype=[("a", "i4")])], r"value\[0\] cannot be written"),
    ],
)
def test_what_cannot_be_stored_is_named_with_its_place(value: Any, place: str) -> None:
    with pytest.raises(StoreError, match=place) as caught:
        encode(value)
    assert caught.value.problem.code == "value_unstorable"
    assert caught.value.problem.remedy


def test_outputs_are_named_as_outputs() -> None:
    with pytest.raises(StoreError, match=r"outputs\[0\]\['x'\]"):
        encode_artifact(Artifact.of("k", ({"x": object()},)))


def test_endless_nesting_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(StoreError, match="nested"):
        encode(loop)


def test_deep_but_legal_nesting_comes_back() -> None:
    value: Any = 1
    for _ in range(199):
        value = [value]
    assert again(value) == value


# --- damage and malice ------------------------------------------------------------------------------------------


def test_every_flipped_bit_and_every_cut_is_noticed() -> None:
    data = encode({"t": torch.arange(40), "s": "text", "b": b"y" * 2000})
    for place in range(len(data)):
        broken = bytearray(data)
        broken[place] ^= 1 << (place % 8)
        with pytest.raises(StoreError):
            decode(broken)
    for length in range(0, len(data), 7):
        with pytest.raises(StoreError):
            decode(data[:length])
    with pytest.raises(StoreError):
        decode(data + b"\0")


@pytest.mark.parametrize(
    "tree",
    [
        [],
        [99],
        ["x"],
        [True, 1],
        [-1],
        [2],
        [2, "no bytes"],
        [3],
        [3, 5],
        [5, 0, 2**40],
        [5, -8, 8],
        [5, 0.0, 1],
        [6, "float32", [2**40], 0, 2**42],
        [6, "float32", [4], 0, 64],
        [6, "float32", [-4], 0, 16],
        [6, "float32", [0, 2**62, 2**62], 0, 0],
        [6, "float32", [0] * 1000, 0, 0],
        [6, "float32", [1.0], 0, 4],
        [6, "load", [1], 0, 4],
        [6, "__class__", [1], 0, 4],
        [6, 5, [1], 0, 4],
        [7, "O", [1], 0, 8],
        [7, "|O8", [1], 0, 8],
        [7, "<f4,<f4", [1], 0, 8],
        [7, "<U999999999", [2**30], 0, 0],
        [7, "<f3", [1], 0, 3],
        [8, "<f4", [4], 0, 16],
        [9, {}],
        [9, {"family": 1, "config": {}, "files": [0], "dtype": "x", "extras": {}}],
        [9, [0, 1]],
        msgpack.ExtType(5, b"abc"),
        msgpack.Timestamp(1),
        {b"bytes key": 1},
        {1: 2},
    ],
)
def test_lying_trees_are_damage(tree: Any) -> None:
    with pytest.raises(StoreError) as caught:
        decode(hostile(tree, bytes(64)))
    assert caught.value.problem.code == "value_damaged"


def test_msgpack_that_lies_about_lengths_is_damage() -> None:
    for packed in (
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xffx",
        b"",
    ):
        with pytest.raises(StoreError):
            decode(b"".join(frame.framed(b"", packed, [])))


def test_deep_hostile_nesting_is_damage() -> None:
    for depth in (300, 900, 100_000):
        packed = b"\x92\x00" * depth + b"\xc0"
        with pytest.raises(StoreError):
            decode(b"".join(frame.framed(b"", packed, [])))
        with pytest.raises(StoreError):
            decode(b"".join(frame.framed(b"", b"\x81\xa1a" * depth + b"\xc0", [])))


def test_sizes_in_the_prefix_are_not_believed() -> None:
    data = bytearray(encode("x"))
    struct.pack_into("<Q", data, 24, 2**60)
    struct.pack_into("<I", data, 36, zlib.crc32(data[:36]))
    with pytest.raises(StoreError, match="should have"):
        decode(data)
    struct.pack_into("<Q", data, 16, 2**40)
    struct.pack_into("<I", data, 36, zlib.crc32(data[:36]))
    with pytest.raises(StoreError, match="larger"):
        decode(data)


def test_limit_and_version() -> None:
    data = bytearray(encode("x" * 1000))
    with pytest.raises(StoreError, match="limit is 100"):
        decode(data, limit_bytes=100)
    data[7] = 2
    with pytest.raises(StoreError, match="format version 2"):
        decode(data)


def test_a_pickle_is_no_value() -> None:
    import pickle

    with pytest.raises(StoreError):
        decode(pickle.dumps([1, 2]))


def test_artifacts_come_back_whole() -> None:
    outputs = (torch.ones(3), [1, Skip("a"), 2], Skip("none"))
    artifact = Artifact.of("ab/c#0", outputs, (False, True, False), seconds=2.5)
    result = decode_artifact(encode_artifact(artifact))
    assert (result.key, result.shape, result.bytes, result.seconds) == artifact[:1] + artifact[2:]
    assert result.shape[1] == ListShape(3, frozenset({1}))
    assert torch.equal(result.outputs[0], outputs[0])
    assert result.outputs[1:] == outputs[1:]


def test_a_plain_value_is_no_artifact() -> None:
    with pytest.raises(StoreError):
        decode_artifact(encode((1,)))


def test_the_store_imports_no_heavy_library() -> None:
    code = (
        "import sys, graph_engine.store.codec as c, graph_engine.store.queue, graph_engine.store.disk_store,"
        " graph_engine.store.memory_store; c.decode(c.encode([1, 'x', {'a': b'y' * 5000}]));"
        " print({'torch', 'numpy', 'networkx', 'aiohttp'} & set(sys.modules))"
    )
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True).stdout == "set()\n"
