"""The kernels beside what torch and xformers have, at the sizes of the production models: `python -m tests.bench.kernels`.

On a CUDA device. Random inputs, fresh ones for every call, so many that the L2 cache holds none; results that begin as NaN
and are compared with the reference before anything is timed; calls captured in a graph; medians of two repeats. `--csv`
writes a row per case and implementation, with device, driver and versions. `--quick` takes the cases that have a bar,
`--check` exits 1 when a bar is missed, `--dry-run` runs small sizes on the CPU, with the kernels interpreted if
TRITON_INTERPRET=1, to see that the script works.

    make bench-gpu
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from custom_kernels import dispatch, ops, production, reference, timing
from custom_kernels.production import AttentionCall, GegluCall, NormCall
from custom_kernels.told import first_line

DTYPE = torch.bfloat16
TOLERANCE = {torch.bfloat16: 1e-2, torch.float16: 1e-3, torch.float32: 1e-5}
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


class Row(NamedTuple):
    case: Case
    kernels: str
    timing: timing.Timing | None
    error: float  # |result - exact| / |exact|
    told: str = ""  # why there is no timing


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

    large = elements * dtype.itemsize > 60e6
    return Case(
        "group_norm_silu",
        f"{call.model} {call.batch}x{call.channels}x{call.height}x{call.width}",
        call.calls,
        make,
        lambda inputs, kernels: ops.group_norm_silu(inputs[0], 32, inputs[1], inputs[2], kernels=kernels),
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
    calls = production.QUICK if quick else production.ATTENTION
    films = [call for call in calls if call.lk <= 32]
    return [
        *(attention_case(call, dtype) for call in calls),
        *(frame_case(call, 2, dtype) for call in films),
        *(norm_case(call, dtype) for call in (production.GROUP_NORMS[3:4] if quick else production.GROUP_NORMS)),
        *(geglu_case(call, dtype) for call in (production.GEGLUS[2:3] if quick else production.GEGLUS)),
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


def measure(case: Case, device: torch.device, dtype: torch.dtype, seconds: float) -> Iterator[Row]:
    """A row per implementation of the operation."""
    generator = torch.Generator(device).manual_seed(len(case.name))
    first = case.make(generator)
    # By what is read alone: results take the same memory again and push nothing out of the cache.
    read = sum(tensor.numel() * tensor.element_size() for tensor in first)
    sets = timing.input_sets(read, device) if device.type == "cuda" else 2
    inputs = [first, *(case.make(generator) for _ in range(sets - 1))]
    for kernels in dict.fromkeys(row.name for row in dispatch.TABLE[case.operation]):
        if kernels == "reference" or (kernels == "sdpa.math" and device.type == "cuda"):
            continue  # the definition, and torch's: both hold all scores in memory
        try:
            error = compared(case, inputs[-1], kernels)
            took = timed(case, inputs, kernels, device, seconds) if error <= TOLERANCE[dtype] else None
        except dispatch.KernelError as refused:
            yield Row(case, kernels, None, float("nan"), str(refused).partition(". ")[2].partition(". Choose")[0])
            continue
        # No kernel in a backend of torch, no xformers, too little memory: the others are still worth measuring.
        except Exception as failed:
            yield Row(case, kernels, None, float("nan"), f"{type(failed).__name__}: {first_line(failed)}")
            continue
        yield Row(case, kernels, took, error, "" if took else f"wrong: relative error {error:.1e}")


def timed(
    case: Case, inputs: list[tuple[Tensor, ...]], kernels: str, device: torch.device, seconds: float
) -> timing.Timing:
    return timing.time_calls(lambda i: case.compute(inputs[i], kernels), len(inputs), device, 2, seconds)


def compared(case: Case, inputs: tuple[Tensor, ...], kernels: str) -> float:
    """The relative error of some rows of a result whose memory was NaN before."""
    torch.use_deterministic_algorithms(True, warn_only=True)  # fills fresh memory with NaN
    try:
        result = case.compute(inputs, kernels)
    finally:
        torch.use_deterministic_algorithms(False)
    ours, exact = case.exact(inputs, result)
    if not ours.isfinite().all() or not result.isfinite().all():
        return float("inf")
    return float(((ours.double() - exact.double()).norm() / exact.double().norm()).item())


# What is printed and written


def table(rows: Sequence[Row], ceilings: timing.Ceilings) -> list[str]:
    """Per case: its floor, then per implementation the microseconds and the share of the floor."""
    lines = []
    for case in dict.fromkeys(row.case for row in rows):
        floor = ceilings.floor(case.flops, case.exponentials, case.bytes)
        lines.append(f"{case.operation} {case.name}  (x{case.calls}, floor {floor * 1e6:.1f} us)")
        for row in rows:
            if row.case is case and row.timing:
                one, other = (f"{seconds * 1e6:9.1f}" for seconds in row.timing.medians)
                share = floor / row.timing.seconds
                note = "" if row.timing.graphed else "  (launched one by one)"
                lines.append(
                    f"    {row.kernels:16}{one} {other} us  {share:6.1%} of the roof  error {row.error:.1e}{note}"
                )
            elif row.case is case:
                lines.append(f"    {row.kernels:16}        -  {row.told}")
    return lines


def verdicts(rows: Sequence[Row], ceilings: timing.Ceilings) -> list[tuple[str, bool]]:
    """Each bar of the cases measured: a sentence, and whether it holds."""
    found = []
    for case in dict.fromkeys(row.case for row in rows):
        times = {row.kernels: row.timing.seconds for row in rows if row.case is case and row.timing}
        wrong = [
            row for row in rows if row.case is case and row.kernels == "triton" and row.error > 0 and not row.timing
        ]
        if wrong:
            found.append((f"{case.name}: triton: {wrong[0].told}", False))
        for bar in case.bars:
            others = [name for name in bar.others if name in times]
            if "triton" not in times or (bar.others and not others):
                continue
            if bar.others:
                best = min(others, key=times.__getitem__)
                ratio = times[best] / times["triton"]
                found.append((f"{case.name}: {ratio:.2f}x of {best}, wanted {bar.factor}x", ratio >= bar.factor))
            else:
                share = (case.moved or case.bytes) / times["triton"] / ceilings.bytes
                found.append(
                    (f"{case.name}: {share:.0%} of copy bandwidth, wanted {bar.factor:.0%}", share >= bar.factor)
                )
    return found


COLUMNS = (
    "operation", "case", "calls_per_step", "dtype", "kernels", "us_first", "us_second", "us_fastest", "us_slowest", "graphed",
    "floor_us", "roof_share", "tflops", "gb_per_s", "relative_error", "told", "device", "driver", "torch", "triton", "cuda",
    "cudnn", "roof_tflops", "roof_gb_per_s",
)  # fmt: skip


def csv_rows(
    rows: Iterable[Row], ceilings: timing.Ceilings, about: dict[str, str], dtype: torch.dtype
) -> Iterator[dict[str, Any]]:
    for row in rows:
        case, took = row.case, row.timing
        floor = ceilings.floor(case.flops, case.exponentials, case.bytes)
        written: dict[str, Any] = {
            "operation": case.operation,
            "case": case.name,
            "calls_per_step": case.calls,
            "dtype": str(dtype).removeprefix("torch."),
            "kernels": row.kernels,
            "floor_us": f"{floor * 1e6:.2f}",
            "relative_error": f"{row.error:.2e}",
            "told": row.told,
            **about,
            "roof_tflops": f"{ceilings.flops / 1e12:.0f}",
            "roof_gb_per_s": f"{ceilings.bytes / 1e9:.0f}",
        }
        if took:
            written |= {
                "us_first": f"{took.medians[0] * 1e6:.2f}",
                "us_second": f"{took.medians[1] * 1e6:.2f}",
                "us_fastest": f"{took.fastest * 1e6:.2f}",
                "us_slowest": f"{took.slowest * 1e6:.2f}",
                "graphed": took.graphed,
                "roof_share": f"{floor / took.seconds:.3f}",
                "tflops": f"{case.flops / took.seconds / 1e12:.1f}",
                "gb_per_s": f"{case.bytes / took.seconds / 1e9:.0f}",
            }
        yield written


def write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.kernels", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the cases that have a bar, less time for each")
    parser.add_argument("--dry-run", action="store_true", help="small sizes on the CPU: does the script work?")
    parser.add_argument("--check", action="store_true", help="exit 1 when a bar is missed")
    parser.add_argument("--only", default="", help="cases whose operation and name contain this")
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--minutes", type=float, default=4.0, help="begin no further case after this time")
    chosen = parser.parse_args(arguments)
    if not chosen.dry_run and not torch.cuda.is_available():
        print("there is no CUDA device here; `--dry-run` runs small sizes on the CPU", file=sys.stderr)
        return 2
    if not chosen.dry_run and os.environ.get("TRITON_INTERPRET", "0") not in ("", "0"):
        print("TRITON_INTERPRET is set: the kernels would be interpreted, not timed; unset it", file=sys.stderr)
        return 2
    began = time.perf_counter()
    device = torch.device("cpu" if chosen.dry_run else "cuda")
    dtype: torch.dtype = getattr(torch, chosen.dtype)
    about, ceilings = timing.describe(device), timing.ceilings(device)
    print(", ".join(f"{name} {value}" for name, value in about.items() if value))
    print(
        f"the roof, measured: {ceilings.flops / 1e12:.3g} TFLOP/s, {ceilings.bytes / 1e9:.3g} GB/s; documented: "
        f"{ceilings.exponentials / 1e12:.3g} T exponentials/s"
    )
    seconds = 0.0 if chosen.dry_run else 0.03 if chosen.quick else 0.1
    rows: list[Row] = []
    left = 0
    with torch.no_grad():
        for case in small_cases(dtype) if chosen.dry_run else cases(chosen.quick, dtype):
            if chosen.only not in f"{case.operation} {case.name}":
                continue
            if time.perf_counter() - began > chosen.minutes * 60:
                left += 1
                continue
            of_case = list(measure(case, device, dtype, seconds))
            rows += of_case
            print("\n".join(table(of_case, ceilings)), flush=True)
            if chosen.csv:  # after every case: a borrowed machine may be gone before the end
                write(chosen.csv, csv_rows(rows, ceilings, about, dtype))
    bars = [] if chosen.dry_run else verdicts(rows, ceilings)
    for sentence, holds in bars:
        print(f"{'holds ' if holds else 'MISSED'}  {sentence}")
    if left:
        print(f"{left} cases were left out after {chosen.minutes} minutes")
    print(f"{len(rows)} rows, {time.perf_counter() - began:.0f} s")
    wrong = [row for row in rows if row.told.startswith("wrong")]
    return 1 if wrong or not rows or (chosen.check and not all(holds for _, holds in bars)) else 0


if __name__ == "__main__":
    sys.exit(main())
