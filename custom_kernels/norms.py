"""The rows of the table for group normalisation with SiLU and for layer normalisation."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from custom_kernels import reference
from custom_kernels.device import on_device_of, why_not_pointwise
from custom_kernels.implementation import Case, Implementation, always


def torch_group_norm_silu(
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
    """As diffusers computes it, in the input's type."""
    add, scale, shift = (None if line is None else reference.lines_of(line, x) for line in (add, scale, shift))
    if add is not None:
        x = x + add
    y = F.group_norm(x, groups, weight, bias, eps)
    if scale is not None:
        y = y * (1 + scale)
    if shift is not None:
        y = y + shift
    return F.silu(y) if silu else y


def torch_layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float = 1e-5) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], weight, bias, eps)


def torch_add_layer_norm(
    x: Tensor, residual: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float = 1e-5
) -> tuple[Tensor, Tensor]:
    total = x + residual
    return total, torch_layer_norm(total, weight, bias, eps)


def triton_group_norm_silu(x: Tensor, *rest: Any) -> Tensor:
    from custom_kernels.group_norm import group_norm_silu

    with on_device_of(x):
        return group_norm_silu(x, *rest)


def triton_add_layer_norm(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    from custom_kernels.residual import add_layer_norm

    with on_device_of(x):
        return add_layer_norm(x, *rest)


def why_not_wide(case: Case) -> str | None:
    """A row is normed in the registers of one program."""
    if case.size("C") > WIDEST_ROW:
        return f"the kernel norms rows of up to {WIDEST_ROW}, these are {case.size('C')}"
    return why_not_pointwise(case)


def why_not_groups(case: Case) -> str | None:
    if case.size("C") // case.size("G") > WIDEST_GROUP:
        return f"the kernel takes groups of up to {WIDEST_GROUP} channels, these are {case.size('C') // case.size('G')}"
    return why_not_pointwise(case)


WIDEST_ROW = 8192
WIDEST_GROUP = 256
GROUP_NORM_SILU = (
    Implementation("triton", triton_group_norm_silu, why_not_groups),
    Implementation("torch", torch_group_norm_silu, always),
    Implementation("reference", reference.group_norm_silu, always),
)
LAYER_NORM = (
    Implementation("torch", torch_layer_norm, always),
    Implementation("reference", reference.layer_norm, always),
)
ADD_LAYER_NORM = (
    Implementation("triton", triton_add_layer_norm, why_not_wide),
    Implementation("torch", torch_add_layer_norm, always),
    Implementation("reference", reference.add_layer_norm, always),
)
