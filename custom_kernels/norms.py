"""The rows of the table for group normalisation with SiLU and for layer normalisation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from custom_kernels import reference
from custom_kernels.implementation import Implementation, always


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
    broadcast = (*x.shape[:2], *(1,) * (x.dim() - 2))
    if add is not None:
        x = x + add.reshape(broadcast)
    y = F.group_norm(x, groups, weight, bias, eps)
    if scale is not None:
        y = y * (1 + scale.reshape(broadcast))
    if shift is not None:
        y = y + shift.reshape(broadcast)
    return F.silu(y) if silu else y


def torch_layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float = 1e-5) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], weight, bias, eps)


GROUP_NORM_SILU = (
    Implementation("torch", torch_group_norm_silu, always),
    Implementation("reference", reference.group_norm_silu, always),
)
LAYER_NORM = (
    Implementation("torch", torch_layer_norm, always),
    Implementation("reference", reference.layer_norm, always),
)
