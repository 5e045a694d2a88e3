"""A device that is not there: tensors that are "on cuda:0" compute on the CPU, and mistakes that only a device shows are seen.

Memory that was made for the device is marked. What mixes marked with unmarked memory fails, as it would there, and whenever
the host has to wait for the device that is counted, with the line that made it wait. Nothing of CUDA itself is emulated.

    with emulated() as device:
        step("cuda:0")
    assert device.waits == {}
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

NAME = "cuda:0"
MARK = "emulated"
INDEXED = ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index")
"""They take indices from anywhere, and copy those of the host over."""
COPIES = ("copy_", "_to_copy", "_foreach_copy_")


class Mixed(RuntimeError):
    """Tensors of the host and of the device met in one operation."""


def is_there(tensor: Tensor) -> bool:
    return bool(vars(tensor.untyped_storage()).get(MARK))


def place(tensor: Tensor, there: bool) -> Tensor:
    vars(tensor.untyped_storage())[MARK] = there
    return tensor


def _means_it(device: Any) -> bool:
    return str(device).startswith("cuda")


class Device:
    """What was seen."""

    def __init__(self) -> None:
        self.waits: Counter[str] = Counter()
        """Where the host waited, "file:line what"."""

    def waited(self, what: str) -> None:
        self.waits[f"{_our_line()} {what}"] += 1


def _our_line() -> str:
    frames = [frame for frame in traceback.extract_stack() if "/nodes/" in frame.filename]
    return f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else "?"


class _Functions(TorchFunctionMode):
    """Where tensors are made, where they say they are, and how they get from one place to another."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self._device = device

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options, name = dict(kwargs or {}), getattr(func, "__name__", "")
        asked = getattr(func, "__self__", None)
        if asked is torch.Tensor.device:
            return torch.device(NAME if is_there(args[0]) else "cpu")
        if asked in (torch.Tensor.is_cuda, torch.Tensor.is_cpu):
            return is_there(args[0]) == (asked is torch.Tensor.is_cuda)
        if name in ("numpy", "__array__") and is_there(args[0]):
            raise Mixed(f"{_our_line()}: NumPy cannot read what is on a device")
        if name == "tolist" and is_there(args[0]):
            self._device.waited("tolist")
        if name == "cpu":
            return self._moved(args[0], False)
        if name == "to":
            return self._to(func, args, options)
        wanted = None
        if options.get("device") is not None:
            wanted = _means_it(options["device"])
            options["device"] = "cpu"
        elif name.startswith("new_"):
            wanted = is_there(args[0])
        made = func(*args, **options)
        return place(made, wanted) if wanted is not None and isinstance(made, Tensor) else made

    def _to(self, func: Callable[..., Any], args: Sequence[Any], options: dict[str, Any]) -> Any:
        tensor, wanted, dtype = args[0], None, options.get("dtype")
        for entry in (*args[1:], options.get("device"), options.get("other")):
            if isinstance(entry, Tensor):
                wanted, dtype = is_there(entry), entry.dtype
            elif isinstance(entry, str | torch.device):
                wanted = _means_it(entry)
            elif isinstance(entry, torch.dtype):
                dtype = entry
        if wanted is None:
            return func(*args, **options)
        # A small copy to the device that says nothing of blocking is waited for as well; that is not counted.
        moved = self._moved(tensor, wanted)
        return moved if dtype is None else moved.to(dtype)

    def _moved(self, tensor: Tensor, there: bool) -> Tensor:
        if is_there(tensor) == there:
            return tensor
        if not there:
            self._device.waited("cpu")
        return place(tensor.clone(), there)


class _Operations(TorchDispatchMode):
    """What is computed with what."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self._device = device

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = func._schema.name.partition("::")[2]
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        there = any(map(is_there, given))
        if there:
            self._look(name, args, given)
        made = func(*args, **(kwargs or {}))
        if there:
            for leaf in tree_leaves(made):
                if isinstance(leaf, Tensor):
                    place(leaf, True)
        return made

    def _look(self, name: str, args: Sequence[Any], given: list[Tensor]) -> None:
        if name in ("_local_scalar_dense", "nonzero", "masked_select"):
            self._device.waited(name.strip("_"))
        indices: list[Tensor] = []
        if name in INDEXED:
            indices = [index for index in args[1] if isinstance(index, Tensor)]
            if any(index.dtype == torch.bool for index in indices):
                self._device.waited("index by a mask")
        # Backwards of some operations make zeros like what they saw, of which no mark is known.
        if name in COPIES or name.startswith("_foreach") or torch._C._current_graph_task_id() != -1:
            return
        strange = [
            tensor
            for tensor in given
            if tensor.dim() and not is_there(tensor) and not any(tensor is index for index in indices)
        ]
        if strange:
            raise Mixed(f"{_our_line()}: {name} of tensors on the device and {tuple(strange[0].shape)} on the host")


@contextmanager
def emulated() -> Iterator[Device]:
    device = Device()
    with _Functions(device), _Operations(device):
        yield device
