"""The header of a safetensors file: which tensors it holds and where, without reading any of them.

Format: 8 bytes, the length of the header (little-endian); the header, a JSON object name -> {dtype, shape,
data_offsets}; then the bytes of the tensors without gaps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graph_engine.errors import ModelError

MAX_HEADER_BYTES = 100_000_000
"""As the safetensors library has it."""

DTYPES: Mapping[str, tuple[str, int]] = {
    "BOOL": ("bool", 1), "U8": ("uint8", 1), "I8": ("int8", 1), "U16": ("uint16", 2), "I16": ("int16", 2),
    "U32": ("uint32", 4), "I32": ("int32", 4), "U64": ("uint64", 8), "I64": ("int64", 8),
    "F8_E4M3": ("float8_e4m3fn", 1), "F8_E5M2": ("float8_e5m2", 1), "F16": ("float16", 2), "BF16": ("bfloat16", 2),
    "F32": ("float32", 4), "F64": ("float64", 8), "C64": ("complex64", 8),
}  # fmt: skip
"""Names in the file -> names in torch, bytes of one number."""


@dataclass(frozen=True)
class Tensor:
    """dtype as torch calls it; start and end: its place in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def count(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """tensors by name; metadata: what the writer noted; raw: the bytes of the JSON; file_bytes: size of the file."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    raw: bytes
    file_bytes: int

    @classmethod
    def read(cls, path: Path) -> Header:
        """Raises ModelError: `model_missing`, `model_format` (no safetensors), `model_damaged` (too short or long)."""
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                size = path.stat().st_size
                raw = file.read(length) if 2 <= length <= MAX_HEADER_BYTES else b""
        except OSError as error:
            raise ModelError(
                f"the weight file {path} cannot be read: {error.strerror or error}.",
                remedy="Put the file there, or choose another model.",
                code="model_missing",
            ) from error
        if not raw.startswith(b"{"):
            raise _foreign(path)
        if len(raw) < length:
            raise _damaged(path, f"its header alone has {length:,} bytes, the whole file {size:,}")
        try:
            entries: dict[str, Any] = json.loads(raw)
            metadata = entries.pop("__metadata__", {})
            tensors = {name: _tensor(entry, 8 + length) for name, entry in entries.items()}
            end = max((tensor.end for tensor in tensors.values()), default=8 + length)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
            raise _foreign(path) from error
        if end != size:
            what = "cut off" if size < end else "too long"
            raise _damaged(path, f"it is {what}: its header promises {end:,} bytes, it has {size:,}")
        return cls(tensors, metadata, raw, size)


def _tensor(entry: Mapping[str, Any], base: int) -> Tensor:
    """Raises ValueError where the place in the file has not the size of the tensor."""
    dtype, width = DTYPES[entry["dtype"]]
    begin, end = entry["data_offsets"]
    tensor = Tensor(dtype, tuple(entry["shape"]), base + begin, base + end)
    if begin < 0 or end - begin != tensor.count * width:
        raise ValueError("a tensor has another size than its place in the file")
    return tensor


def _foreign(path: Path) -> ModelError:
    return ModelError(
        f"{path} is not a safetensors file.",
        remedy=f"Give a .safetensors file; others become one by `anyloom convert {path}`.",
        code="model_format",
    )


def _damaged(path: Path, reason: str) -> ModelError:
    return ModelError(
        f"the weight file {path} is damaged: {reason}.", remedy="Fetch or convert it again.", code="model_damaged"
    )
