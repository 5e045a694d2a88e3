"""Measure on this device how the attention kernels are best launched and who computes what fastest, and write it down:
`python -m custom_kernels.tune`.

Writes `custom_kernels/tuned/DEVICE.json` (tuned.py says what is in it) after every step, so an interrupted run leaves what
it had measured; the next run goes on from there. `--show` prints the table that holds here, and where it came from.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from custom_kernels import attention_plan as plan
from custom_kernels import attention_triton, dispatch, ops, production, timing, tuned
from custom_kernels.device import device_facts
from custom_kernels.production import AttentionCall
from custom_kernels.told import first_line
from custom_kernels.tuned import Rule

Measure = Callable[[AttentionCall, torch.dtype, str, plan.Launch | None], float]  # seconds, infinite if it cannot
SECONDS = 0.03  # per measurement
MARGIN = 0.98  # a launch must take less than this share of the default's time to replace it: not noise


class Found(NamedTuple):
    """A table in the making."""

    choices: dict[tuple[object, ...], Rule]
    launches: dict[str, dict[str, int]]


def launch_name(call: AttentionCall, processors: int) -> str:
    which = plan.kind(call.lq, call.lk, call.head_dim, call.repeat, masked=False, element_bytes=2)
    if which != "long":
        return which
    return plan.long_launch_name(call.batch * call.heads, call.lq, processors, masked=False)


def calls_by_launch(calls: Sequence[AttentionCall], processors: int) -> dict[tuple[str, int], AttentionCall]:
    """For each launch in use the call that costs a denoising step most."""
    heaviest: dict[tuple[str, int], AttentionCall] = {}
    for call in calls:
        name = launch_name(call, processors), call.head_dim
        if name not in heaviest or call.flops * call.calls > heaviest[name].flops * heaviest[name].calls:
            heaviest[name] = call
    return heaviest


def best_launch(call: AttentionCall, which: str, arch: int, dtype: torch.dtype, measure: Measure) -> plan.Launch:
    """The default, unless another is faster by more than noise."""
    default, *others = plan.candidates(which, call.head_dim, arch)
    usual = measure(call, dtype, "triton", default)
    times = {launch: measure(call, dtype, "triton", launch) for launch in others}
    best = min(times, key=times.__getitem__, default=default)
    return best if times.get(best, float("inf")) < MARGIN * usual else default


def best_choice(call: AttentionCall, dtype: torch.dtype, measure: Measure) -> Rule | None:
    """Who computes calls like this one, best first: sizes within a factor of two, the same head dim and type."""
    names = [
        row.name
        for row in dispatch.TABLE["attention"]
        if row.name not in ("sdpa", "sdpa.math", "reference", "xformers")
    ]
    times = {name: measure(call, dtype, name, None) for name in names}
    fast = sorted((name for name in names if times[name] < float("inf")), key=times.__getitem__)
    if not fast:
        return None
    keys = [1, plan.LONGEST_PACKED] if call.lk <= plan.LONGEST_PACKED else [max(33, call.lk // 2), call.lk * 2 - 1]
    when = {"D": call.head_dim, "Lq": [max(1, call.lq // 2), call.lq * 2 - 1], "Lk": keys, "mask": 0}
    return Rule("attention", tuple(fast), when | {"dtype": str(dtype).removeprefix("torch.")})


def tune(
    found: Found,
    calls: Sequence[AttentionCall],
    dtypes: Sequence[torch.dtype],
    arch: int,
    processors: int,
    measure: Measure,
) -> Iterator[str]:
    """Fill `found` with what it lacks, a step at a time; yields what each step found."""
    for dtype in dtypes:
        type_name = str(dtype).removeprefix("torch.")
        for (which, head_dim), call in calls_by_launch(calls, processors).items():
            name = plan.key(which, head_dim, type_name)
            if name not in found.launches:
                launch = best_launch(call, which, arch, dtype, measure)
                found.launches[name] = launch._asdict()
                yield f"launch {name}: {launch}"
    for dtype in dtypes:
        # Calls that cost much decide first: the first rule that fits holds.
        for call in sorted(calls, key=lambda call: -call.flops * call.calls):
            place = (dtype, call.head_dim, call.lq, call.lk)
            if place not in found.choices:
                launch = plan.Launch(
                    **found.launches[plan.key(launch_name(call, processors), call.head_dim, _name(dtype))]
                )
                rule = best_choice(call, dtype, lambda c, t, n, _, mine=launch: measure(c, t, n, mine))  # type: ignore[misc]
                if rule:
                    found.choices[place] = rule
                    yield f"choice {call.lq}x{call.lk}x{call.head_dim} {_name(dtype)}: {', '.join(rule.use)}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def measure_on(device: torch.device) -> Measure:
    def measure(call: AttentionCall, dtype: torch.dtype, kernels: str, launch: plan.Launch | None) -> float:
        width = call.heads * call.head_dim
        shapes = [(call.batch, call.lq, width), *[(call.batch // call.repeat, call.lk, width)] * 2]
        sets = timing.input_sets(int(call.bytes(dtype.itemsize)), device)
        inputs = [[torch.randn(shape, device=device, dtype=dtype) for shape in shapes] for _ in range(sets)]

        def once(i: int) -> Tensor:
            q, k, v = inputs[i]
            if kernels == "triton" and launch is not None:
                with attention_triton.launched(launch):
                    return ops.attention(q, k, v, call.heads, kernels=kernels)
            return ops.attention(q, k, v, call.heads, kernels=kernels)

        try:
            return timing.time_calls(once, sets, device, repeats=1, seconds=SECONDS).seconds
        except (
            Exception
        ) as error:  # no such backend; too little shared memory or registers, an error of Triton's own kind
            print(f"    {kernels} {launch or ''} cannot: {first_line(error, 120)}")
            return float("inf")

    return measure


def go_on_from(path: Path) -> Found:
    """What an earlier, perhaps interrupted run wrote."""
    if not path.exists():
        return Found({}, {})
    table = tuned.read(path)
    choices: dict[tuple[object, ...], Rule] = {}
    for rule in table.choices:
        lq, lk = rule.when.get("Lq"), rule.when.get("Lk")
        known = next((c for c in production.ATTENTION if _fits(rule, c)), None) if lq and lk else None
        place = (
            (getattr(torch, str(rule.when.get("dtype"))), known.head_dim, known.lq, known.lk) if known else (str(rule),)
        )
        choices[place] = rule
    return Found(choices, {name: dict(launch) for name, launch in table.launches.items()})


def _fits(rule: Rule, call: AttentionCall) -> bool:
    made = best_choice(call, torch.float16, lambda *_: 1.0)
    return made is not None and {**made.when, "dtype": None} == {**rule.when, "dtype": None}


def show(device: torch.device) -> None:
    table = tuned.tuned_for(device_facts(device))
    print(f"from {table.source}")
    for rule in table.choices:
        print(f"  {rule.operation} {dict(rule.when)}: {', '.join(rule.use)}")
    for name, launch in table.launches.items():
        print(f"  launch {name}: {dict(launch)}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m custom_kernels.tune", description=__doc__)
    parser.add_argument("--show", action="store_true", help="print the table that holds on this device, and its source")
    parser.add_argument("--out", type=Path, default=tuned.FOLDER, help="the folder of the tables")
    parser.add_argument("--dtype", nargs="+", choices=("bfloat16", "float16"), default=["bfloat16"])
    parser.add_argument("--quick", action="store_true", help="the calls that cost most only")
    parser.add_argument("--minutes", type=float, default=10.0, help="stop after this time; run again to go on")
    parser.add_argument("--again", action="store_true", help="measure anew what the table has already")
    chosen = parser.parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if chosen.show:
        show(device)
        return 0
    if device.type != "cuda" or os.environ.get("TRITON_INTERPRET", "0") not in ("", "0"):
        print("tuning needs a CUDA device, and TRITON_INTERPRET unset", file=sys.stderr)
        return 2
    facts = device_facts(device)
    path = chosen.out / f"{facts.name}.json"
    found = Found({}, {}) if chosen.again else go_on_from(path)
    processors = torch.cuda.get_device_properties(device).multi_processor_count
    calls = production.QUICK if chosen.quick else production.ATTENTION
    dtypes = [getattr(torch, name) for name in chosen.dtype]
    began = time.perf_counter()
    for line in tune(found, calls, dtypes, facts.arch, processors, measure_on(device)):
        print(f"{time.perf_counter() - began:5.0f} s  {line}", flush=True)
        tuned.write(path, timing.describe(device), list(found.choices.values()), found.launches)
        if time.perf_counter() - began > 60 * chosen.minutes:
            print("time is up; run again to go on")
            break
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
