"""What `tests.bench.kernels` measures: operations at the sizes of the production models, and the bars they are held to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from custom_kernels import norms, ops, production, reference
from custom_kernels.production import AttentionCall, GegluCall, NormCall

DTYPE = torch.bfloat16
CHECKED_ROWS = 4  # of the batch are compared with the reference, the first and the last among them


@dataclass(frozen=True)
class Case:
    """One operation at one size: how to make inputs, how to compute it, what it costs at least."""

    operation: str
    name: str
    calls: int  # per denoising step
    make: Callable[[torch.Generator], tuple[Tensor, ...]]
    compute: Callable[[tuple[Tensor, ...], str], Tensor]
    exact: Callable[
        [tuple[Tensor, ...], Tensor], tuple[Tensor, Tensor]
    ]  # what is compared: of the result, of the reference
    bytes: float  # that have to be moved at least
    flops: float = 0.0
    exponentials: float = 0.0
    moved: float = 0.0  # what is moved where the whole does not fit on the chip; 0: as `bytes`
    bars: tuple[Bar, ...] = ()


class Bar(NamedTuple):
    """What the issue asks: our time at most that of the best of `others` divided by `factor`; or a share of the copy rate."""

    factor: float
    others: tuple[str, ...] = ()


def normal(generator: torch.Generator, *shape: int, dtype: torch.dtype = DTYPE) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device, dtype=dtype)


def attention_case(call: AttentionCall, dtype: torch.dtype) -> Case:
    width = call.heads * call.head_dim
    keys = (call.batch // call.repeat, call.lk, width)

    def make(generator: torch.Generator) -> tuple[Tensor, ...]:
        return tuple(normal(generator, *shape, dtype=dtype) for shape in ((call.batch, call.lq, width), keys, keys))

    def exact(inputs: tuple[Tensor, ...], result: Tensor) -> tuple[Tensor, Tensor]:
        rows = some_rows(call.batch)
        q = inputs[0][rows].float()
        k, v = (x[[row // call.repeat for row in rows]].float() for x in inputs[1:])
        return result[rows], reference.attention(q, k, v, call.heads)

    kind = "cross" if call.lq != call.lk else "temporal" if call.lk <= 32 else "self"
    best_sdpa = ("sdpa.flash", "sdpa.cudnn", "sdpa.efficient")
    bar = None
    if (call.lq, call.lk, call.head_dim) == (4096, 4096, 40):
        bar = Bar(1.3, best_sdpa)
    elif kind == "self" and call.head_dim in (80, 160) and call.lq >= 256:
        bar = Bar(1.2, best_sdpa)
    elif kind == "temporal":
        bar = Bar(3.0, best_sdpa)
    elif kind == "cross":
        bar = Bar(1.3, best_sdpa)
    elif kind == "self" and call.head_dim == 64 and call.lq >= 576:
        bar = Bar(0.95, best_sdpa)
    return Case(
        "attention",
        f"{call.model} {kind} {call.batch}x{call.heads}x{call.lq}x{call.lk}x{call.head_dim}",
        call.calls,
        make,
        lambda inputs, kernels: ops.attention(inputs[0], inputs[1], inputs[2], call.heads, kernels=kernels),
        exact,
        call.bytes(dtype.itemsize),
        call.flops,
        call.exponentials,
        bars=(bar,) if bar else (),
    )


def frame_case(call: AttentionCall, films: int, dtype: torch.dtype) -> Case:
    """The temporal call on the film as the pictures lie, so that others pay for the copies that they need."""
    places, width = call.batch // films, call.heads * call.head_dim
    shape = (films, call.lq, places, width)

    def exact(inputs: tuple[Tensor, ...], result: Tensor) -> tuple[Tensor, Tensor]:
        rows = some_rows(places)
        some = [x[:, :, rows].float() for x in inputs]
        return result[:, :, rows], reference.frame_attention(some[0], some[1], some[2], call.heads)

    return Case(
        "frame_attention",
        f"{call.model} film {films}x{call.lq}x{places} heads {call.heads}x{call.head_dim}",
        call.calls,
        lambda generator: tuple(normal(generator, *shape, dtype=dtype) for _ in range(3)),
        lambda inputs, kernels: ops.frame_attention(inputs[0], inputs[1], inputs[2], call.heads, kernels=kernels),
        exact,
        call.bytes(dtype.itemsize),
        call.flops,
        call.exponentials,
        bars=(Bar(3.0, ("sdpa", "sdpa.flash", "sdpa.cudnn", "sdpa.efficient")),),
    )


def norm_case(call: NormCall, dtype: torch.dtype) -> Case:
    shape = (call.batch, call.channels, call.height, call.width)
    elements = call.batch * call.channels * call.height * call.width

    def make(generator: torch.Generator) -> tuple[Tensor, ...]:
        x = normal(generator, *shape, dtype=dtype).contiguous(memory_format=torch.channels_last)
        return x, normal(generator, call.channels, dtype=dtype), normal(generator, call.channels, dtype=dtype)

    def exact(inputs: tuple[Tensor, ...], result: Tensor) -> tuple[Tensor, Tensor]:
        rows = some_rows(call.batch)
        x, weight, bias = inputs
        return result[rows], reference.group_norm_silu(x[rows].float(), 32, weight.float(), bias.float())

    def compute(inputs: tuple[Tensor, ...], kernels: str) -> Tensor:
        if kernels == "torch":
            # Itself: our operator would copy its result back to channels-last, which nobody asks of it.
            return norms.torch_group_norm_silu(inputs[0], 32, inputs[1], inputs[2])
        return ops.group_norm_silu(inputs[0], 32, inputs[1], inputs[2], kernels=kernels)

    large = elements * dtype.itemsize > 60e6
    return Case(
        "group_norm_silu",
        f"{call.model} {call.batch}x{call.channels}x{call.height}x{call.width}",
        call.calls,
        make,
        compute,
        exact,
        2.0 * elements * dtype.itemsize,
        moved=3.0 * elements * dtype.itemsize,  # read for the statistics, read again, written
        bars=(Bar(2.0, ("torch",)), *((Bar(0.75),) if large else ())),
    )


def geglu_case(call: GegluCall, dtype: torch.dtype) -> Case:
    def exact(inputs: tuple[Tensor, ...], result: Tensor) -> tuple[Tensor, Tensor]:
        rows = some_rows(call.rows)
        return result[rows], reference.geglu(inputs[0][rows].float())

    large = call.rows * call.width * dtype.itemsize > 60e6
    return Case(
        "geglu",
        f"{call.model} {call.rows}x{call.width}",
        call.calls,
        lambda generator: (normal(generator, call.rows, 2 * call.width, dtype=dtype),),
        lambda inputs, kernels: ops.geglu(inputs[0], kernels),
        exact,
        3.0 * call.rows * call.width * dtype.itemsize,
        bars=(Bar(1.6, ("torch",)), Bar(0.85)) if large else (),
    )


def some_rows(count: int) -> list[int]:
    return sorted({row * (count - 1) // (CHECKED_ROWS - 1) for row in range(CHECKED_ROWS)})


def cases(quick: bool, dtype: torch.dtype) -> list[Case]:
    """quick: one for each kind of bar. Those come first of all cases, then what has a bar: time may end before the list."""
    some = every(production.QUICK, production.QUICK_GROUP_NORMS, production.QUICK_GEGLUS, dtype)
    if quick:
        return some
    known = {(case.operation, case.name) for case in some}
    others = every(production.ATTENTION, production.GROUP_NORMS, production.GEGLUS, dtype)
    others = [case for case in others if (case.operation, case.name) not in known]
    return some + sorted(others, key=lambda case: not case.bars)


def every(
    calls: Sequence[AttentionCall], group_norms: Sequence[NormCall], geglus: Sequence[GegluCall], dtype: torch.dtype
) -> list[Case]:
    return [
        *(attention_case(call, dtype) for call in calls),
        *(frame_case(call, 2, dtype) for call in calls if call.lk <= 32),
        *(norm_case(call, dtype) for call in group_norms),
        *(geglu_case(call, dtype) for call in geglus),
    ]


def small_cases(dtype: torch.dtype) -> list[Case]:
    """Each kernel once, for the interpreter."""
    return [
        attention_case(AttentionCall("small", 1, 2, 20, 150, 40, 1), dtype),
        attention_case(AttentionCall("small", 2, 1, 20, 77, 64, 1, repeat=2), dtype),
        attention_case(AttentionCall("small", 5, 2, 24, 24, 64, 1), dtype),
        frame_case(AttentionCall("small", 4, 2, 24, 24, 64, 1), 2, dtype),
        norm_case(NormCall("small", 2, 64, 4, 4, 1), dtype),
        geglu_case(GegluCall("small", 6, 16, 1), dtype),
    ]
