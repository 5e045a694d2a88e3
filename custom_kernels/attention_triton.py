"""The rows "triton" of the attention table: conditions, and the launch of the kernels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

import torch
from torch import Tensor

from custom_kernels import attention_plan as plan
from custom_kernels import tuned
from custom_kernels.device import device_facts, interpreting, no_triton_on, on_device_of
from custom_kernels.implementation import Case

LOG2E = 1.4426950408889634
OFFSETS = 2**31  # what the offsets within one batch row may reach; batch offsets have 64 bits


# A launch to try instead of the table's: what the tuner sets.
_TRIAL: ContextVar[plan.Launch | None] = ContextVar("trial", default=None)


def why_not(case: Case) -> str | None:
    missing = no_triton_on(case.device_type, case.arch)
    if missing:
        return missing
    if case.dtype not in ("float16", "bfloat16", "float32"):
        return f"the kernels compute float16, bfloat16 and float32, not {case.dtype}"
    head_dim = case.size("D")
    if head_dim not in plan.HEAD_DIMS:
        return f"there are kernels for head dims {', '.join(map(str, plan.HEAD_DIMS))}, this is {head_dim}"
    if case.size("elements") >= OFFSETS or case.size("Lq") * case.size("H") * head_dim >= OFFSETS:
        return (
            f"one batch row of q, k, v or the result spans {case.size('elements'):,} elements, the limit is {OFFSETS:,}"
        )
    if case.size("mask") and case.size("Lq") * case.size("Lk") >= OFFSETS:
        return f"the mask of one head has {case.size('Lq') * case.size('Lk'):,} elements, the limit is {OFFSETS:,}"
    if case.size("B") * case.size("H") * -(-case.size("Lq") // plan.SMALLEST) >= OFFSETS:
        return "there are too many blocks of queries for one launch"
    return None


def attention(
    q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """As `reference.attention`, in one kernel."""
    batch, lq, width = q.shape
    lk, head_dim, repeat = k.shape[1], width // heads, batch // k.shape[0]
    q, k, v = readable(q), readable(k), readable(v)
    which = plan.kind(lq, lk, head_dim, repeat, mask is not None, q.element_size())
    if which == "packed":
        out = torch.empty((batch, lq, width), dtype=q.dtype, device=q.device)
        _packed(q, k, v, out, heads, scale, sequences=batch, places=1, length=lq)
        return out
    return _long_or_short(which, q, k, v, heads, mask, scale, repeat, head_dim)


def _long_or_short(
    which: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    heads: int,
    mask: Tensor | None,
    scale: float | None,
    repeat: int,
    head_dim: int,
) -> Tensor:
    from custom_kernels.attention_kernels import long_attention, short_attention

    batch, lq, width = q.shape
    lk = k.shape[1]
    out = torch.empty((batch, lq, width), dtype=q.dtype, device=q.device)
    strides: tuple[int, ...] = (0, 0, 0, 0)
    if mask is not None:
        mask = mask.expand(batch, heads, lq, lk)
        if (lq - 1) * mask.stride(2) + (lk - 1) * mask.stride(3) >= OFFSETS:
            mask = mask.contiguous()
        strides = mask.stride()
    processors = _processors(q.device)
    launch_name = plan.long_launch_name(batch * heads, lq, processors, mask is not None) if which == "long" else which
    launch = _launch(launch_name, head_dim, q)
    first, second = plan.split(head_dim)
    tiles = -(-lq // launch.block_m)
    batches = (q.stride(0) // 8, k.stride(0) // 8, v.stride(0) // 8)
    arguments = (
        q,
        k,
        v,
        out,
        q if mask is None else mask,
        _qk_scale(scale, head_dim),
        *batches,
        *strides,
        lq,
        lk,
        repeat,
    )
    constants = {
        "HEADS": heads,
        "D": head_dim,
        "FIRST": first,
        "SECOND": second,
        "ROW_Q": q.stride(1),
        "ROW_K": k.stride(1),
        "ROW_V": v.stride(1),
        "BLOCK_M": launch.block_m,
        "MASK": mask is not None,
        **_how(q),
    }
    options = {"num_warps": launch.num_warps, "num_stages": launch.num_stages, "enable_fp_fusion": True}
    with on_device_of(q):
        if which == "long":
            even = lk % launch.block_n == 0
            grid = (batch * heads * tiles,)
            long_attention[grid](*arguments, **constants, BLOCK_N=launch.block_n, EVEN_N=even, **options)
        else:
            keys0, keys1 = plan.split(lk)
            share = share_tiles(batch * heads, tiles, processors)
            grid = (batch * heads * -(-tiles // share),)
            short_attention[grid](*arguments, share, **constants, KEYS0=keys0, KEYS1=keys1, **options)
    return out


def frame_attention(q: Tensor, k: Tensor, v: Tensor, heads: int, scale: float | None = None) -> Tensor:
    """As `reference.frame_attention`; the frames are read where they lie, at most `plan.LONGEST_FRAMES` of them."""
    batch, frames, places, width = q.shape
    q, k, v = readable(q), readable(k), readable(v)
    out = torch.empty((batch, frames, places, width), dtype=q.dtype, device=q.device)
    _packed(q, k, v, out, heads, scale, sequences=batch * places, places=places, length=frames)
    return out


def why_not_frames(case: Case) -> str | None:
    if case.size("Lq") > plan.LONGEST_FRAMES:
        return f"the kernel takes films of up to {plan.LONGEST_FRAMES} frames, this has {case.size('Lq')}"
    return why_not(case)


def _packed(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    heads: int,
    scale: float | None,
    sequences: int,
    places: int,
    length: int,
) -> None:
    """q, k, v, out: "N L H·D", or "B L S H·D" with S = places and B·S = sequences."""
    from custom_kernels.attention_kernels import packed_attention

    head_dim = q.shape[-1] // heads
    launch = _launch("packed", head_dim, q)
    block = max(launch.block_m, 1 << (length - 1).bit_length())
    first, second = plan.split(head_dim)
    tensors = (q, k, v, out)
    place = [x.stride(2) if x.dim() == 4 else 0 for x in tensors]
    with on_device_of(q):
        packed_attention[(-(-sequences // (block // length)) * heads,)](
            *tensors,
            _qk_scale(scale, head_dim),
            *(x.stride(0) // 8 for x in tensors),
            *(x.stride(1) // 8 for x in tensors),
            sequences,
            places,
            L=length,
            HEADS=heads,
            D=head_dim,
            FIRST=first,
            SECOND=second,
            PLACE_Q=place[0],
            PLACE_K=place[1],
            PLACE_V=place[2],
            PLACE_O=place[3],
            BLOCK_M=block,
            num_warps=launch.num_warps,
            num_stages=launch.num_stages,
            enable_fp_fusion=True,
            **_how(q),
        )


def readable(x: Tensor) -> Tensor:
    """x if the kernels can read it where it lies, else a copy.

    They can if elements of a row are neighbours, rows begin at multiples of 16 bytes, and the row stride is one of the few
    for which a kernel is compiled: one to four widths, as packed projections have them.
    """
    row, width = x.stride(-2), x.shape[-1]
    rows_fit = row % width == 0 and 1 <= row // width <= 4
    if rows_fit and x.stride(-1) == 1 and all(s % 8 == 0 for s in x.stride()[:-1]) and x.data_ptr() % 16 == 0:
        return x
    return x.clone(memory_format=torch.contiguous_format)


def share_tiles(rows: int, tiles: int, processors: int) -> int:
    """How many tiles of queries one program of the short kernel computes with the keys it holds.

    As many as leave eight programs per multiprocessor, so that none idles; at most 16.
    """
    return max(1, min(16, tiles, rows * tiles // (8 * processors)))


def _qk_scale(scale: float | None, head_dim: int) -> float:
    return LOG2E * (head_dim**-0.5 if scale is None else scale)


@contextmanager
def launched(trial: plan.Launch) -> Iterator[None]:
    """Within it every kernel is launched so, whatever the tables say."""
    token = _TRIAL.set(trial)
    try:
        yield
    finally:
        _TRIAL.reset(token)


def _launch(which: str, head_dim: int, x: Tensor) -> plan.Launch:
    trial = _TRIAL.get()
    if trial is not None:
        return trial
    facts = device_facts(x.device)
    dtype = str(x.dtype).removeprefix("torch.")
    return plan.launch(which, head_dim, dtype, facts.arch, tuned.tuned_for(facts).launches)


def _how(x: Tensor) -> dict[str, object]:
    """IEEE float32 products; bfloat16 multiplied in float32 where Triton is interpreted."""
    return {"PRECISION": "ieee", "UPCAST": x.dtype == torch.bfloat16 and interpreting()}


@lru_cache(maxsize=64)
def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
