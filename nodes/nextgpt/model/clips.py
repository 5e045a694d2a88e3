"""Where the fixed-length clips of a recording begin; shared by video and audio."""

from __future__ import annotations

from fractions import Fraction


def clip_starts(duration_s: Fraction, clip_s: Fraction, count: int, *, reach_end: bool = False) -> list[Fraction]:
    """Begin of each of ``count`` clips of ``clip_s`` seconds, in seconds.

    By default the clips are spread as in pytorchvideo 0.1.5, which the NExT-GPT weights were trained with: steps of
    1/count of the free time, so the last clip ends before the recording does.  ``reach_end`` spreads them over all of
    it, as later versions do.  A recording no longer than a clip gives ``count`` equal clips from 0.
    """
    if count < 1 or clip_s <= 0:
        raise ValueError(f"clips must be at least one and longer than 0 s, got {count} clips of {float(clip_s)} s")
    free = max(duration_s - clip_s, Fraction(0))
    step = free / max(count - 1, 1) if reach_end else free / count
    return [step * index for index in range(count)]
