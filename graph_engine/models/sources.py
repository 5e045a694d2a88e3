"""Where each tensor of a model lies, without reading it: for models that are brought in piece by piece."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graph_engine.errors import ModelError
from graph_engine.models.catalog import Family
from graph_engine.models.load import _account, _read
from graph_engine.models.spec import ModelSpec

_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
"""Names of safetensors -> names of torch."""


@dataclass(frozen=True, eq=False)
class Source:
    """One tensor of a model.

    key           its name in the module
    shape, dtype  as the module wants it (dtype: a torch dtype)
    path, offset  where its bytes begin; without meaning when `value` is given
    file_dtype    as the file has it
    value         the tensor itself, on the host: a family's `rename` computed it, so no file holds it
    """

    key: str
    shape: tuple[int, ...]
    dtype: Any
    path: str = ""
    offset: int = 0
    file_dtype: Any = None
    value: Any = None

    @property
    def bytes(self) -> int:
        """On the device."""
        return math.prod(self.shape) * int(self.dtype.itemsize)

    @property
    def file_bytes(self) -> int:
        return math.prod(self.shape) * int(self.file_dtype.itemsize)


def find_sources(spec: ModelSpec, family: Family) -> tuple[Any, dict[str, Source]]:
    """The module of `spec`, still empty (on the meta device), and for every key of its state dict where its tensor is.

    `rename` of the family runs on tensors without content; what it hands on unchanged stays where it is, what it computes
    is computed once and kept. Raises ModelError for files that are gone or damaged and for keys that do not fit, as
    `materialise` does.
    """
    import torch

    with torch.device("meta"):
        module = family.build(spec.config)
    found = _headers(spec)
    empty = {key: torch.empty(shape, dtype=dtype, device="meta") for key, (_, _, shape, dtype) in found.items()}
    origin = {id(tensor): key for key, tensor in empty.items()}
    renamed = dict(empty) if family.rename is None else family.rename(empty)
    _account(spec, module.state_dict(), renamed)
    computed = any(id(tensor) not in origin for tensor in renamed.values())
    values = family.rename(_read(spec)) if computed and family.rename is not None else {}
    sources: dict[str, Source] = {}
    for key, tensor in renamed.items():
        dtype = getattr(torch, spec.dtype) if tensor.is_floating_point() else tensor.dtype
        if id(tensor) in origin:
            path, offset, shape, file_dtype = found[origin[id(tensor)]]
            sources[key] = Source(key, shape, dtype, path, offset, file_dtype)
        else:
            value = values[key].to(dtype, copy=True).contiguous()
            sources[key] = Source(key, tuple(value.shape), dtype, value=value)
    return module, sources


def _headers(spec: ModelSpec) -> dict[str, tuple[str, int, tuple[int, ...], Any]]:
    """Key in the files -> (path, offset in the file, shape, dtype)."""
    import torch

    found: dict[str, tuple[str, int, tuple[int, ...], Any]] = {}
    for file in spec.files:
        try:
            with Path(file.path).open("rb") as handle:
                length = int.from_bytes(handle.read(8), "little")
                size = Path(file.path).stat().st_size
                header: dict[str, Any] = json.loads(handle.read(length)) if length <= size - 8 else {"header": {}}
            for key, entry in header.items():
                if key != "__metadata__":
                    begin, end = entry["data_offsets"]
                    shape, dtype = tuple(entry["shape"]), getattr(torch, _DTYPES[entry["dtype"]])
                    if end - begin != math.prod(shape) * dtype.itemsize or 8 + length + end > size:
                        raise ValueError(f"the bytes of {key} are not all there")
                    found[key] = file.path, 8 + length + begin, shape, dtype
        except FileNotFoundError:
            raise ModelError(
                f"the weight file {file.path} is gone.",
                remedy="Put it back, or run the load node again.",
                code="model_missing",
            ) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(
                f"the weight file {file.path} is damaged: {error}.",
                remedy="Fetch or convert it again.",
                code="model_damaged",
            ) from error
    return found
