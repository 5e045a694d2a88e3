"""What is in a safetensors file, as this pack asks for it: shapes and bytes by key, and the prevailing dtype."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from graph_engine.models import header
from graph_engine.models.spec import WeightFile

DTYPES = frozenset({"float64", "float32", "float16", "bfloat16"})


@dataclass(frozen=True)
class Header:
    """shapes: key -> shape; metadata: the file's own remarks; dtype: of most of its bytes, or float32."""

    shapes: dict[str, tuple[int, ...]]
    bytes: dict[str, int]
    dtype: str
    metadata: dict[str, str]


def read_header(path: Path) -> Header:
    """Raises ModelError for a file that is absent, no safetensors file, or shorter than its header says."""
    found = header.Header.read(path)
    sizes = {key: tensor.end - tensor.start for key, tensor in found.tensors.items()}
    by_dtype: Counter[str] = Counter()
    for key, tensor in found.tensors.items():
        if tensor.dtype in DTYPES:
            by_dtype[tensor.dtype] += sizes[key]
    dtype = by_dtype.most_common(1)[0][0] if by_dtype else "float32"
    shapes = {key: tensor.shape for key, tensor in found.tensors.items()}
    return Header(shapes, sizes, dtype, dict(found.metadata))


def weight_file(path: Path, bytes: int | None = None) -> WeightFile:
    """`path` for a spec; `bytes` is the share that the model takes of a file with several models in it."""
    file = WeightFile.of(path)
    return file if bytes is None else replace(file, bytes=bytes)
