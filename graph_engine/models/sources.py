"""Where each tensor of a model lies, without reading it: for models that are brought in piece by piece."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graph_engine.errors import OutOfMemory
from graph_engine.models import load
from graph_engine.models.catalog import Family
from graph_engine.models.header import Header
from graph_engine.models.spec import ModelSpec, WeightFile


@dataclass(frozen=True, eq=False)
class Source:
    """One tensor of a model.

    key           its name in the module
    shape, dtype  as the module wants it (dtype: a torch dtype)
    path, offset  where its bytes begin; without meaning when `value` is given
    file_dtype    as the file has it
    value         the tensor itself, on the host: a family's `rename` computed it, so no file holds it
    strides       how its values lie on the device, dense in some order of the dimensions; None: in the order of `shape`
    """

    key: str
    shape: tuple[int, ...]
    dtype: Any
    path: str = ""
    offset: int = 0
    file_dtype: Any = None
    value: Any = None
    strides: tuple[int, ...] | None = None

    @property
    def bytes(self) -> int:
        """On the device."""
        return math.prod(self.shape) * int(self.dtype.itemsize)

    def laid(self, values: Any) -> Any:
        """The tensor, as a view of its values "N" in the order in which they lie."""
        return values.reshape(self.shape) if self.strides is None else values.as_strided(self.shape, self.strides)

    @property
    def file_bytes(self) -> int:
        return math.prod(self.shape) * int(self.file_dtype.itemsize)


def find_sources(spec: ModelSpec, family: Family) -> tuple[Any, dict[str, Source]]:
    """The module of `spec`, still empty (on the meta device), and for every key of its state dict where its tensor is.

    The family's functions run on tensors without content; what they hand on unchanged stays where it is, what they compute
    is computed once and kept. Raises ModelError for files that are gone or damaged and for keys that do not fit, as
    `materialise` does; OutOfMemory for a model that must be there as a whole (`Family.whole`, `Family.load`).
    """
    if family.is_whole(spec):
        raise OutOfMemory(
            f"{spec.family} does not fit beside what is in use, and cannot be brought in block by block.",
            remedy="Raise the budget, use a smaller model, or run fewer jobs at once.",
        )
    origin: dict[int, tuple[str, int, Any]] = {}
    """id of a tensor without content -> (path, offset in the file, the tensor, so that its id is not given anew)"""

    def outline(file: WeightFile) -> load.State:
        header, tensors = Header.read(Path(file.path)), load.outline(file)
        for key, tensor in tensors.items():
            origin[id(tensor)] = file.path, header.tensors[key].start, tensor
        return tensors

    module, tensors = load.fill(spec, family, outline)
    computed = any(id(tensor) not in origin for tensor in tensors.values())
    values = load.fill(spec, family, load.read)[1] if computed else {}
    sources: dict[str, Source] = {}
    for key, tensor in tensors.items():
        dtype = load.dtype_of(spec.dtype) if tensor.is_floating_point() else tensor.dtype
        if id(tensor) in origin:
            path, offset, _ = origin[id(tensor)]
            sources[key] = Source(key, tuple(tensor.shape), dtype, path, offset, tensor.dtype)
        else:
            value = values[key].to(dtype, copy=True).contiguous()
            sources[key] = Source(key, tuple(value.shape), dtype, value=value)
    return module, sources
