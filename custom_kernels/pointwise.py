"""The rows of the table for the pointwise operations: GEGLU and the addition of residuals."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from custom_kernels import reference
from custom_kernels.implementation import Implementation, always


def torch_geglu(x: Tensor) -> Tensor:
    """As diffusers computes it."""
    value, gate = x.chunk(2, dim=-1)
    return value * F.gelu(gate)


def torch_add_scaled(x: Tensor, residual: Tensor, factor: float = 1.0) -> Tensor:
    total = x + residual
    return total if factor == 1.0 else total * factor


GEGLU = (
    Implementation("torch", torch_geglu, always),
    Implementation("reference", reference.geglu, always),
)
ADD_SCALED = (
    Implementation("torch", torch_add_scaled, always),
    Implementation("reference", reference.add_scaled, always),
)
