"""Operations on the stream of a network, what its blocks add to: `torch.ops.anyloom.add_bias` and `.add_layer_norm`.

As in ops.py: `kernels` says who shall compute it, gradients come from torch's own operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from custom_kernels import dispatch, norms, pointwise
from custom_kernels.arguments import check_add_bias, check_add_layer_norm
from custom_kernels.ops import case_of, seen_by_nobody, wants_gradients


def add_bias(x: Tensor, residual: Tensor, bias: Tensor | None = None, kernels: str = "auto") -> Tensor:
    """x + residual + bias; see `reference.add_bias`. x and residual "* C", bias "C"."""
    if seen_by_nobody(x, residual, bias):
        return _compute_add_bias(x, residual, bias, kernels)
    check_add_bias(x, residual, bias)
    if kernels in ("auto", "torch") and wants_gradients(x, residual, bias):
        dispatch.note("add_bias", "torch")
        return pointwise.torch_add_bias(x, residual, bias)
    result: Tensor = torch.ops.anyloom.add_bias(x, residual, bias, kernels)
    return result


def add_layer_norm(
    x: Tensor,
    residual: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    kernels: str = "auto",
) -> tuple[Tensor, Tensor]:
    """The sum of two "* C", and the layer norm of the sum; see `reference.add_layer_norm`."""
    if seen_by_nobody(x, residual, weight, bias):
        return _compute_add_layer_norm(x, residual, weight, bias, eps, kernels)
    check_add_layer_norm(x, residual, weight, bias)
    if kernels in ("auto", "torch") and wants_gradients(x, residual, weight, bias):
        dispatch.note("add_layer_norm", "torch")
        return norms.torch_add_layer_norm(x, residual, weight, bias, eps)
    total, normed = torch.ops.anyloom.add_layer_norm(x, residual, weight, bias, eps, kernels)
    return total, normed


def _compute_add_bias(x: Tensor, residual: Tensor, bias: Tensor | None, kernels: str) -> Tensor:
    check_add_bias(x, residual, bias)
    if x.numel() == 0:
        return x.new_empty(x.shape)
    row = dispatch.choose(case_of("add_bias", x, C=x.shape[-1], elements=x.numel()), kernels)
    dispatch.note("add_bias", row.name)
    made: Tensor = row.run(x, residual, bias)
    return made.contiguous()


_add_bias = torch.library.custom_op("anyloom::add_bias", mutates_args=())(_compute_add_bias)


@_add_bias.register_fake
def _(x: Tensor, residual: Tensor, bias: Tensor | None, kernels: str) -> Tensor:
    check_add_bias(x, residual, bias)
    return x.new_empty(x.shape)


def _add_bias_inputs(ctx: Any, inputs: Sequence[Any], output: Tensor) -> None:
    ctx.biased = inputs[2] is not None
    ctx.bias_dtype = inputs[2].dtype if ctx.biased else None


def _add_bias_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    bias = grad.reshape(-1, grad.shape[-1]).sum(dim=0).to(ctx.bias_dtype) if ctx.biased else None
    return grad, grad, bias, None


_add_bias.register_autograd(_add_bias_backward, setup_context=_add_bias_inputs)


def _compute_add_layer_norm(
    x: Tensor, residual: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, kernels: str
) -> tuple[Tensor, Tensor]:
    check_add_layer_norm(x, residual, weight, bias)
    if x.numel() == 0:
        return x.new_empty(x.shape), x.new_empty(x.shape)
    case = case_of("add_layer_norm", x, rows=x.numel() // x.shape[-1], C=x.shape[-1], elements=x.numel())
    row = dispatch.choose(case, kernels)
    dispatch.note("add_layer_norm", row.name)
    made: Any = row.run(x, residual, weight, bias, eps)
    return made[0].contiguous(), made[1].contiguous()


_add_layer_norm = torch.library.custom_op("anyloom::add_layer_norm", mutates_args=())(_compute_add_layer_norm)


@_add_layer_norm.register_fake
def _(
    x: Tensor, residual: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, kernels: str
) -> tuple[Tensor, Tensor]:
    check_add_layer_norm(x, residual, weight, bias)
    return x.new_empty(x.shape), x.new_empty(x.shape)


def _add_layer_norm_inputs(ctx: Any, inputs: Sequence[Any], output: tuple[Tensor, Tensor]) -> None:
    _, _, weight, bias, ctx.eps, _ = inputs
    ctx.given = (weight is not None, bias is not None)
    ctx.save_for_backward(output[0], *(p for p in (weight, bias) if p is not None))


def _add_layer_norm_backward(ctx: Any, of_total: Tensor, of_normed: Tensor) -> tuple[Tensor | None, ...]:
    """The norm is computed once more, in torch."""
    total, *parameters = ctx.saved_tensors
    leaves = [tensor.detach().requires_grad_() for tensor in (total, *parameters)]
    rest = iter(leaves[1:])
    weight, bias = (next(rest) if there else None for there in ctx.given)
    with torch.enable_grad():
        normed = norms.torch_layer_norm(leaves[0], weight, bias, ctx.eps)
    found = iter(torch.autograd.grad(normed, leaves, of_normed))
    inner = of_total + next(found)
    of_weight, of_bias = (next(found) if there else None for there in ctx.given)
    return inner, inner, of_weight, of_bias, None, None


_add_layer_norm.register_autograd(_add_layer_norm_backward, setup_context=_add_layer_norm_inputs)
