"""How many bytes of activations a module takes at its peak, counted on fake tensors: true sizes without memory or time."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class LiveBytes(TorchDispatchMode):
    """Bytes of the storages that operations under it made and that still live."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_iter(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                mark = storage._cdata
                if mark not in self._seen and not any(
                    isinstance(given, torch.Tensor) and given.untyped_storage()._cdata == mark
                    for given in tree_iter((args, kwargs))
                ):
                    self._seen.add(mark)
                    self.now += storage.nbytes()
                    self.peak = max(self.peak, self.now)
                    weakref.finalize(storage, self._gone, mark, storage.nbytes())
        return result

    def _gone(self, mark: int, size: int) -> None:
        self._seen.discard(mark)
        self.now -= size


def peak_bytes(build: Callable[[], Any], call: Callable[[Any], Any], dtype: torch.dtype) -> int:
    """Of `call(module)`; what `build` makes is not counted."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    before = torch.get_default_dtype()
    with FakeTensorMode(), torch.no_grad():
        torch.set_default_dtype(dtype)
        try:
            module = build().eval()
            with LiveBytes() as counted:
                result = call(module)
        finally:
            torch.set_default_dtype(before)
        del result
    return counted.peak
