"""What is added to the stream, together with what reads the sum next.

`add`: x + residual + bias, where a convolution's bias and the shortcut of a block are one pass instead of two.
`add_layer_norm`: s = x + residual, and the layer norm of s, which else would read s again.

Source: layer normalisation, arXiv 1607.06450.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _add(X, RESIDUAL, BIAS, Y, rows, C, BIASED: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr):
    row = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    col = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    there = (row < rows)[:, None] & (col < C)[None, :]
    place = row.to(tl.int64)[:, None] * C + col[None, :]
    y = tl.load(X + place, mask=there, other=0.0).to(tl.float32)
    y += tl.load(RESIDUAL + place, mask=there, other=0.0).to(tl.float32)
    if BIASED:
        y += tl.load(BIAS + col, mask=col < C, other=0.0).to(tl.float32)[None, :]
    tl.store(Y + place, y.to(Y.dtype.element_ty), mask=there)


@triton.jit
def _add_layer_norm(
    X,
    RESIDUAL,
    WEIGHT,
    BIAS,
    SUM,
    NORM,
    rows,
    eps,
    C,
    SCALED: tl.constexpr,
    BIASED: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    row = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    col = tl.arange(0, BLOCK_C)
    inside = col < C
    there = (row < rows)[:, None] & inside[None, :]
    place = row.to(tl.int64)[:, None] * C + col[None, :]
    total = tl.load(X + place, mask=there, other=0.0).to(tl.float32)
    total += tl.load(RESIDUAL + place, mask=there, other=0.0).to(tl.float32)
    # What is normed is what is handed on: rounded, as the layer norm would have read it.
    kept = total.to(SUM.dtype.element_ty)
    tl.store(SUM + place, kept, mask=there)
    total = kept.to(tl.float32)
    mean = tl.sum(total, axis=1) / C
    away = tl.where(there, total - mean[:, None], 0.0)
    scale = 1.0 / tl.sqrt(tl.sum(away * away, axis=1) / C + eps)
    y = away * scale[:, None]
    if SCALED:
        y = y * tl.load(WEIGHT + col, mask=inside, other=0.0).to(tl.float32)[None, :]
    if BIASED:
        y = y + tl.load(BIAS + col, mask=inside, other=0.0).to(tl.float32)[None, :]
    tl.store(NORM + place, y.to(NORM.dtype.element_ty), mask=there)


def add(x: Tensor, residual: Tensor, bias: Tensor | None = None) -> Tensor:
    """ "... C" three times, contiguous; bias "C", of any stride."""
    channels = x.shape[-1]
    y = torch.empty_like(x)
    rows = x.numel() // channels
    block_c = min(512, triton.next_power_of_2(channels))
    block_r = max(1, 2048 // block_c)
    _add[(triton.cdiv(rows, block_r), triton.cdiv(channels, block_c))](
        x,
        residual,
        x if bias is None else bias.contiguous(),
        y,
        rows,
        C=channels,
        BIASED=bias is not None,
        BLOCK_R=block_r,
        BLOCK_C=block_c,
        num_warps=4,
    )
    return y


def add_layer_norm(
    x: Tensor, residual: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float = 1e-5
) -> tuple[Tensor, Tensor]:
    """ "... C" twice: the sum, and its layer norm."""
    x, residual = x.contiguous(), residual.contiguous()
    channels = x.shape[-1]
    total, normed = torch.empty_like(x), torch.empty_like(x)
    rows = x.numel() // channels
    block_c = triton.next_power_of_2(channels)
    block_r = max(1, 2048 // block_c)
    _add_layer_norm[(triton.cdiv(rows, block_r),)](
        x,
        residual,
        x if weight is None else weight.contiguous(),
        x if bias is None else bias.contiguous(),
        total,
        normed,
        rows,
        eps,
        C=channels,
        SCALED=weight is not None,
        BIASED=bias is not None,
        BLOCK_R=block_r,
        BLOCK_C=block_c,
        num_warps=4 if block_c * block_r <= 2048 else 8,
    )
    return total, normed
