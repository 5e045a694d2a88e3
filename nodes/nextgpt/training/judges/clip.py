"""What happens in a clip of the world: its thing, and how it moves, by the track of its centre, area and angle."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nodes.nextgpt.training.judges import picture
from nodes.nextgpt.training.world.clip import GROWTH, REACH, Clip
from nodes.nextgpt.training.world.picture import SHAPE_NAMES, coverage
from nodes.nextgpt.training.world.scene import SIDE
from nodes.nextgpt.training.world.terms import GREY, SYMMETRY

_MOVES = 0.35 * (REACH[1] - REACH[0])
"""Pixels from the first to the last frame; a third of what a moving thing makes."""
_GROWS = math.sqrt(GROWTH[1] / GROWTH[0])
"""Ratio of radii from the first to the last frame; half (in logarithm) of what a growing thing makes."""
_STEPS = 16
"""Angles that are tried over what a shape's symmetry leaves apart."""


@dataclass(frozen=True)
class Watched:
    """dx, dy: pixels from begin to end; growth: ratio of radii; turned: degrees."""

    shape: str
    colour: str
    motion: str
    background: str
    dx: float
    dy: float
    growth: float
    turned: float


def watch(frames: Any) -> Watched | None:
    """What frames "F H W 3" in 0..1 show; None where fewer than half of them show anything."""
    tensor = torch.as_tensor(frames)
    looks, covers, colours, moments = [], [], [], []
    for number, frame in enumerate(tensor):
        pixels = picture.pixels_of(frame)
        smooth, grey = picture.smoothed(pixels), picture.background_of(pixels)
        looks.append(grey.mean())
        found = picture.objects(smooth, grey)
        if found:
            covers.append(found[0][0])
            colours.append(found[0][1])
            moments.append(number)
    if len(covers) < max(2, len(tensor) / 2):
        return None
    ys, xs = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    areas = np.array([cover.sum() for cover in covers])
    x = np.array([(cover * xs).sum() for cover in covers]) / areas
    y = np.array([(cover * ys).sum() for cover in covers]) / areas
    time, span = np.array(moments, dtype=float), len(tensor) - 1
    dx, dy = (float(np.polyfit(time, track, 1)[0]) * span for track in (x, y))
    growth = math.exp(float(np.polyfit(time, np.log(areas) / 2, 1)[0]) * span)
    shape, turned = _shape_and_turn(covers)
    if math.hypot(dx, dy) > _MOVES:
        motion = ("right" if dx > 0 else "left") if abs(dx) > abs(dy) else ("down" if dy > 0 else "up")
    elif growth > _GROWS or growth < 1 / _GROWS:
        motion = "grows" if growth > 1 else "shrinks"
    else:
        least = 0.3 * 360 / SYMMETRY[shape] if SYMMETRY[shape] else math.inf
        motion = "turns" if abs(turned) > least else "still"
    grey_of = min(GREY, key=lambda name: abs(GREY[name] - float(np.median(looks))))
    return Watched(shape, Counter(colours).most_common(1)[0][0], motion, grey_of, dx, dy, growth, turned)


def _shape_and_turn(covers: list[np.ndarray]) -> tuple[str, float]:
    """The shape that fits best over all frames, at any angle, and by how many degrees it turns."""
    total = np.zeros(len(SHAPE_NAMES))
    best: dict[str, list[float]] = {}
    for index, name in enumerate(SHAPE_NAMES):
        period = 2 * math.pi / SYMMETRY[name] if SYMMETRY[name] else 0.0
        angles = [period * step / _STEPS for step in range(_STEPS)] if period else [0.0]
        fits = np.array([_fit(cover, index, angles) for cover in covers])
        total[index] = fits.max(-1).sum()
        best[name] = [angles[int(place)] for place in fits.argmax(-1)]
    shape = SHAPE_NAMES[int(total.argmax())]
    period = 2 * math.pi / SYMMETRY[shape] if SYMMETRY[shape] else 1.0
    steps = [(b - a + period / 2) % period - period / 2 for a, b in zip(best[shape], best[shape][1:], strict=False)]
    return shape, math.degrees(sum(steps)) if SYMMETRY[shape] else 0.0


def _fit(cover: np.ndarray, shape: int, angles: list[float]) -> np.ndarray:
    """Of one shape at these angles, at the cover's own centre and area."""
    area = float(cover.sum())
    ys, xs = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    x, y = float((cover * xs).sum()) / area, float((cover * ys).sum()) / area
    radius = math.sqrt(area / math.pi)
    count, reach = len(angles), math.ceil(1.9 * radius) + 2
    left, top = max(0, int(x) - reach), max(0, int(y) - reach)
    patch = torch.from_numpy(cover[top : int(y) + reach, left : int(x) + reach]).float()
    across = torch.arange(left, left + patch.shape[1]) + 0.5 - x
    down = torch.arange(top, top + patch.shape[0]) + 0.5 - y
    drawn = coverage(
        torch.full((count,), shape),
        across[None, None, :].expand(count, 1, -1),
        down[None, :, None].expand(count, -1, 1),
        torch.full((count,), radius),
        torch.tensor(angles),
    )
    drawn = picture.blurred(drawn)
    return (torch.minimum(drawn, patch).sum((1, 2)) / torch.maximum(drawn, patch).sum((1, 2))).numpy()


def agrees(seen: Watched | None, clip: Clip) -> dict[str, bool]:
    """Attribute by attribute, whether that is what was to be seen."""
    names = ("shape", "colour", "motion", "background")
    return {name: seen is not None and getattr(seen, name) == getattr(clip, name) for name in names}
