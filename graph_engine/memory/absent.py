"""A weight that is not in memory: it can be asked what it is, not what it holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_iter, tree_map

from graph_engine.errors import ModelError
from graph_engine.models.sources import Source


def put(owner: Any, name: str, tensor: torch.Tensor) -> None:
    """Make `tensor` the parameter or buffer of this name, whatever kind of tensor was it before."""
    if name in owner._parameters:
        owner._parameters[name] = tensor
    else:
        owner._buffers[name] = tensor


class Absent(torch.Tensor):
    """Stands for a parameter or buffer in a module. It has a shape, a dtype and a device; any use of its values is an error,
    unless `bring` has them.

    Code that asks a model where and of what type it is (`next(model.parameters()).dtype`) gets the right answer.
    """

    bring: Callable[[Absent], torch.Tensor | None] | None = None
    """Gives the tensor when it is one that stays: on its way perhaps, or there before its layer was first called."""
    source: Source
    is_parameter: bool
    _is_param: bool
    """What `isinstance(tensor, torch.nn.Parameter)` looks at."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, source: Source, device: torch.device, is_parameter: bool) -> Absent:
        self: Absent = torch.Tensor._make_wrapper_subclass(
            cls, source.shape, dtype=source.dtype, device=device, requires_grad=False
        )
        self.source, self.is_parameter, self._is_param = source, is_parameter, is_parameter
        return self

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        found = {id(arg): arg.bring(arg) for arg in tree_iter((args, kwargs)) if isinstance(arg, Absent) and arg.bring}
        if found and all(tensor is not None for tensor in found.values()):
            args, kwargs = tree_map(lambda arg: found.get(id(arg), arg), (args, kwargs or {}))
            return func(*args, **kwargs)
        if func is torch.ops.aten.detach.default:  # a table of all weights is not yet a use of them
            other = Absent(args[0].source, args[0].device, False)
            other.bring = args[0].bring
            return other
        names = [arg.source.key for arg in (*args, *(kwargs or {}).values()) if isinstance(arg, Absent)]
        raise _used(names, str(func))

    def data_ptr(self) -> int:
        """For kernels that torch knows nothing of (Triton's), which take the address."""
        tensor = self.bring(self) if self.bring is not None else None
        if tensor is None:
            raise _used([self.source.key], "a kernel")
        return tensor.data_ptr()

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"Absent({self.source.key}, {tuple(self.shape)}, {self.dtype})"


def _used(names: list[str], by: str) -> ModelError:
    return ModelError(
        f"the weights {', '.join(names) or 'of a layer'} were used (by {by}) without a call of their layer; the "
        "model is larger than its room and brought in layer by layer, so they are not in memory.",
        remedy="Raise the memory budget so that the whole model fits, or call the layer as a module.",
        code="weights_absent",
    )
