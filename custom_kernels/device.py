"""Which device a tensor is on, in the words the tables use."""

from __future__ import annotations

import re
from contextlib import nullcontext
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from custom_kernels.implementation import Case


class DeviceFacts(NamedTuple):
    type: str
    arch: int  # 90 for compute capability 9.0; 0 where there is none
    name: str  # "nvidia_h200"; "" where there is none

    @property
    def table_names(self) -> tuple[str, ...]:
        """Names of the tuned tables that may hold for this device, best first."""
        return tuple(name for name in (self.name, f"sm_{self.arch}" if self.arch else "", self.type) if name)


def device_facts(device: torch.device) -> DeviceFacts:
    index = device.index
    if device.type == "cuda" and index is None:
        index = torch.cuda.current_device()
    return _facts(device.type, index or 0)


def on_device_of(x: Tensor) -> torch.cuda.device | nullcontext[None]:
    """A context in which the tensor's device is the current one: a kernel is launched, and a graph captured, on that."""
    if x.device.type != "cuda" or x.device.index == torch.cuda.current_device():
        return nullcontext()
    return torch.cuda.device(x.device)


@lru_cache(maxsize=64)
def _facts(kind: str, index: int) -> DeviceFacts:
    if kind != "cuda" or torch.version.hip is not None:
        return DeviceFacts(kind, 0, "")
    major, minor = torch.cuda.get_device_capability(index)
    name = re.sub(r"\W+", "_", torch.cuda.get_device_name(index).lower()).strip("_")
    return DeviceFacts(kind, 10 * major + minor, name)


@lru_cache(maxsize=1)
def interpreting() -> bool:
    """Whether Triton's kernels run in its interpreter (TRITON_INTERPRET=1), on any device, slowly."""
    try:
        from triton import knobs
    except ImportError:
        return False
    return bool(knobs.runtime.interpret)


@lru_cache(maxsize=1)
def why_no_triton() -> str | None:
    """None if triton can be imported, else what to do about it."""
    try:
        import triton  # noqa: F401
    except Exception as error:  # a broken installation fails in many ways
        return f"triton cannot be imported ({error}); install anyloom[gpu]"
    return None


def no_triton_on(device_type: str, arch: int) -> str | None:
    """Why Triton kernels cannot run on such a device, or None."""
    missing = why_no_triton()
    if missing:
        return missing
    if interpreting():
        return None
    if device_type != "cuda":
        return f"Triton kernels need a CUDA device, the tensors are on {device_type} (TRITON_INTERPRET=1 is for tests)"
    if arch < 80:
        return f"Triton kernels need compute capability 8.0 or later, this device has {arch / 10:.1f}"
    return None


def why_not_pointwise(case: Case) -> str | None:
    """What the kernels without a matrix product refuse."""
    if case.dtype not in ("float16", "bfloat16", "float32"):
        return f"the kernel computes float16, bfloat16 and float32, not {case.dtype}"
    return no_triton_on(case.device_type, case.arch)
