"""The two encodings: what goes in comes out, equally; what is no message is refused, cheaply."""

from __future__ import annotations

import base64
import contextlib
import json
import math
import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph_engine.errors import DocumentError
from graph_engine.execute.events import Event
from web.frames import CODECS, JSON, MAX_DEPTH, MSGPACK, Codec, check
from web.watching import PIECE_BYTES, pieces

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
PLAIN = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5), max_leaves=30
)
BOTH = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)


@given(PLAIN)
@settings(max_examples=200, deadline=None)
def test_plain_data_comes_back_equal_in_both(value: Any) -> None:
    if any(0xD800 <= ord(char) <= 0xDFFF for char in repr(value)):
        return
    assert JSON.decode(JSON.encode(value)) == MSGPACK.decode(MSGPACK.encode(value)) == value


@given(st.binary(max_size=200))
@settings(max_examples=500, deadline=None)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for codec in CODECS.values():
        with contextlib.suppress(DocumentError):
            check(codec.decode(data))


@BOTH
def test_values_without_a_form_are_written_all_the_same(codec: Codec) -> None:
    class Odd:
        def __str__(self) -> str:
            return "odd"

    value = {"nan": math.nan, "inf": -math.inf, "big": 1 << 80, "half": "a\ud800b", "odd": Odd(), "set": {1}, 5: "key"}
    read: Any = json.loads if codec is JSON else msgpack.unpackb
    found = read(codec.encode({"bytes": b"\x00\xff", **value}))  # type: ignore[dict-item]
    assert found["nan"] is None
    assert found["inf"] is None
    assert found["big"] == (1 << 80 if codec is JSON else str(1 << 80))
    assert found["half"] == "a?b"
    assert found["odd"] == "odd"
    assert found["set"] == [1]
    assert found["5"] == "key"
    assert found["bytes"] == (base64.b64encode(b"\x00\xff").decode() if codec is JSON else b"\x00\xff")


@pytest.mark.parametrize(
    ("codec", "data", "code"),
    [
        (JSON, b"", "bad_json"),
        (JSON, b"{", "bad_json"),
        (JSON, b'{"a": NaN}', "not_finite"),
        (JSON, b'{"a": -Infinity}', "not_finite"),
        (JSON, b'{"a": 1e999}', "not_finite"),
        (JSON, b'"\xff"', "bad_json"),
        (JSON, b'"\\ud800"', "bad_text"),
        (JSON, b'{"\\udfff": 1}', "bad_text"),
        (JSON, b"[" * 100_000, "too_deep"),
        (JSON, b"[" * 100 + b"]" * 100, "too_deep"),
        (JSON, b"1" * 5000, "bad_json"),
        (MSGPACK, b"", "bad_msgpack"),
        (MSGPACK, b"\xc1", "bad_msgpack"),
        (MSGPACK, b"\x81\xa1a", "bad_msgpack"),
        (MSGPACK, b"\x01\x02", "bad_msgpack"),
        (MSGPACK, b"\x81\x01\x02", "bad_msgpack"),
        (MSGPACK, b"\x81\xa1\xff\x02", "bad_msgpack"),
        (MSGPACK, msgpack.packb({"a": math.nan}), "not_finite"),
        (MSGPACK, msgpack.packb({"a": b"bytes"}), "not_json"),
        (MSGPACK, msgpack.packb({b"a": 1}), "not_json"),
        (MSGPACK, msgpack.packb({"a": msgpack.Timestamp(1, 1)}), "bad_msgpack"),
        (MSGPACK, b"\x91" * 100 + b"\xc0", "too_deep"),
        (MSGPACK, b"\x91" * 100_000 + b"\xc0", "too_deep"),
        (MSGPACK, b"\xdd\xff\xff\xff\xff", "bad_msgpack"),
    ],
)
def test_what_is_no_message_is_refused_with_a_code(codec: Codec, data: bytes, code: str) -> None:
    with pytest.raises(DocumentError) as caught:
        codec.decode(data)
    assert caught.value.problem.code == code
    assert caught.value.problem.remedy


def test_a_frame_that_promises_much_costs_nothing() -> None:
    bomb = b"\xdd\x00\x0f\xff\xff" * 1000 + b"\xc0" * 100_000
    tracemalloc.start()
    with pytest.raises(DocumentError):
        MSGPACK.decode(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20


def test_the_deepest_document_fits() -> None:
    value: Any = 1
    for _ in range(MAX_DEPTH):
        value = [value]
    for codec in CODECS.values():
        assert codec.decode(codec.encode(value)) == value


def test_heavy_batches_are_cut_into_pieces_and_none_is_lost() -> None:
    batch = [
        Event(seq, "preview", f"n{seq}", {"media_type": "image/png", "image": bytes(200_000)}) for seq in range(1, 21)
    ]
    batch.insert(3, Event(30, "chunk", "c", {"text": "x" * 2_000_000}))
    parts = list(pieces(batch))
    assert [event for part in parts for event in part] == batch
    assert all(sum(len(event.data.get("image", b"")) for event in part) <= PIECE_BYTES for part in parts)
    light = [Event(seq, "done", f"n{seq}", {"ms": 1.0}) for seq in range(1, 2001)]
    assert list(pieces(light)) == [light]
