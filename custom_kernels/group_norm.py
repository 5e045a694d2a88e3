"""Group norm in channels-last, with what stands before and after it: the time embedding, SiLU.

    y = silu(a * x + b),   a = weight / std * (1 + scale),   b = (bias + weight / std * (add - mean)) * (1 + scale) + shift

What is added (a time embedding) is constant over the pixels, so it moves the mean of a channel and leaves its spread as it
is: neither it nor scale and shift cost a pass. Mean and spread are merged chunk by chunk (Chan, Golub, LeVeque 1979), which
does not cancel where the mean is large against the spread.

Three kernels: `_chunks` reads x once and gives mean and spread per channel of each chunk, `_fold` makes a and b of them,
`_apply` reads x again and writes y. What fits into the registers of one block takes one kernel, `_whole`.

The width is an argument: Triton compiles once for all that are multiples of 16, and knows that they are. The size of a
group is a constant, because 40 channels are no multiple of 16, and without knowing them loads are 2 bytes wide.

Source: group normalisation, arXiv 1803.08494.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

WHOLE_ELEMENTS = 16384
"""A group of at most this many elements (both sides rounded up to powers of two) is one program's work."""
CHUNKS = 64
"""At most this many chunks per item: `_fold` holds them all at once."""


@triton.jit
def _silu(y):
    return y * (1.0 / (1.0 + tl.exp(-y)))


@triton.jit
def _chunks(X, MEAN, SPREAD, length, chunk, chunks, C, BLOCK_L: tl.constexpr, BLOCK_C: tl.constexpr):
    """Program (item and chunk, channels): mean and summed squared distance of each channel."""
    item = (tl.program_id(0) // chunks).to(tl.int64)
    first = (tl.program_id(0) % chunks) * chunk
    last = tl.minimum(first + chunk, length)
    cols = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = cols < C
    mean = tl.zeros([BLOCK_C], tl.float32)
    spread = tl.zeros([BLOCK_C], tl.float32)
    seen = 0.0
    for start in range(first, last, BLOCK_L):
        rows = start + tl.arange(0, BLOCK_L)
        there = (rows < last)[:, None] & inside[None, :]
        x = tl.load(X + (item * length + rows)[:, None] * C + cols[None, :], mask=there, other=0.0).to(tl.float32)
        count = tl.minimum(last - start, BLOCK_L).to(tl.float32)
        here = tl.sum(x, axis=0) / count
        away = tl.where(there, x - here[None, :], 0.0)
        apart = here - mean
        total = seen + count
        mean += apart * (count / total)
        spread += tl.sum(away * away, axis=0) + apart * apart * (seen * count / total)
        seen = total
    place = tl.program_id(0).to(tl.int64) * C + cols
    tl.store(MEAN + place, mean, mask=inside)
    tl.store(SPREAD + place, spread, mask=inside)


@triton.jit
def _fold(
    MEAN,
    SPREAD,
    WEIGHT,
    BIAS,
    ADD,
    SCALE,
    SHIFT,
    A,
    B,
    length,
    chunk,
    chunks,
    groups,
    shared,
    eps,
    C,
    SIZE: tl.constexpr,
    SCALED: tl.constexpr,
    BIASED: tl.constexpr,
    HAS_ADD: tl.constexpr,
    HAS_SCALE: tl.constexpr,
    HAS_SHIFT: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_G: tl.constexpr,
):
    """Program (item, group): factor and summand of its channels."""
    item = (tl.program_id(0) // groups).to(tl.int64)
    within = tl.arange(0, BLOCK_G)
    cols = (tl.program_id(0) % groups) * SIZE + within
    own = within < SIZE
    part = tl.arange(0, BLOCK_K)
    there = (part < chunks)[:, None] & own[None, :]
    place = (item * chunks + part)[:, None] * C + cols[None, :]
    mean = tl.load(MEAN + place, mask=there, other=0.0)
    spread = tl.load(SPREAD + place, mask=there, other=0.0)
    count = tl.where(part < chunks, tl.minimum(length - part * chunk, chunk), 0).to(tl.float32)
    row = (item // shared) * C + cols
    added = tl.zeros([BLOCK_G], tl.float32)
    if HAS_ADD:
        added = tl.load(ADD + row, mask=own, other=0.0).to(tl.float32)
        mean = mean + added[None, :]
    total = tl.cast(length, tl.float32) * SIZE  # of a length of 1 Triton makes a number that has no `to`
    middle = tl.sum(tl.sum(tl.where(there, mean * count[:, None], 0.0), axis=0), axis=0) / total
    away = tl.where(there, mean - middle, 0.0)
    variance = tl.sum(tl.sum(spread + away * away * count[:, None], axis=0), axis=0) / total
    a = tl.zeros([BLOCK_G], tl.float32) + 1.0 / tl.sqrt(variance + eps)
    b = a * (added - middle)
    if SCALED:
        weight = tl.load(WEIGHT + cols, mask=own, other=0.0).to(tl.float32)
        a = a * weight
        b = b * weight
    if BIASED:
        b = b + tl.load(BIAS + cols, mask=own, other=0.0).to(tl.float32)
    if HAS_SCALE:
        more = 1.0 + tl.load(SCALE + row, mask=own, other=0.0).to(tl.float32)
        a = a * more
        b = b * more
    if HAS_SHIFT:
        b = b + tl.load(SHIFT + row, mask=own, other=0.0).to(tl.float32)
    tl.store(A + item * C + cols, a, mask=own)
    tl.store(B + item * C + cols, b, mask=own)


@triton.jit
def _apply(X, A, B, Y, length, blocks, C, SILU: tl.constexpr, BLOCK_L: tl.constexpr, BLOCK_C: tl.constexpr):
    item = (tl.program_id(0) // blocks).to(tl.int64)
    rows = (tl.program_id(0) % blocks) * BLOCK_L + tl.arange(0, BLOCK_L)
    cols = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = cols < C
    there = (rows < length)[:, None] & inside[None, :]
    place = (item * length + rows)[:, None] * C + cols[None, :]
    a = tl.load(A + item * C + cols, mask=inside, other=0.0)
    b = tl.load(B + item * C + cols, mask=inside, other=0.0)
    y = tl.load(X + place, mask=there, other=0.0).to(tl.float32) * a[None, :] + b[None, :]
    if SILU:
        y = _silu(y)
    tl.store(Y + place, y.to(Y.dtype.element_ty), mask=there)


@triton.jit
def _whole(
    X,
    WEIGHT,
    BIAS,
    ADD,
    SCALE,
    SHIFT,
    Y,
    length,
    groups,
    shared,
    eps,
    C,
    SIZE: tl.constexpr,
    SCALED: tl.constexpr,
    BIASED: tl.constexpr,
    HAS_ADD: tl.constexpr,
    HAS_SCALE: tl.constexpr,
    HAS_SHIFT: tl.constexpr,
    SILU: tl.constexpr,
    BLOCK_L: tl.constexpr,
    BLOCK_G: tl.constexpr,
):
    """Program (item, group): all of it in registers."""
    item = (tl.program_id(0) // groups).to(tl.int64)
    within = tl.arange(0, BLOCK_G)
    cols = (tl.program_id(0) % groups) * SIZE + within
    own = within < SIZE
    rows = tl.arange(0, BLOCK_L)
    there = (rows < length)[:, None] & own[None, :]
    place = (item * length + rows)[:, None] * C + cols[None, :]
    x = tl.load(X + place, mask=there, other=0.0).to(tl.float32)
    row = (item // shared) * C + cols
    if HAS_ADD:
        x = x + tl.load(ADD + row, mask=own, other=0.0).to(tl.float32)[None, :]
    total = tl.cast(length, tl.float32) * SIZE  # of a length of 1 Triton makes a number that has no `to`
    middle = tl.sum(tl.sum(tl.where(there, x, 0.0), axis=0), axis=0) / total
    away = tl.where(there, x - middle, 0.0)
    variance = tl.sum(tl.sum(away * away, axis=0), axis=0) / total
    a = tl.zeros([BLOCK_G], tl.float32) + 1.0 / tl.sqrt(variance + eps)
    b = tl.zeros([BLOCK_G], tl.float32)
    if SCALED:
        a = a * tl.load(WEIGHT + cols, mask=own, other=0.0).to(tl.float32)
    if BIASED:
        b = tl.load(BIAS + cols, mask=own, other=0.0).to(tl.float32)
    if HAS_SCALE:
        more = 1.0 + tl.load(SCALE + row, mask=own, other=0.0).to(tl.float32)
        a = a * more
        b = b * more
    if HAS_SHIFT:
        b = b + tl.load(SHIFT + row, mask=own, other=0.0).to(tl.float32)
    y = away * a[None, :] + b[None, :]
    if SILU:
        y = _silu(y)
    tl.store(Y + place, y.to(Y.dtype.element_ty), mask=there)


def group_norm_silu(
    x: Tensor,
    groups: int,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float = 1e-5,
    add: Tensor | None = None,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    silu: bool = True,
) -> Tensor:
    """As `reference.group_norm_silu`: x "N C *". An x that is not channels-last in memory is copied to be it."""
    rows = x.movedim(1, -1)
    made = _rows(
        rows.reshape(x.shape[0], -1, x.shape[1]).contiguous(), groups, weight, bias, eps, add, scale, shift, silu
    )
    return made.reshape(rows.shape).movedim(-1, 1)


def _rows(
    x: Tensor,
    groups: int,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    add: Tensor | None,
    scale: Tensor | None,
    shift: Tensor | None,
    silu: bool,
) -> Tensor:
    """x "N L C", contiguous."""
    items, length, channels = x.shape
    size = channels // groups
    y = torch.empty_like(x)
    served = next((line.shape[0] for line in (add, scale, shift) if line is not None), items)
    # A kernel needs a pointer also where nothing is read, and goes from element to neighbour: views are copied.
    pointers = [x if line is None else line.contiguous() for line in (weight, bias, add, scale, shift)]
    given = {
        "C": channels,
        "SIZE": size,
        "SCALED": weight is not None,
        "BIASED": bias is not None,
        "HAS_ADD": add is not None,
        "HAS_SCALE": scale is not None,
        "HAS_SHIFT": shift is not None,
    }
    block_g, whole_l = triton.next_power_of_2(size), triton.next_power_of_2(length)
    if whole_l * block_g <= WHOLE_ELEMENTS:
        warps = warps_of(whole_l * block_g)
        _whole[(items * groups,)](
            x,
            *pointers,
            y,
            length,
            groups,
            items // served,
            eps,
            **given,
            SILU=silu,
            BLOCK_L=whole_l,
            BLOCK_G=block_g,
            num_warps=warps,
        )
        return y
    plan = plan_of(length, channels)
    parts = torch.empty(2, items, plan.chunks, channels, dtype=torch.float32, device=x.device)
    folded = torch.empty(2, items, channels, dtype=torch.float32, device=x.device)
    columns = triton.cdiv(channels, plan.block_c)
    _chunks[(items * plan.chunks, columns)](
        x,
        parts[0],
        parts[1],
        length,
        plan.chunk,
        plan.chunks,
        C=channels,
        BLOCK_L=plan.read_l,
        BLOCK_C=plan.block_c,
        num_warps=8,
    )
    _fold[(items * groups,)](
        parts[0],
        parts[1],
        *pointers,
        folded[0],
        folded[1],
        length,
        plan.chunk,
        plan.chunks,
        groups,
        items // served,
        eps,
        **given,
        BLOCK_K=triton.next_power_of_2(plan.chunks),
        BLOCK_G=block_g,
        num_warps=4,
    )
    blocks = triton.cdiv(length, plan.write_l)
    _apply[(items * blocks, columns)](
        x,
        folded[0],
        folded[1],
        y,
        length,
        blocks,
        C=channels,
        SILU=silu,
        BLOCK_L=plan.write_l,
        BLOCK_C=plan.block_c,
        num_warps=4,
    )
    return y


class Plan(NamedTuple):
    """How the rows of an item are dealt out: `chunks` of `chunk` rows are read, blocks of `write_l` rows written."""

    block_c: int
    read_l: int
    write_l: int
    chunk: int
    chunks: int


def plan_of(length: int, channels: int) -> Plan:
    """Chunks are whole blocks, so that only the last one of an item is short."""
    block_c = block_of(channels)
    read_l, write_l = max(16, 8192 // block_c), max(8, 4096 // block_c)
    chunk = triton.cdiv(triton.cdiv(length, CHUNKS), read_l) * read_l
    return Plan(block_c, read_l, write_l, chunk, triton.cdiv(length, chunk))


def warps_of(elements: int) -> int:
    """Warps that hold a group in their registers: 32 values per thread at most."""
    return 16 if elements > 8192 else 8 if elements > 4096 else 4


def block_of(channels: int) -> int:
    """Channels per program: 64 divides the widths of all the models, and 64 x 2 bytes are four whole sectors of memory."""
    for block in (128, 64):
        if channels % block == 0:
            return block
    return min(64, triton.next_power_of_2(channels))
