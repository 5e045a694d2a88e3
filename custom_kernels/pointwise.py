"""The rows of the table for the pointwise operations: GEGLU and the addition of residuals."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from custom_kernels import reference
from custom_kernels.device import on_device_of, why_not_pointwise
from custom_kernels.implementation import Implementation, always


def torch_geglu(x: Tensor) -> Tensor:
    """As diffusers computes it."""
    value, gate = x.chunk(2, dim=-1)
    return value * F.gelu(gate)


def torch_add_scaled(x: Tensor, residual: Tensor, factor: float = 1.0) -> Tensor:
    total = x + residual
    return total if factor == 1.0 else total * factor


def torch_add_bias(x: Tensor, residual: Tensor, bias: Tensor | None = None) -> Tensor:
    return (x if bias is None else x + bias) + residual


def triton_geglu(x: Tensor) -> Tensor:
    from custom_kernels.geglu import geglu

    with on_device_of(x):
        return geglu(x.contiguous())


def triton_add_bias(x: Tensor, residual: Tensor, bias: Tensor | None = None) -> Tensor:
    from custom_kernels.residual import add

    with on_device_of(x):
        return add(x.contiguous(), residual.contiguous(), bias)


GEGLU = (
    Implementation("triton", triton_geglu, why_not_pointwise),
    Implementation("torch", torch_geglu, always),
    Implementation("reference", reference.geglu, always),
)
ADD_SCALED = (
    Implementation("torch", torch_add_scaled, always),
    Implementation("reference", reference.add_scaled, always),
)
ADD_BIAS = (
    Implementation("triton", triton_add_bias, why_not_pointwise),
    Implementation("torch", torch_add_bias, always),
    Implementation("reference", reference.add_bias, always),
)
