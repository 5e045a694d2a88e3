"""The fixed-length clips of a recording: where they begin, and how what was made of each becomes one embedding."""

from __future__ import annotations

from fractions import Fraction

from torch import Tensor


def clip_starts(duration_s: float, clip_s: int, count: int, *, reach_end: bool = False) -> list[Fraction]:
    """Begin of each of ``count`` clips of ``clip_s`` seconds, in seconds.

    By default the clips are spread as in pytorchvideo 0.1.5, which the NExT-GPT weights were trained with: steps of
    1/count of the free time, so the last clip ends before the recording does.  ``reach_end`` spreads them over all of
    it, as later versions do.  A recording no longer than a clip gives ``count`` equal clips from 0.

    The duration is a float on purpose: the original rounds it so, and a begin that lies on a frame or sample falls on
    one side of it or the other by that rounding.
    """
    if count < 1 or clip_s <= 0:
        raise ValueError(f"clips must be at least one and longer than 0 s, got {count} clips of {float(clip_s)} s")
    free = Fraction(max(float(duration_s) - clip_s, 0.0))
    step = free / max(count - 1, 1) if reach_end else free / count
    return [step * index for index in range(count)]


def average_views(rows: Tensor, views: int, apart: int = 1) -> Tensor:
    """``"(B views) N D" -> "B (apart N) D"``: the mean over the views of each of ``apart`` clips, which stay in order."""
    if views == 1:
        return rows
    _, count, width = rows.shape
    return rows.reshape(-1, apart, views // apart, count, width).mean(dim=2).flatten(1, 2)
