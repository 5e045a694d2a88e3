"""Raw bytes of tensors and arrays, and back. Imports torch and numpy only when there is something to convert."""

from __future__ import annotations

import math
import re
from typing import Any

_WORDS = (
    "bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 bfloat16 float32 float64"
    " complex32 complex64 complex128 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu"
)
TENSOR_DTYPES = frozenset(_WORDS.split())
_ARRAY_DTYPE = re.compile(r"[<>|](?:[biufc][0-9]{1,2}|[SU][0-9]{1,9}|[mM]8(?:\[[0-9]{0,9}[A-Za-z]{1,2}\])?)")
_DIMENSION_LIMIT = 64
_SIZE_LIMIT = 2**48


def tensor_bytes(tensor: Any) -> tuple[str, tuple[int, ...], memoryview]:
    """dtype name, shape and row-major bytes; a contiguous tensor on the CPU is not copied. Gradients are left behind.

    Raises ValueError for tensors that are more than their numbers (sparse, quantised, meta).
    """
    import torch

    dtype = str(tensor.dtype).removeprefix("torch.")
    if tensor.layout is not torch.strided or tensor.is_meta or dtype not in TENSOR_DTYPES:
        raise ValueError(f"a tensor of dtype {dtype}, layout {tensor.layout} on {tensor.device} has no plain bytes")
    plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    if plain.numel() == 0:
        return dtype, tuple(tensor.shape), memoryview(b"")
    # A tensor of one element counts as contiguous whatever its strides; a view of its bytes wants a stride of one.
    flat = plain.reshape(-1).as_strided((plain.numel(),), (1,))
    return dtype, tuple(tensor.shape), memoryview(flat.view(torch.uint8).numpy())


def tensor_from(dtype: Any, shape: Any, data: memoryview) -> Any:
    """A tensor over the writable memory of `data`. Raises ValueError unless dtype, shape and length fit."""
    if dtype not in TENSOR_DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}")
    import torch

    torch_dtype = getattr(torch, dtype)
    size = _checked(shape, torch_dtype.itemsize, len(data))
    if not size:
        return torch.empty(shape, dtype=torch_dtype)
    return torch.frombuffer(data, dtype=torch.uint8).view(torch_dtype).reshape(shape)


def array_bytes(array: Any) -> tuple[str, tuple[int, ...], memoryview]:
    """dtype (numpy's `str`), shape and row-major bytes of an array or a numpy scalar.

    Raises ValueError for dtypes that hold objects or fields.
    """
    import numpy

    dtype = array.dtype.str
    if not _ARRAY_DTYPE.fullmatch(dtype):
        raise ValueError(f"an array of dtype {array.dtype} has no plain bytes")
    plain = numpy.ascontiguousarray(array)
    if plain.size == 0 or plain.itemsize == 0:
        return dtype, tuple(array.shape), memoryview(b"")
    return dtype, tuple(array.shape), plain.reshape(-1).view(numpy.uint8).data


def array_from(dtype: Any, shape: Any, data: memoryview) -> Any:
    """An array over the memory of `data`. Raises ValueError unless dtype, shape and length fit."""
    if type(dtype) is not str or not _ARRAY_DTYPE.fullmatch(dtype):
        raise ValueError(f"unknown dtype {dtype!r}")
    import numpy

    array_dtype = numpy.dtype(dtype)
    size = _checked(shape, array_dtype.itemsize, len(data))
    if not size:
        return numpy.zeros(shape, dtype=array_dtype)
    return numpy.frombuffer(data, dtype=array_dtype).reshape(shape)


def scalar_from(dtype: Any, shape: Any, data: memoryview) -> Any:
    """A numpy scalar; raises ValueError as `array_from` does."""
    if shape != []:
        raise ValueError("a scalar with axes")
    return array_from(dtype, shape, data)[()]


def _checked(shape: Any, itemsize: int, length: int) -> int:
    """The bytes that `shape` takes, once they are known to be there."""
    if type(shape) is not list or len(shape) > _DIMENSION_LIMIT:
        raise ValueError("not a shape")
    if not all(type(axis) is int and 0 <= axis <= _SIZE_LIMIT for axis in shape):
        raise ValueError(f"not a shape: {shape[:8]}")
    if math.prod(axis or 1 for axis in shape) > _SIZE_LIMIT:
        raise ValueError(f"a shape beyond all measure: {shape[:8]}")
    size = math.prod(shape) * itemsize
    if size != length:
        raise ValueError(f"the shape {shape[:8]} takes {size} bytes, there are {length}")
    return size
