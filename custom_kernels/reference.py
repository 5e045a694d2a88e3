"""Every operation in plain torch: what the kernels are held to.

Slow and memory-hungry on purpose. Half-precision inputs are computed in float32 and rounded once at the end, float64
inputs in float64, so that a test may call these with float64 to get the truth.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def attention(
    q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """softmax(q kᵀ · scale + mask) v, per head (Vaswani et al. 2017, section 3.2.1).

    q "B Lq H·D"; k, v "Bk Lk H·D", where Bk divides B: each row of k and v serves B/Bk neighbouring rows of q. The mask is
    added and broadcasts to "B H Lq Lk". `scale` is D^-0.5 if None. A query whose keys are all masked with -inf gets
    zeros. Gives "B Lq H·D".
    """
    wide = torch.promote_types(q.dtype, torch.float32)
    head_dim = q.shape[2] // heads
    repeat = q.shape[0] // k.shape[0]
    query, key, value = (split_heads(x, heads).to(wide) for x in (q, k, v))
    key, value = (x.repeat_interleave(repeat, dim=0) for x in (key, value))
    scores = query @ key.transpose(2, 3) * (head_dim**-0.5 if scale is None else scale)
    if mask is not None:
        scores = scores + mask.to(wide)
    weights = scores.softmax(dim=3)
    if mask is not None:
        weights = weights.masked_fill((scores == float("-inf")).all(dim=3, keepdim=True), 0.0)
    return join_heads(weights @ value).to(q.dtype)


def frame_attention(q: Tensor, k: Tensor, v: Tensor, heads: int, scale: float | None = None) -> Tensor:
    """Attention along the frames of a film, each place by itself: q, k, v "B F S H·D" give "B F S H·D"."""
    batch, frames, places, width = q.shape
    rows = [x.transpose(1, 2).reshape(batch * places, frames, width) for x in (q, k, v)]
    return (
        attention(rows[0], rows[1], rows[2], heads, scale=scale).reshape(batch, places, frames, width).transpose(1, 2)
    )


def split_heads(x: Tensor, heads: int) -> Tensor:
    """ "B L H·D" as "B H L D", without a copy."""
    return x.unflatten(2, (heads, x.shape[2] // heads)).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """ "B H L D" to "B L H·D"."""
    return x.transpose(1, 2).flatten(2)


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
    """silu(norm(x + add) · (1 + scale) + shift), with the norm over each of `groups` channel groups (Wu and He 2018).

    x "N C *"; weight and bias "C"; add, scale and shift "M C" (the time embedding), where M divides N: each row serves
    N/M neighbouring items, the frames of a film. Strides of the result follow x, so a channels-last x gives a
    channels-last result.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    add, scale, shift = (None if line is None else lines_of(line, x) for line in (add, scale, shift))
    y = x.to(wide)
    if add is not None:
        y = y + add.to(wide)
    weight, bias = (None if p is None else p.to(wide) for p in (weight, bias))
    y = F.group_norm(y, groups, weight, bias, eps)
    if scale is not None:
        y = y * (1 + scale.to(wide))
    if shift is not None:
        y = y + shift.to(wide)
    if silu:
        y = F.silu(y)
    return torch.empty_like(x).copy_(y)


def lines_of(line: Tensor, x: Tensor) -> Tensor:
    """ "M C" laid out to be added to x "N C *", N a multiple of M."""
    repeat = x.shape[0] // line.shape[0]
    line = line if repeat == 1 else line.repeat_interleave(repeat, dim=0)
    return line.reshape(*x.shape[:2], *(1,) * (x.dim() - 2))


def geglu(x: Tensor) -> Tensor:
    """a · gelu(b), with a and b the halves of the last dimension (Shazeer 2020); gelu by the error function."""
    wide = torch.promote_types(x.dtype, torch.float32)
    value, gate = x.to(wide).chunk(2, dim=-1)
    return (value * F.gelu(gate)).to(x.dtype)


def add_scaled(x: Tensor, residual: Tensor, factor: float = 1.0) -> Tensor:
    """(x + residual) · factor, rounded once."""
    wide = torch.promote_types(x.dtype, torch.float32)
    return torch.empty_like(x).copy_((x.to(wide) + residual.to(wide)) * factor)


def layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float = 1e-5) -> Tensor:
    """Layer normalisation over the last dimension (Ba et al. 2016). x "* C"; weight and bias "C"."""
    wide = torch.promote_types(x.dtype, torch.float32)
    weight, bias = (None if p is None else p.to(wide) for p in (weight, bias))
    return torch.empty_like(x).copy_(F.layer_norm(x.to(wide), x.shape[-1:], weight, bias, eps))


def add_bias(x: Tensor, residual: Tensor, bias: Tensor | None = None) -> Tensor:
    """x + residual + bias, rounded once. x and residual "* C", bias "C"."""
    wide = torch.promote_types(x.dtype, torch.float32)
    total = x.to(wide) + residual.to(wide)
    return torch.empty_like(x).copy_(total if bias is None else total + bias.to(wide))


def add_layer_norm(
    x: Tensor, residual: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float = 1e-5
) -> tuple[Tensor, Tensor]:
    """x + residual, rounded, and the layer norm of what that is."""
    total = add_bias(x, residual)
    return total, layer_norm(total, weight, bias, eps)
