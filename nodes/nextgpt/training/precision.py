"""Mixed precision: matrices in bfloat16, attention on a CPU in float32.

A processor without instructions for bfloat16 computes it many times slower than float32: a hundred times before AVX-512, and
five times with AVX-512 that lacks them (Ice Lake). There everything is float32, whatever the plan allows. The backward
pass of attention on a CPU takes three times as long in bfloat16 as in float32, more than all matrices gain.
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode


class _FullAttention(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = kwargs or {}
        if func is not scaled_dot_product_attention:
            return func(*args, **options)
        with torch.autocast("cpu", enabled=False):
            kind = args[0].dtype if args else options["query"].dtype
            return func(*map(_full, args), **{name: _full(value) for name, value in options.items()}).to(kind)


def _full(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def is_bfloat16_fast(device: str) -> bool:
    """Whether a device ("cpu", "cuda", ...) computes bfloat16 by its own instructions.

    oneDNN alone says yes to every AVX-512, where it converts to float32 and back.
    """
    if device != "cpu":
        return True
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


@contextlib.contextmanager
def precision(device: str, kind: Literal["float32", "bfloat16"]) -> Iterator[None]:
    """Around a forward pass; weights stay as they are. "bfloat16" is a leave, taken where it is faster."""
    mixed = kind == "bfloat16" and is_bfloat16_fast(device)
    with torch.autocast(device, torch.bfloat16, enabled=mixed), contextlib.ExitStack() as stack:
        if mixed and device == "cpu":
            stack.enter_context(_FullAttention())
        yield
