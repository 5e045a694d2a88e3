"""GEGLU's gate: `value * gelu(gate)` of one projection "R 2I" that holds both, in one pass.

Eager torch makes three: gelu reads and writes, the product reads twice and writes. The GELU is the exact one (erf).

Source: gated linear units, arXiv 2002.05202.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _geglu(X, Y, rows, INNER, BLOCK_R: tl.constexpr, BLOCK_I: tl.constexpr):
    row = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    col = tl.program_id(1) * BLOCK_I + tl.arange(0, BLOCK_I)
    there = (row < rows)[:, None] & (col < INNER)[None, :]
    wide = row.to(tl.int64)[:, None] * (2 * INNER) + col[None, :]
    value = tl.load(X + wide, mask=there, other=0.0).to(tl.float32)
    gate = tl.load(X + wide + INNER, mask=there, other=0.0).to(tl.float32)
    made = value * (0.5 * gate * (1.0 + tl.erf(gate * 0.7071067811865476)))
    tl.store(Y + row.to(tl.int64)[:, None] * INNER + col[None, :], made.to(Y.dtype.element_ty), mask=there)


def geglu(x: Tensor) -> Tensor:
    """ "... 2I", contiguous, to "... I"."""
    inner = x.shape[-1] // 2
    y = torch.empty(*x.shape[:-1], inner, dtype=x.dtype, device=x.device)
    rows = y.numel() // inner
    block_i = min(512, triton.next_power_of_2(inner))
    block_r = max(1, 1024 // block_i)
    _geglu[(triton.cdiv(rows, block_r), triton.cdiv(inner, block_i))](
        x, y, rows, INNER=inner, BLOCK_R=block_r, BLOCK_I=block_i, num_warps=4
    )
    return y
