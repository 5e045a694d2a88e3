"""One denoising step of the four denoisers at their true sizes, by every way there is: `python -m tests.bench.unets`.

On a CUDA device, which needs torch, triton and the wheels of diffusers and safetensors. Random weights in bfloat16, guidance
(a batch of two), fresh latents at every step, the same words. A step is timed between CUDA events of a run of steps, so that
the host's time is in it where that is what a run waits for; medians of two repeats. Before it is timed, every way is
compared with float32, on memory that held NaN, and what the autoencoder makes of its latents after 20 steps with what it
makes of those of diffusers. A bar whose other side was not measured is missed.

    eager            diffusers as it is
    compile          torch.compile in channels-last
    reduce-overhead  the same in CUDA graphs
    max-autotune     torch.compile(mode="max-autotune") in channels-last, also in CUDA graphs
    ours             accelerate_unet without CUDA graphs
    ours+graph       accelerate_unet

    python -m tests.bench.unets --models sd15 audioldm --ways eager ours ours+graph --csv out/bench/unets.csv
    make bench-gpu
    make bench-gpu-compile

`--quick` measures eager, ours and ours+graph; `--minutes` begins nothing new after this time, and no compilation is waited
for longer than `--compile-seconds`. The compilers belong in a process of their own: what inductor began goes on for a while.
`--check` exits 1 when a bar is missed, `--dry-run` runs small ones on the CPU.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from custom_kernels import timing
from custom_kernels.layout import strides_of
from custom_kernels.plug import Accelerated, accelerate_unet
from custom_kernels.told import first_line
from tests.bench.unet_models import Model, lay_in_blocks, models
from tests.bench.unet_rows import (
    COMPILED,
    MOST_ERROR,
    OVER,
    QUICK,
    WAYS,
    Row,
    line,
    psnr,
    relative,
    verdicts,
    write,
)
from tests.bench.unet_steps import floor_of, poisoned, run, single, tidy, time_steps


@dataclass(frozen=True)
class Eager:
    """What the others are compared with: diffusers in the same type."""

    latents: Tensor
    drawn: Tensor
    """What the autoencoder makes of them."""
    error: float

    def judge(self, error: float) -> bool:
        """Whether an error is one that the type makes, not the way."""
        return math.isfinite(error) and error <= self.least

    @property
    def least(self) -> float:
        """The error beyond which a way is called wrong. The bar is `MOST_ERROR`, whatever eager's is."""
        return max(MOST_ERROR, 1.2 * self.error)


class TooLong(BaseException):
    """A compilation took longer than it may. No Exception: dynamo wraps those, and inductor passes over them."""


def measure(
    model: Model,
    ways: Sequence[str],
    device: torch.device,
    dtype: torch.dtype,
    out_of_time: Callable[[], bool],
    limit: int,
    known: dict[str, Eager],
) -> Iterator[Row]:
    """A row per way, of one model. Ways that fail or take too long have a row that says so. known: of the models before."""
    if out_of_time():
        yield from (Row(model.name, way, told=OVER) for way in ways)
        return
    unet = model.build(device, dtype)
    told = model.told(device, dtype)
    wide = copy.deepcopy(unet)  # the same weights: random ones of another type would be others
    nn.Module.to(wide, torch.float32)
    truth = single(wide, model, model.told(device, torch.float32), device, torch.float32)
    del wide
    floor = floor_of(unet, model, told, device, dtype)
    for way in sorted(ways, key=WAYS.index):
        row = Row(model.name, way, floor=floor)
        if out_of_time():
            row.told = OVER
            yield row
            continue
        # Anew, since the way before may have laid some of them elsewhere. For ours in the order in which the pool brings them;
        # who has no kernels has them as files do.
        lay_in_blocks(unet, device, {} if way == "eager" else strides_of(unet))
        tidy(device)
        began = time.perf_counter()
        fast: Accelerated | None = None
        try:
            with alarm(limit if way in COMPILED else 0):
                fast = prepared(unet, way, device)
                call = asked(unet, way, device)
                # Poisoned, a step is another one for dynamo, which would compile twice and time what nobody looked at.
                with nullcontext() if way in COMPILED else poisoned():
                    row.error = relative(single(call, model, told, device, dtype), truth)
                row.prepare = time.perf_counter() - began
            if fast is not None and fast.plug is not None and fast.plug.graphs is not None:
                fast.plug.graphs.forget()  # that step chose other algorithms than those that will be captured: warm up anew
            latents = run(call, model, told, device, dtype).cpu()
            drawn = model.drawn(latents, device)
            if way == "eager":
                known[model.name] = Eager(latents, drawn, row.error)
            eager = known.get(model.name)
            if eager is not None:
                row.psnr, row.latents_psnr = psnr(drawn, eager.drawn), psnr(latents, eager.latents)
            tidy(device)
            time_steps(row, call, model, told, device, dtype)
            row.told = "" if fast is None else fast.told()
            if not (row.error <= MOST_ERROR if eager is None else eager.judge(row.error)):
                row.told = f"wrong: relative error {row.error:.1e}"
        except TooLong:
            row.told = f"compiling took more than {limit} s"
        except Exception as error:  # the others are still worth measuring
            row.told = f"failed: {type(error).__name__}: {first_line(error, 200)}"
        finally:
            if fast is not None:
                fast.restore()
        yield row


def prepared(unet: Any, way: str, device: torch.device) -> Accelerated | None:
    if way == "eager":
        return None
    if way in COMPILED:
        torch._dynamo.reset()
        options: dict[str, Any] = {} if way == "compile" else {"mode": way}
        return accelerate_unet(unet, "compile", **({"backend": "eager"} if device.type == "cpu" else options))
    return accelerate_unet(unet, "auto", graph=way == "ours+graph")


def asked(unet: Any, way: str, device: torch.device) -> Any:
    """The UNet as who knows it calls it. Ours takes timesteps from the host without waiting, as our loop has them; diffusers
    waits for each to be copied, so the others get theirs as its pipelines give them: on the device already."""
    if way.startswith("ours"):
        return unet
    return lambda latent, timestep, **told: unet(latent, timestep.to(device, non_blocking=True), **told)


@contextmanager
def alarm(seconds: int) -> Iterator[None]:
    if not seconds:
        yield
        return

    def ring(*_: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.unets", description=__doc__)
    names = [model.name for model in models(False)]
    parser.add_argument("--models", nargs="+", choices=names, default=names)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--quick", action="store_true", help="eager, ours and ours+graph only")
    parser.add_argument("--dry-run", action="store_true", help="small models on the CPU: does the script work?")
    parser.add_argument("--check", action="store_true", help="exit 1 when a bar is missed")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--minutes", type=float, default=8.0, help="begin nothing new after this time")
    parser.add_argument("--compile-seconds", type=int, default=120, help="wait no longer for a compilation")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = parse(arguments)
    if not chosen.dry_run and not torch.cuda.is_available():
        print("there is no CUDA device here; `--dry-run` runs small models on the CPU", file=sys.stderr)
        return 2
    if not chosen.dry_run and os.environ.get("TRITON_INTERPRET", "0") not in ("", "0"):
        print("TRITON_INTERPRET is set: the kernels would be interpreted, not timed; unset it", file=sys.stderr)
        return 2
    began = time.perf_counter()
    device = torch.device("cpu" if chosen.dry_run else "cuda")
    dtype = torch.float32 if chosen.dry_run else torch.bfloat16
    ways = QUICK if chosen.quick else chosen.ways
    about = timing.describe(device)
    print(", ".join(f"{name} {value}" for name, value in about.items() if value))
    rows: list[Row] = []
    measured = [model for model in models(chosen.dry_run) if model.name in chosen.models]
    known: dict[str, Eager] = {}
    # What is quick comes first for all models: the compilers may take all the time there is.
    turns = [
        (model, some)
        for turn in (QUICK, [way for way in WAYS if way not in QUICK])
        for model in measured
        if (some := [way for way in ways if way in turn])
    ]
    with torch.no_grad():
        for model, some in turns:
            print(f"{model.name} {'x'.join(map(str, model.latent))}", flush=True)
            for row in measure(
                model,
                some,
                device,
                dtype,
                lambda: time.perf_counter() - began > chosen.minutes * 60,
                chosen.compile_seconds,
                known,
            ):
                rows.append(row)
                print(line(row), flush=True)
                if chosen.csv:  # after every row: a borrowed machine may be gone before the end
                    write(chosen.csv, rows, about, dtype)
    bars = [] if chosen.dry_run else verdicts(measured, rows)
    for sentence, holds in bars:
        print(f"{'holds ' if holds else 'MISSED'}  {sentence}")
    print(f"{len(rows)} rows, {time.perf_counter() - began:.0f} s")
    wrong = [row for row in rows if row.told.startswith(("wrong", "failed"))]
    return 1 if wrong or not rows or (chosen.check and not all(holds for _, holds in bars)) else 0


if __name__ == "__main__":
    sys.exit(main())
