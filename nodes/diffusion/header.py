"""Header of a safetensors file: names, dtypes and shapes, read without touching a weight."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from graph_engine.errors import ModelError
from graph_engine.models.spec import WeightFile

DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True)
class Header:
    """shapes: key -> shape; metadata: the file's own remarks; dtype: of most of its bytes, or float32."""

    shapes: dict[str, tuple[int, ...]]
    bytes: dict[str, int]
    dtype: str
    metadata: dict[str, str]


def read_header(path: Path) -> Header:
    """Raises ModelError for a file that is absent, no safetensors file, or shorter than its header says."""
    WeightFile.of(path)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            entries = json.loads(file.read(length))
            metadata = entries.pop("__metadata__", {})
            shapes = {key: tuple(entry["shape"]) for key, entry in entries.items()}
            sizes = {key: entry["data_offsets"][1] - entry["data_offsets"][0] for key, entry in entries.items()}
            end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(
                f"the header of {path} is damaged: {error}.", remedy="Fetch the file again.", code="model_damaged"
            ) from error
    wanted, found = 8 + length + end, path.stat().st_size
    if found < wanted:
        raise ModelError(
            f"{path} is cut off: {found:,} bytes of {wanted:,}.", remedy="Fetch the file again.", code="model_damaged"
        )
    by_dtype: dict[str, int] = {}
    for key, entry in entries.items():
        dtype = DTYPES.get(entry["dtype"])
        if dtype is not None:
            by_dtype[dtype] = by_dtype.get(dtype, 0) + sizes[key]
    return Header(shapes, sizes, max(by_dtype, key=by_dtype.__getitem__, default="float32"), metadata)


def weight_file(path: Path, bytes: int | None = None) -> WeightFile:
    """`path` for a spec; `bytes` is the share that the model takes of a file with several models in it."""
    file = WeightFile.of(path)
    return file if bytes is None else replace(file, bytes=bytes)
