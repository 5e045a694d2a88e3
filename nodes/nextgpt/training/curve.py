"""Loss curves as pictures: every step thin, its moving mean thick, one colour per stage, the scale logarithmic."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

_COLOURS = ("#2f6fb0", "#c4572e", "#3d8b4f", "#7b4fa0", "#a0822a", "#b03f6d", "#2a8f8f", "#666666")
_LEFT, _TOP, _RIGHT, _BOTTOM = 56, 14, 14, 34


def curve(lines: Mapping[str, Sequence[float]], width: int, height: int) -> Any:
    """IMAGE "1 H W 3" in 0..1. lines: losses of every step, by name; at least one, none empty."""
    import numpy as np
    import torch

    return torch.from_numpy(np.asarray(draw_curve(lines, width, height), dtype=np.float32) / 255)[None]


def picture_of(lines: Mapping[str, Sequence[float]], width: int, height: int) -> bytes:
    """The same as the bytes of a PNG."""
    stream = io.BytesIO()
    draw_curve(lines, width, height).save(stream, "PNG")
    return stream.getvalue()


def draw_curve(lines: Mapping[str, Sequence[float]], width: int, height: int) -> Image.Image:
    canvas = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(12)
    values = [value for losses in lines.values() for value in losses if math.isfinite(value) and value > 0]
    low, high = (min(values), max(values)) if values else (0.1, 1.0)
    low, high = low * 0.95, high * 1.05
    longest = max(len(losses) for losses in lines.values())

    def point(step: float, loss: float) -> tuple[float, float]:
        share = (math.log(max(loss, low)) - math.log(low)) / (math.log(high) - math.log(low))
        across = _LEFT + (width - _LEFT - _RIGHT) * step / max(1, longest - 1)
        return across, height - _BOTTOM - (height - _TOP - _BOTTOM) * min(1.0, share)

    for value in _ticks(low, high):
        _, y = point(0, value)
        draw.line((_LEFT, y, width - _RIGHT, y), fill="#e4e4e4")
        draw.text((4, y - 7), f"{value:g}", fill="#444444", font=font)
    for share in (0, 0.5, 1):
        step = round(share * longest)
        draw.text(
            (point(share * (longest - 1), low)[0] - 12, height - _BOTTOM + 4), str(step), fill="#444444", font=font
        )
    for number, (name, losses) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        good = [(step, loss) for step, loss in enumerate(losses) if math.isfinite(loss) and loss > 0]
        # No more points than there are pixels twice over; a long training has hundreds of thousands.
        thin = good[:: max(1, len(good) // (2 * width))]
        _stroke(draw, [point(step, loss) for step, loss in thin], _faint(colour), 1)
        _stroke(draw, [point(step, loss) for step, loss in _mean(thin)], colour, 2)
        draw.text((_LEFT + 8 + 150 * number, height - 17), name, fill=colour, font=font)
    return canvas


def _mean(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Over a fiftieth of all points, exponentially."""
    keep, mean, found = 1 - 1 / max(1.0, len(points) / 50), 0.0, []
    for number, (step, loss) in enumerate(points):
        mean = loss if number == 0 else keep * mean + (1 - keep) * loss
        found.append((step, mean))
    return found


def _ticks(low: float, high: float) -> list[float]:
    start = math.floor(math.log10(low))
    return [
        part * 10**power for power in range(start, start + 12) for part in (1, 2, 5) if low <= part * 10**power <= high
    ]


def _stroke(draw: ImageDraw.ImageDraw, points: list[tuple[float, float]], colour: str, width: int) -> None:
    if len(points) == 1:
        (x, y) = points[0]
        draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=colour)
    elif points:
        draw.line(points, fill=colour, width=width, joint="curve")


def _faint(colour: str) -> str:
    parts = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return "#" + "".join(f"{round(255 - (255 - part) * 0.35):02x}" for part in parts)
