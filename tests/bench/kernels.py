"""The kernels beside what torch and xformers have, at the sizes of the production models: `python -m tests.bench.kernels`.

On a CUDA device. Random inputs, fresh ones for every call, so many that the L2 cache holds none; results that begin as NaN
and are compared with the reference before anything is timed; calls captured in a graph; medians of two repeats. `--csv`
writes a row per case and implementation, with device, driver and versions. What has a bar comes first; a bar that nobody
saw, because a kernel raised or the time was over, is missed. `--quick` takes a case for each kind of bar, `--check` exits 1
when a bar is missed, `--dry-run` runs small sizes on the CPU, with the kernels interpreted if TRITON_INTERPRET=1, to see
that the script works.

    make bench-gpu
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from custom_kernels import dispatch, timing
from custom_kernels.told import first_line
from tests.bench.kernel_cases import Bar, Case, cases, small_cases

OVER = "left out: the time is over"
TOLERANCE = {torch.bfloat16: 1e-2, torch.float16: 1e-3, torch.float32: 1e-5}


class Row(NamedTuple):
    case: Case
    kernels: str
    timing: timing.Timing | None
    error: float  # |result - exact| / |exact|
    told: str = ""  # why there is no timing


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
        mine = {row.kernels: row for row in rows if row.case is case}
        ours = mine.get("triton")
        if ours is not None and ours.told.startswith("wrong") and not case.bars:
            found.append((f"{case.name}: triton: {ours.told}", False))
        for bar in case.bars:
            sentence, holds = judged(case, bar, mine, ceilings)
            found.append((f"{case.name}: {sentence}", holds))
    return found


def judged(case: Case, bar: Bar, mine: dict[str, Row], ceilings: timing.Ceilings) -> tuple[str, bool]:
    """A bar, by the rows of its case. One that nobody saw does not hold."""
    others = ", ".join(bar.others)
    wanted = f"wanted {bar.factor}x of the best of {others}" if others else f"wanted {bar.factor:.0%} of copy bandwidth"
    times = {name: row.timing.seconds for name, row in mine.items() if row.timing}
    if "triton" not in times:
        return f"triton was not measured ({why(mine, 'triton')}), {wanted}", False
    if not bar.others:
        share = (case.moved or case.bytes) / times["triton"] / ceilings.bytes
        return f"{share:.0%} of copy bandwidth, wanted {bar.factor:.0%}", share >= bar.factor
    measured = [name for name in bar.others if name in times]
    unseen = ", ".join(f"{name} ({why(mine, name)})" for name in bar.others if name not in times)
    if not measured:
        return f"{unseen}: none was measured, {wanted}", False
    best = min(measured, key=times.__getitem__)
    ratio = times[best] / times["triton"]
    beside = f"; not measured: {unseen}" if unseen else ""  # a backend of torch that takes no such head dim, say
    return f"{ratio:.2f}x of {best}, wanted {bar.factor}x{beside}", ratio >= bar.factor


def why(mine: dict[str, Row], name: str) -> str:
    """Why there is no time of an implementation."""
    return mine[name].told if name in mine else "not tried"


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


def device_of(dry_run: bool) -> torch.device:
    return torch.device("cpu" if dry_run else "cuda")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.kernels", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a case for each kind of bar, less time for each")
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
    device = device_of(chosen.dry_run)
    dtype: torch.dtype = getattr(torch, chosen.dtype)
    about, ceilings = timing.describe(device), timing.ceilings(device)
    print(", ".join(f"{name} {value}" for name, value in about.items() if value))
    print(
        f"the roof, measured: {ceilings.flops / 1e12:.3g} TFLOP/s, {ceilings.bytes / 1e9:.3g} GB/s; documented: "
        f"{ceilings.exponentials / 1e12:.3g} T exponentials/s"
    )
    seconds = 0.0 if chosen.dry_run else 0.03 if chosen.quick else 0.1
    rows: list[Row] = []
    left: list[Row] = []
    with torch.no_grad():
        for case in small_cases(dtype) if chosen.dry_run else cases(chosen.quick, dtype):
            if chosen.only not in f"{case.operation} {case.name}":
                continue
            if time.perf_counter() - began > chosen.minutes * 60:
                left.append(Row(case, "triton", None, float("nan"), OVER))
                continue
            of_case = list(measure(case, device, dtype, seconds))
            rows += of_case
            print("\n".join(table(of_case, ceilings)), flush=True)
            if chosen.csv:  # after every case: a borrowed machine may be gone before the end
                write(chosen.csv, csv_rows(rows, ceilings, about, dtype))
    if left and chosen.csv:
        write(chosen.csv, csv_rows([*rows, *left], ceilings, about, dtype))
    bars = [] if chosen.dry_run else verdicts([*rows, *left], ceilings)
    for sentence, holds in bars:
        print(f"{'holds ' if holds else 'MISSED'}  {sentence}")
    if left:
        print(f"{len(left)} cases were left out after {chosen.minutes} minutes")
    print(f"{len(rows)} rows, {time.perf_counter() - began:.0f} s")
    wrong = [row for row in rows if row.told.startswith("wrong")]
    return 1 if wrong or not rows or (chosen.check and not all(holds for _, holds in bars)) else 0


if __name__ == "__main__":
    sys.exit(main())
