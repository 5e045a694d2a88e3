"""The two encodings of a message: JSON text and msgpack binary. Reading is strict, writing never fails.

What comes in is checked once, here, so that everything behind may take a message for plain JSON data: objects with text
keys, lists, text that is UTF-8, finite numbers, true, false, null; no deeper and no larger than the limits.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgpack

from graph_engine.errors import DocumentError, Problem, RequestError

MAX_DEPTH = 72
"""Deeper than a document may be (64), because a message wraps one."""
MAX_VALUES = 4_000_000
"""Values in one message: a byte of msgpack can be an object that takes 64 bytes of memory."""
LARGE_BYTES = 64 * 1024
"""Messages above this are read outside the event loop (law P10)."""

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


@dataclass(frozen=True)
class Codec:
    """name: the websocket subprotocol; binary: which frames it uses."""

    name: str
    binary: bool
    media_type: str
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


def _wrong(code: str, message: str, remedy: str = "", place: str = "/") -> DocumentError:
    return DocumentError([Problem(code, message, remedy, place=place)])


def too_large(what: str, size: int | None, limit: int) -> RequestError:
    """The error for a body or frame over the limit."""
    found = "" if size is None else f" has {size:,} bytes, which"
    return RequestError(
        f"{what}{found} is more than the limit of {limit:,} bytes.",
        remedy="Put large data into files (POST /api/v1/files) and name them in the workflow.",
        code="too_large",
    )


# --- reading ----------------------------------------------------------------------------------------------------


def _decode_json(data: bytes) -> Any:
    try:
        value = json.loads(data, parse_constant=_no_constant, object_hook=_interruptible)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise _wrong("bad_json", f"not valid JSON: {error.msg}.", "Correct the text there.", place) from None
    except UnicodeDecodeError as error:
        raise _wrong("bad_json", f"not valid UTF-8 at byte {error.start}.", "Send UTF-8.") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise _wrong("bad_json", f"not valid JSON: {error}.", "Correct the text.") from None
    check(value, unicode=_SURROGATE.search(data) is not None)
    return value


def _interruptible(entry: dict[str, Any]) -> dict[str, Any]:
    """Runs a line of Python per object, so that reading a large text in a thread lets the event loop have its turn."""
    return entry


def _no_constant(name: str) -> Any:
    raise _wrong("not_finite", f"{name} is not a JSON number.", "Write a finite number.")


def _decode_msgpack(data: bytes) -> Any:
    try:
        # Skipping first allocates nothing: a frame of a few bytes that promises a million entries ends here.
        unpacker = msgpack.Unpacker(max_buffer_size=max(len(data), 1))
        unpacker.feed(data)
        unpacker.skip()
        value = msgpack.unpackb(data, raw=False, strict_map_key=True, max_ext_len=0, object_hook=_interruptible)
    except msgpack.OutOfData:
        raise _wrong(
            "bad_msgpack", "the frame ends before its message does.", "Send one whole message a frame."
        ) from None
    except msgpack.StackError:
        raise _too_deep() from None
    except UnicodeDecodeError as error:
        raise _wrong("bad_msgpack", f"a text is not valid UTF-8: {error.reason}.", "Send UTF-8.") from None
    except (ValueError, TypeError) as error:
        raise _wrong(
            "bad_msgpack", f"not valid msgpack: {error or type(error).__name__}.", "Pack plain JSON data."
        ) from None
    check(value)
    return value


def _too_deep() -> DocumentError:
    return _wrong("too_deep", f"the message is nested more than {MAX_DEPTH} levels deep.", "Flatten it.")


def check(value: Any, *, unicode: bool = False) -> None:
    """Raise DocumentError unless `value` is plain JSON data. Level by level: no nesting can overflow the stack."""
    level: list[Any] = [[value]]
    count = 0
    for _ in range(MAX_DEPTH + 2):
        following: list[Any] = []
        for container in level:
            count += len(container)
            for entry in container if type(container) is list else container.values():
                kind = type(entry)
                if kind is str:
                    if unicode:
                        _check_text(entry)
                elif kind is dict:
                    following.append(entry)
                    for key in entry:
                        if unicode or type(key) is not str:
                            _check_text(key)
                elif kind is list:
                    following.append(entry)
                elif kind is float:
                    if not math.isfinite(entry):
                        raise _wrong("not_finite", f"{entry} is not a JSON number.", "Write a finite number.")
                elif entry is not None and kind is not int and kind is not bool:
                    raise _wrong(
                        "not_json",
                        f"a value of type {kind.__name__} cannot be part of a workflow.",
                        "Send text or numbers.",
                    )
        if count > MAX_VALUES:
            raise _wrong(
                "too_many_values", f"the message has more than {MAX_VALUES:,} values.", "Put large data into files."
            )
        if not following:
            return
        level = following
    raise _too_deep()


def _check_text(text: Any) -> None:
    if not isinstance(text, str):
        raise _wrong("not_json", f"a key of type {type(text).__name__} is no name.", "Use text for keys.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _wrong(
            "bad_text", f"{ascii(text)[:60]} holds half of a surrogate pair.", "Send well-formed Unicode."
        ) from None


# --- writing ----------------------------------------------------------------------------------------------------


def _foreign(value: Any) -> Any:
    """What JSON has no form for: bytes become base64, the rest becomes text."""
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Iterable):
        return list(value)
    return str(value)


_write_json = json.JSONEncoder(separators=(",", ":"), default=_foreign, allow_nan=False, check_circular=False).encode


def _encode_json(value: Any) -> bytes:
    try:
        return _write_json(value).encode()
    except (ValueError, TypeError, RecursionError):
        return _write_json(_tame(value, binary=False)).encode()


def _encode_msgpack(value: Any) -> bytes:
    try:
        return msgpack.packb(value, default=_foreign)
    except (ValueError, TypeError, OverflowError, RecursionError):
        return msgpack.packb(_tame(value, binary=True), default=_foreign)


def _tame(value: Any, *, binary: bool, depth: int = 0) -> Any:
    """A copy that any reader takes: no NaN, no integer over 64 bits, no half surrogates, no endless nesting."""
    if depth > 200:
        return "..."
    if isinstance(value, dict):
        return {
            _tame(str(key), binary=binary): _tame(entry, binary=binary, depth=depth + 1) for key, entry in value.items()
        }
    if isinstance(value, list | tuple):
        return [_tame(entry, binary=binary, depth=depth + 1) for entry in value]
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        return str(value) if binary else value
    return value


JSON = Codec("anyloom.json", False, "application/json", _encode_json, _decode_json)
MSGPACK = Codec("anyloom.msgpack", True, "application/msgpack", _encode_msgpack, _decode_msgpack)
CODECS = {codec.name: codec for codec in (JSON, MSGPACK)}
"""By subprotocol; a client that names none speaks JSON."""
