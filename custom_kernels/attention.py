"""The rows of the table for attention: the Triton kernels, torch's SDPA with a named backend, xformers, the reference."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from custom_kernels import attention_triton, reference
from custom_kernels.implementation import Case, Implementation, always
from custom_kernels.told import first_line

Attention = Callable[[Tensor, Tensor, Tensor, int, Tensor | None, float | None], Tensor]
BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
LARGEST_HEAD_DIM = {"flash": 256, "cudnn": 128, "efficient": 1 << 30, "math": 1 << 30}


def sdpa(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    heads: int,
    mask: Tensor | None = None,
    scale: float | None = None,
    backend: SDPBackend | None = None,
) -> Tensor:
    """torch's own attention. Without a backend torch takes the one it likes best."""
    repeat = q.shape[0] // k.shape[0] if k.shape[0] else 1
    if repeat != 1:
        k, v = k.repeat_interleave(repeat, dim=0), v.repeat_interleave(repeat, dim=0)
    query, key, value = (reference.split_heads(x, heads) for x in (q, k, v))
    if mask is not None:
        mask = mask.to(q.dtype)
    if backend is None:
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
    else:
        with sdpa_kernel(backend):
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
    return reference.join_heads(mixed)


def why_not_sdpa(case: Case, backend: str) -> str | None:
    """What torch's backends refuse, told before the call instead of by its "no viable backend"."""
    if backend == "math":
        return None
    head_dim = case.size("D")
    if case.device_type != "cuda":
        if backend == "flash" and case.device_type == "cpu":
            return None
        return f"torch has this backend on CUDA devices only, the tensors are on {case.device_type}"
    if backend in ("flash", "cudnn") and case.dtype not in ("float16", "bfloat16"):
        return f"the backend computes float16 and bfloat16, not {case.dtype}"
    if case.dtype == "float64":
        return "the backend does not compute float64"
    if head_dim > LARGEST_HEAD_DIM[backend]:
        return f"the backend has head dims up to {LARGEST_HEAD_DIM[backend]}, this is {head_dim}"
    if backend in ("flash", "cudnn") and head_dim % 8:
        return f"the backend needs a head dim that is a multiple of 8, this is {head_dim}"
    if backend == "flash" and case.size("mask"):
        return "the backend takes no mask"
    if backend in ("flash", "cudnn") and case.arch < 80:
        return f"the backend needs compute capability 8.0 or later, this device has {case.arch / 10:.1f}"
    return None


def xformers(
    q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """memory_efficient_attention, which takes the layout "B L H D"."""
    from xformers.ops import memory_efficient_attention

    repeat = q.shape[0] // k.shape[0]
    if repeat != 1:
        k, v = k.repeat_interleave(repeat, dim=0), v.repeat_interleave(repeat, dim=0)
    query, key, value = (x.unflatten(2, (heads, x.shape[2] // heads)) for x in (q, k, v))
    if mask is not None:
        mask = mask.to(q.dtype).expand(q.shape[0], heads, q.shape[1], k.shape[1])
    mixed: Tensor = memory_efficient_attention(query, key, value, attn_bias=mask, scale=scale)
    return mixed.flatten(2)


@lru_cache(maxsize=1)
def why_no_xformers() -> str | None:
    """None if xformers can be imported, else what to do about it."""
    try:
        import xformers.ops  # noqa: F401
    except Exception as error:  # a wheel for another torch or CUDA fails in many ways
        return f"xformers cannot be imported ({first_line(error)}); install anyloom[gpu]"
    return None


def why_not_xformers(case: Case) -> str | None:
    missing = why_no_xformers()
    if missing:
        return missing
    if case.device_type != "cuda":
        return f"xformers computes on CUDA devices only, the tensors are on {case.device_type}"
    if case.size("mask") and case.size("Lk") % 8:
        return f"xformers wants masks of a multiple of 8 keys, these are {case.size('Lk')}"
    if case.dtype == "float64":
        return "xformers does not compute float64"
    return None


def over_frames(run: Attention) -> Callable[[Tensor, Tensor, Tensor, int, float | None], Tensor]:
    """Frame attention by an attention over "B·S F H·D", with the copies that takes."""

    def frames_of(q: Tensor, k: Tensor, v: Tensor, heads: int, scale: float | None = None) -> Tensor:
        batch, frames, places, width = q.shape
        rows = [x.transpose(1, 2).reshape(batch * places, frames, width) for x in (q, k, v)]
        mixed = run(rows[0], rows[1], rows[2], heads, None, scale)
        return mixed.reshape(batch, places, frames, width).transpose(1, 2).contiguous()

    return frames_of


def _why_not(backend: str) -> Callable[[Case], str | None]:
    return lambda case: why_not_sdpa(case, backend)


_PLAIN: tuple[tuple[str, Attention, Callable[[Case], str | None]], ...] = (
    ("sdpa", sdpa, always),
    *((f"sdpa.{name}", partial(sdpa, backend=backend), _why_not(name)) for name, backend in BACKENDS.items()),
    ("xformers", xformers, why_not_xformers),
    ("reference", reference.attention, always),
)
IMPLEMENTATIONS = (
    Implementation("triton", attention_triton.attention, attention_triton.why_not),
    *(Implementation(name, run, why_not) for name, run, why_not in _PLAIN),
)
FRAME_IMPLEMENTATIONS = (
    Implementation("triton", attention_triton.frame_attention, attention_triton.why_not_frames),
    *(Implementation(name, over_frames(run), why_not) for name, run, why_not in _PLAIN),
)
