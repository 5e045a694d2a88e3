"""What `tests.bench.unets` found: a row per denoiser and way, printed, written, and judged by the bars."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.bench.unet_models import Model

WAYS = ("eager", "ours", "ours+graph", "compile", "reduce-overhead", "max-autotune")
QUICK, COMPILED = WAYS[:3], WAYS[3:]
STEPS = 20
OVER = "left out: the time is over"
MOST_ERROR, LEAST_PSNR = 2e-2, 35.0


@dataclass
class Row:
    model: str
    way: str
    medians: tuple[float, ...] = ()
    fastest: float = 0.0
    slowest: float = 0.0
    peak_allocated: int = 0
    peak_reserved: int = 0
    error: float = float("nan")
    """|step - float32| / |float32|."""
    psnr: float = float("nan")
    """dB between what the autoencoder makes of the latents of 20 steps and of those of eager diffusers."""
    latents_psnr: float = float("nan")
    """dB between the latents themselves."""
    prepare: float = 0.0
    """Seconds until the first step was done: compiling, warming up."""
    floor: float = 0.0
    told: str = ""

    @property
    def seconds(self) -> float:
        return min(self.medians, default=float("nan"))


def relative(found: Tensor, truth: Tensor) -> float:
    if not bool(found.isfinite().all()):
        return float("inf")
    return float((found.double() - truth.double()).norm() / truth.double().norm())


def psnr(found: Tensor, wanted: Tensor) -> float:
    """dB, against the spread of what was wanted."""
    error = float((found - wanted).square().mean().sqrt())
    spread = float(wanted.max() - wanted.min())
    return math.inf if error == 0 else 20 * math.log10(spread / error)


def line(row: Row) -> str:
    if not row.medians:
        return f"    {row.way:14}{'-':>9}  {row.told}"
    one, other = (f"{seconds * 1e3:9.2f}" for seconds in row.medians)
    memory = f"{row.peak_allocated / 2**30:6.2f} GiB" if row.peak_allocated else ""
    return (
        f"    {row.way:14}{one}{other} ms  {row.floor / row.seconds:6.1%} of the roof  {memory}  "
        f"error {row.error:.1e}  {row.psnr:.0f} dB  {row.told}"
    )


def verdicts(chosen: Sequence[Model], rows: Sequence[Row]) -> list[tuple[str, bool]]:
    """Each bar of the models: a sentence, and whether it holds. One whose other side was not measured does not."""
    return [
        (f"{model.name}: {sentence}", holds)
        for model in chosen
        for sentence, holds in judged(model, {row.way: row for row in rows if row.model == model.name})
    ]


def judged(model: Model, by_way: dict[str, Row]) -> list[tuple[str, bool]]:
    ours, eager = by_way.get("ours+graph"), by_way.get("eager")
    if ours is None or not ours.medians:
        return [(f"ours+graph was not measured{f' ({ours.told})' if ours is not None and ours.told else ''}", False)]
    found = [speed(other, factor, ours, by_way) for other, factor in model.bars.items()]
    drawn = f"what {STEPS} steps draw with and without"
    if eager is not None and eager.medians:
        share = ours.peak_reserved / max(1, eager.peak_reserved)
        found.append((f"peak memory {share:.2f} of eager's, wanted at most 1", share <= 1))
        found.append((f"{ours.psnr:.0f} dB between {drawn}, wanted {LEAST_PSNR:.0f} dB", ours.psnr >= LEAST_PSNR))
    else:
        found.append(("peak memory: eager was not measured, wanted at most 1 of eager's", False))
        found.append((f"{drawn}: eager was not measured, wanted {LEAST_PSNR:.0f} dB", False))
    beside = float("nan") if eager is None else eager.error
    sentence = f"relative error {ours.error:.1e} (eager's own {beside:.1e}), wanted at most {MOST_ERROR:.1e}"
    return [*found, (sentence, math.isfinite(ours.error) and ours.error <= MOST_ERROR)]


def speed(other: str, factor: float, ours: Row, by_way: dict[str, Row]) -> tuple[str, bool]:
    """`ours` must be `factor` times as fast as a way, or as the best of `COMPILED`; which was the best nobody knows unless
    all of them were measured."""
    names = COMPILED if other == "compiled" else (other,)
    times = {name: by_way[name].seconds for name in names if name in by_way and by_way[name].medians}
    unseen = ", ".join(
        f"{name} ({by_way[name].told if name in by_way else 'not asked for'})" for name in names if name not in times
    )
    if not times:
        missing = "was not measured" if len(names) == 1 else f"were not measured, so the best of {other} was not seen"
        return f"{unseen} {missing}, wanted {factor}x", False
    best = min(times, key=times.__getitem__)
    ratio = times[best] / ours.seconds
    which = other if other == best else f"{other} ({best})"
    sentence = f"{ratio:.2f}x of {which}, wanted {factor}x"
    return (f"{sentence}, but the best was not seen: {unseen}", False) if unseen else (sentence, ratio >= factor)


COLUMNS = (
    "model", "way", "ms_first", "ms_second", "ms_fastest", "ms_slowest", "floor_ms", "roof_share", "peak_allocated_bytes",
    "peak_reserved_bytes", "relative_error", "psnr_db", "latents_psnr_db", "prepare_s", "dtype", "told", "device", "driver",
    "torch", "triton", "cuda", "cudnn", "diffusers",
)  # fmt: skip


def write(path: Path, rows: Sequence[Row], about: dict[str, str], dtype: torch.dtype) -> None:
    import diffusers

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        for row in rows:
            timed: dict[str, Any] = {}
            if row.medians:
                timed = {
                    "ms_first": f"{row.medians[0] * 1e3:.3f}",
                    "ms_second": f"{row.medians[1] * 1e3:.3f}",
                    "ms_fastest": f"{row.fastest * 1e3:.3f}",
                    "ms_slowest": f"{row.slowest * 1e3:.3f}",
                    "roof_share": f"{row.floor / row.seconds:.3f}",
                    "peak_allocated_bytes": row.peak_allocated,
                    "peak_reserved_bytes": row.peak_reserved,
                    "prepare_s": f"{row.prepare:.1f}",
                }
            writer.writerow(
                {
                    "model": row.model,
                    "way": row.way,
                    **timed,
                    "floor_ms": f"{row.floor * 1e3:.3f}",
                    "relative_error": f"{row.error:.2e}",
                    "psnr_db": f"{row.psnr:.1f}",
                    "latents_psnr_db": f"{row.latents_psnr:.1f}",
                    "dtype": str(dtype).removeprefix("torch."),
                    "told": row.told,
                    **about,
                    "diffusers": diffusers.__version__,
                }
            )
