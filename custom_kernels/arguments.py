"""What the arguments of every operation must keep: shapes, types and devices, told before anything runs.

Also run on meta tensors, so that torch.compile and CUDA graphs meet the same errors.
"""

from __future__ import annotations

import torch
from torch import Tensor

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_attention(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None, scale: float | None) -> None:
    _check_float("attention", q=q, k=k, v=v)
    shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}, {heads} heads"
    if q.dim() != 3 or k.dim() != 3 or k.shape != v.shape or q.shape[2] != k.shape[2]:
        raise ValueError(f'attention takes q "B Lq H·D" and k, v "Bk Lk H·D"; got {shapes}')
    _check_heads("attention", q, heads, shapes, scale)
    if k.shape[1] == 0:
        raise ValueError(f"attention over no keys is not defined; got {shapes}")
    if q.shape[0] % k.shape[0] if k.shape[0] else q.shape[0]:
        raise ValueError(f"the batch of k and v must divide the batch of q; got {shapes}")
    if mask is not None:
        _check_float("attention", q=q, mask=mask, same_dtype=False)
        full = (q.shape[0], heads, q.shape[1], k.shape[1])
        if mask.dim() != 4 or any(have not in (1, want) for have, want in zip(mask.shape, full, strict=True)):
            raise ValueError(
                f'an attention mask is added to the scores and must broadcast to "B H Lq Lk" = {full}; '
                f"got {tuple(mask.shape)}. Give it four dimensions, 1 where it is the same for all"
            )


def check_frame_attention(q: Tensor, k: Tensor, v: Tensor, heads: int, scale: float | None) -> None:
    _check_float("frame_attention", q=q, k=k, v=v)
    shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}, {heads} heads"
    if q.dim() != 4 or q.shape != k.shape or q.shape != v.shape:
        raise ValueError(f'frame_attention takes q, k, v of one shape "B F S H·D"; got {shapes}')
    _check_heads("frame_attention", q, heads, shapes, scale)


def _check_heads(operation: str, q: Tensor, heads: int, shapes: str, scale: float | None) -> None:
    if heads < 1 or q.shape[-1] % heads or q.shape[-1] == 0:
        raise ValueError(f"{operation}: the width must be a positive multiple of the heads; got {shapes}")
    if scale is not None and not scale > 0:
        raise ValueError(f"{operation}: scale must be positive, got {scale}")


def check_group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor | None,
    bias: Tensor | None,
    add: Tensor | None,
    scale: Tensor | None,
    shift: Tensor | None,
) -> None:
    _check_float("group_norm_silu", x=x, weight=weight, bias=bias, add=add, scale=scale, shift=shift, same_dtype=False)
    if x.dim() < 2 or groups < 1 or x.shape[1] % groups or x.shape[1] == 0:
        raise ValueError(f'group_norm_silu takes "N C *" with C a multiple of {groups} groups; got {tuple(x.shape)}')
    for name, parameter, want in (
        ("weight", weight, x.shape[1:2]),
        ("bias", bias, x.shape[1:2]),
    ):
        if parameter is not None and parameter.shape != want:
            raise ValueError(f"group_norm_silu: {name} must be {tuple(want)}, got {tuple(parameter.shape)}")
    lines = {name: line for name, line in (("add", add), ("scale", scale), ("shift", shift)) if line is not None}
    for name, line in lines.items():
        first = next(iter(lines.values()))
        if line.dim() != 2 or line.shape[1] != x.shape[1] or not line.shape[0] or x.shape[0] % line.shape[0]:
            raise ValueError(
                f'group_norm_silu: {name} must be "M C" with M a divisor of {x.shape[0]} and C {x.shape[1]}, '
                f"got {tuple(line.shape)}"
            )
        if line.shape != first.shape:
            raise ValueError(f"group_norm_silu: add, scale and shift must have one shape, got {tuple(line.shape)} too")


def check_add_bias(x: Tensor, residual: Tensor, bias: Tensor | None) -> None:
    _check_float("add_bias", x=x, residual=residual)
    _check_float("add_bias", x=x, bias=bias, same_dtype=False)
    if x.dim() < 1 or x.shape != residual.shape or (bias is not None and bias.shape != x.shape[-1:]):
        told = None if bias is None else tuple(bias.shape)
        raise ValueError(
            f'add_bias takes x and residual of one shape "* C" and a bias "C"; got {tuple(x.shape)}, '
            f"{tuple(residual.shape)} and {told}"
        )


def check_add_layer_norm(x: Tensor, residual: Tensor, weight: Tensor | None, bias: Tensor | None) -> None:
    _check_float("add_layer_norm", x=x, residual=residual)
    if x.shape != residual.shape:
        raise ValueError(f"add_layer_norm takes two equal shapes; got {tuple(x.shape)} and {tuple(residual.shape)}")
    check_layer_norm(x, weight, bias)


def check_layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> None:
    _check_float("layer_norm", x=x, weight=weight, bias=bias, same_dtype=False)
    if x.dim() < 1 or x.shape[-1] == 0:
        raise ValueError(f'layer_norm takes "* C"; got {tuple(x.shape)}')
    for name, parameter in (("weight", weight), ("bias", bias)):
        if parameter is not None and parameter.shape != x.shape[-1:]:
            raise ValueError(f"layer_norm: {name} must be {tuple(x.shape[-1:])}, got {tuple(parameter.shape)}")


def check_geglu(x: Tensor) -> None:
    _check_float("geglu", x=x)
    if x.dim() < 1 or x.shape[-1] % 2:
        raise ValueError(f'geglu takes "* 2C"; got {tuple(x.shape)}')


def check_add_scaled(x: Tensor, residual: Tensor) -> None:
    _check_float("add_scaled", x=x, residual=residual)
    if x.shape != residual.shape:
        raise ValueError(f"add_scaled takes two equal shapes; got {tuple(x.shape)} and {tuple(residual.shape)}")


def _check_float(operation: str, same_dtype: bool = True, **tensors: Tensor | None) -> None:
    given = {name: x for name, x in tensors.items() if x is not None}
    first = next(iter(given.values()))
    wrong = ""
    if any(x.dtype not in FLOATS for x in given.values()):
        wrong = " takes float16, bfloat16, float32 or float64; got {}"
    elif any(x.device != first.device for x in given.values()):
        wrong = ": all tensors must be on one device; got {}"
    elif same_dtype and any(x.dtype != first.dtype for x in given.values()):
        wrong = ": all tensors must have one type; got {}. Cast them first"
    if wrong:  # the words are looked for only now: this runs hundreds of times per step
        told = ", ".join(f"{name} {str(x.dtype).removeprefix('torch.')} on {x.device}" for name, x in given.items())
        raise ValueError(operation + wrong.format(told))
