"""The operations as PyTorch sees them: `torch.ops.anyloom.*`, opaque to torch.compile, differentiable.

Each takes `kernels` ("auto" or who shall compute it, see dispatch.py) and checks its arguments before anything runs.
Where gradients are wanted and nobody insists on a kernel, torch's own operations compute forwards and backwards;
otherwise the backward pass computes the operation once more in torch and differentiates that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from custom_kernels import dispatch, norms, pointwise
from custom_kernels.arguments import (
    check_add_scaled,
    check_attention,
    check_frame_attention,
    check_geglu,
    check_group_norm,
    check_layer_norm,
)
from custom_kernels.attention import over_frames, sdpa
from custom_kernels.device import device_facts
from custom_kernels.implementation import Case


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    heads: int,
    mask: Tensor | None = None,
    scale: float | None = None,
    kernels: str = "auto",
) -> Tensor:
    """softmax(q kᵀ · scale + mask) v per head; see `reference.attention`.

    q "B Lq H·D"; k, v "Bk Lk H·D" with Bk a divisor of B: one row of keys serves B/Bk neighbouring rows of queries (the
    frames of a film share their prompt). mask broadcasts to "B H Lq Lk" and is added. Raises ValueError on shapes and
    types that do not fit together, KernelError if `kernels` cannot compute this.
    """
    if seen_by_nobody(q, k, v, mask):
        return _compute_attention(q, k, v, heads, mask, scale, kernels)
    check_attention(q, k, v, heads, mask, scale)
    if kernels in ("auto", "sdpa") and wants_gradients(q, k, v, mask):
        return _plainly("attention", "sdpa", sdpa, q, k, v, heads, mask, scale)
    result: Tensor = torch.ops.anyloom.attention(q, k, v, heads, mask, scale, kernels)
    return result


def frame_attention(
    q: Tensor, k: Tensor, v: Tensor, heads: int, scale: float | None = None, kernels: str = "auto"
) -> Tensor:
    """Attention along the frames of a film, each place by itself: "B F S H·D" for q, k, v and the result."""
    if seen_by_nobody(q, k, v):
        return _compute_frame_attention(q, k, v, heads, scale, kernels)
    check_frame_attention(q, k, v, heads, scale)
    if kernels in ("auto", "sdpa") and wants_gradients(q, k, v):
        return _plainly("frame_attention", "sdpa", over_frames(sdpa), q, k, v, heads, scale)
    result: Tensor = torch.ops.anyloom.frame_attention(q, k, v, heads, scale, kernels)
    return result


def group_norm_silu(
    x: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    add: Tensor | None = None,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    silu: bool = True,
    kernels: str = "auto",
) -> Tensor:
    """silu(norm(x + add) · (1 + scale) + shift); see `reference.group_norm_silu`. x "N C *", the time terms "N C"."""
    if seen_by_nobody(x, weight, bias, add, scale, shift):
        return _compute_group_norm_silu(x, groups, weight, bias, eps, add, scale, shift, silu, kernels)
    check_group_norm(x, groups, weight, bias, add, scale, shift)
    if kernels in ("auto", "torch") and wants_gradients(x, weight, bias, add, scale, shift):
        run = norms.torch_group_norm_silu
        return _plainly("group_norm_silu", "torch", run, x, groups, weight, bias, eps, add, scale, shift, silu)
    result: Tensor = torch.ops.anyloom.group_norm_silu(x, groups, weight, bias, eps, add, scale, shift, silu, kernels)
    return result


def layer_norm(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5, kernels: str = "auto"
) -> Tensor:
    """Layer normalisation of "* C" over its last dimension; see `reference.layer_norm`."""
    if seen_by_nobody(x, weight, bias):
        return _compute_layer_norm(x, weight, bias, eps, kernels)
    check_layer_norm(x, weight, bias)
    if kernels in ("auto", "torch") and wants_gradients(x, weight, bias):
        return _plainly("layer_norm", "torch", norms.torch_layer_norm, x, weight, bias, eps)
    result: Tensor = torch.ops.anyloom.layer_norm(x, weight, bias, eps, kernels)
    return result


def geglu(x: Tensor, kernels: str = "auto") -> Tensor:
    """The first half of the last dimension times the gelu of the second: "* 2C" to "* C"; see `reference.geglu`."""
    if seen_by_nobody(x):
        return _compute_geglu(x, kernels)
    check_geglu(x)
    if kernels in ("auto", "torch") and wants_gradients(x):
        return _plainly("geglu", "torch", pointwise.torch_geglu, x)
    result: Tensor = torch.ops.anyloom.geglu(x, kernels)
    return result


def add_scaled(x: Tensor, residual: Tensor, factor: float = 1.0, kernels: str = "auto") -> Tensor:
    """(x + residual) · factor of two equal shapes; see `reference.add_scaled`."""
    if seen_by_nobody(x, residual):
        return _compute_add_scaled(x, residual, factor, kernels)
    check_add_scaled(x, residual)
    if kernels in ("auto", "torch") and wants_gradients(x, residual):
        return _plainly("add_scaled", "torch", pointwise.torch_add_scaled, x, residual, factor)
    result: Tensor = torch.ops.anyloom.add_scaled(x, residual, factor, kernels)
    return result


# The choice


def case_of(operation: str, x: Tensor, **sizes: int) -> Case:
    facts = device_facts(x.device)
    dtype = str(x.dtype).removeprefix("torch.")
    return Case(operation, facts.type, facts.arch, facts.name, dtype, tuple(sizes.items()))


def attention_case(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None) -> Case:
    return case_of(
        "attention",
        q,
        B=q.shape[0],
        H=heads,
        Lq=q.shape[1],
        Lk=k.shape[1],
        D=q.shape[2] // heads,
        mask=int(mask is not None),
        elements=max(extent(x) for x in (q, k, v)),
    )


def frame_case(q: Tensor, heads: int) -> Case:
    b, f, s, width = q.shape
    size = extent(q)
    return case_of("frame_attention", q, B=b * s, H=heads, Lq=f, Lk=f, D=width // heads, mask=0, elements=size)


def extent(x: Tensor) -> int:
    """Elements between the first and the last of one item of the batch: what offsets inside it must hold."""
    return 1 + sum((size - 1) * abs(stride) for size, stride in zip(x.shape[1:], x.stride()[1:], strict=True))


def _compute(case: Case, kernels: str, *arguments: Any) -> Tensor:
    row = dispatch.choose(case, kernels)
    dispatch.note(case.operation, row.name)
    return row.run(*arguments)


def _plainly(operation: str, name: str, run: Callable[..., Tensor], *arguments: Any) -> Tensor:
    if not torch.compiler.is_compiling():
        dispatch.note(operation, name)
    return run(*arguments)


def seen_by_nobody(*tensors: Tensor | None) -> bool:
    """Whether the call may go around torch's registry, which costs more than most kernels take: no compiler looks on, no
    gradients are wanted, no tensor only pretends to be one.
    """
    return (
        not torch.compiler.is_compiling()
        and not wants_gradients(*tensors)
        and all(x is None or type(x) in (Tensor, torch.nn.Parameter) for x in tensors)
    )


def wants_gradients(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)


def _like(y: Tensor, x: Tensor) -> Tensor:
    """y with the strides that the fake implementation promises, those of `empty_like(x)`."""
    return y if y.stride() == x.stride() else torch.empty_like(x).copy_(y)


# The registrations. torch reads the annotations, so this module's are strings that it can resolve.


def _compute_attention(
    q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None, scale: float | None, kernels: str
) -> Tensor:
    check_attention(q, k, v, heads, mask, scale)
    if q.numel() == 0:
        return torch.empty_like(q, memory_format=torch.contiguous_format)
    return _compute(attention_case(q, k, v, heads, mask), kernels, q, k, v, heads, mask, scale).contiguous()


_attention = torch.library.custom_op("anyloom::attention", mutates_args=())(_compute_attention)


@_attention.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None, scale: float | None, kernels: str) -> Tensor:
    check_attention(q, k, v, heads, mask, scale)
    return q.new_empty(q.shape)


def _compute_frame_attention(q: Tensor, k: Tensor, v: Tensor, heads: int, scale: float | None, kernels: str) -> Tensor:
    check_frame_attention(q, k, v, heads, scale)
    if q.numel() == 0:
        return torch.empty_like(q, memory_format=torch.contiguous_format)
    return _compute(frame_case(q, heads), kernels, q, k, v, heads, scale).contiguous()


_frame_attention = torch.library.custom_op("anyloom::frame_attention", mutates_args=())(_compute_frame_attention)


@_frame_attention.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, heads: int, scale: float | None, kernels: str) -> Tensor:
    check_frame_attention(q, k, v, heads, scale)
    return q.new_empty(q.shape)


def _compute_group_norm_silu(
    x: Tensor,
    groups: int,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    add: Tensor | None,
    scale: Tensor | None,
    shift: Tensor | None,
    silu: bool,
    kernels: str,
) -> Tensor:
    check_group_norm(x, groups, weight, bias, add, scale, shift)
    if x.numel() == 0:
        return torch.empty_like(x)
    nhwc = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    case = case_of(
        "group_norm_silu",
        x,
        N=x.shape[0],
        C=x.shape[1],
        S=x[0, 0].numel(),
        G=groups,
        channels_last=int(nhwc and not x.is_contiguous()),
        contiguous=int(x.is_contiguous()),
        elements=x.numel(),
    )
    return _like(_compute(case, kernels, x, groups, weight, bias, eps, add, scale, shift, silu), x)


_group_norm_silu = torch.library.custom_op("anyloom::group_norm_silu", mutates_args=())(_compute_group_norm_silu)


@_group_norm_silu.register_fake
def _(
    x: Tensor,
    groups: int,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    add: Tensor | None,
    scale: Tensor | None,
    shift: Tensor | None,
    silu: bool,
    kernels: str,
) -> Tensor:
    check_group_norm(x, groups, weight, bias, add, scale, shift)
    return torch.empty_like(x)


def _compute_layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, kernels: str) -> Tensor:
    check_layer_norm(x, weight, bias)
    if x.numel() == 0:
        return torch.empty_like(x)
    case = case_of("layer_norm", x, rows=x.numel() // x.shape[-1], C=x.shape[-1], elements=x.numel())
    return _like(_compute(case, kernels, x, weight, bias, eps), x)


_layer_norm = torch.library.custom_op("anyloom::layer_norm", mutates_args=())(_compute_layer_norm)


@_layer_norm.register_fake
def _(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, kernels: str) -> Tensor:
    check_layer_norm(x, weight, bias)
    return torch.empty_like(x)


def _compute_geglu(x: Tensor, kernels: str) -> Tensor:
    check_geglu(x)
    half = x.shape[-1] // 2
    if x.numel() == 0:
        return x.new_empty((*x.shape[:-1], half))
    case = case_of(
        "geglu", x, rows=x.numel() // x.shape[-1], C=half, contiguous=int(x.is_contiguous()), elements=x.numel()
    )
    return _compute(case, kernels, x).contiguous()


_geglu = torch.library.custom_op("anyloom::geglu", mutates_args=())(_compute_geglu)


@_geglu.register_fake
def _(x: Tensor, kernels: str) -> Tensor:
    check_geglu(x)
    return x.new_empty((*x.shape[:-1], x.shape[-1] // 2))


def _compute_add_scaled(x: Tensor, residual: Tensor, factor: float, kernels: str) -> Tensor:
    check_add_scaled(x, residual)
    if x.numel() == 0:
        return torch.empty_like(x)
    same = int(x.stride() == residual.stride())
    return _like(_compute(case_of("add_scaled", x, elements=x.numel(), same=same), kernels, x, residual, factor), x)


_add_scaled = torch.library.custom_op("anyloom::add_scaled", mutates_args=())(_compute_add_scaled)


@_add_scaled.register_fake
def _(x: Tensor, residual: Tensor, factor: float, kernels: str) -> Tensor:
    check_add_scaled(x, residual)
    return torch.empty_like(x)


# Gradients


def _differentiate(operation: Any, run: Callable[..., Tensor]) -> None:
    """Gradients of `operation` are those of `run`, which takes the same arguments but the last, `kernels`."""

    def remember(ctx: Any, inputs: Sequence[Any], output: Tensor) -> None:
        places = [i for i, x in enumerate(inputs) if isinstance(x, Tensor)]
        ctx.places = places
        ctx.others = [None if isinstance(x, Tensor) else x for x in inputs]
        ctx.save_for_backward(*(inputs[i] for i in places))

    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        arguments = list(ctx.others)
        wanted = [i for i in ctx.places if ctx.needs_input_grad[i]]
        with torch.enable_grad():
            for i, x in zip(ctx.places, ctx.saved_tensors, strict=True):
                arguments[i] = x.detach().requires_grad_(i in wanted)
            output = run(*arguments[:-1])
            found = torch.autograd.grad(output, [arguments[i] for i in wanted], grad)
        answer: list[Tensor | None] = [None] * len(arguments)
        for i, x in zip(wanted, found, strict=True):
            answer[i] = x
        return tuple(answer)

    operation.register_autograd(backward, setup_context=remember)


_differentiate(_attention, sdpa)
_differentiate(_frame_attention, over_frames(sdpa))
_differentiate(_group_norm_silu, norms.torch_group_norm_silu)
_differentiate(_layer_norm, norms.torch_layer_norm)
_differentiate(_geglu, pointwise.torch_geglu)
_differentiate(_add_scaled, pointwise.torch_add_scaled)
