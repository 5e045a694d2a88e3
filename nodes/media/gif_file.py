"""GIF animations: written with a palette per frame; their rate, which the file does not state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import torch
from PIL import Image as pil

from nodes.media import workflow_metadata
from nodes.media.image_file import bytes_of

MAX_FPS = 50
"""Browsers play shorter times than 0.02 s at a tenth of the speed."""


def gif_rate(path: Path) -> Fraction | None:
    """Frames per second of the shortest frames: equal frames in a row are stored as one long frame.

    Times are hundredths of a second, so frames within one of the shortest count as equally long.
    """
    with av.open(str(path)) as container:
        times = [packet.duration * packet.time_base for packet in container.demux(video=0) if packet.duration]
    if not times:
        return None
    short = [time for time in times if time <= min(times) + Fraction(1, 100)]
    return (len(short) / sum(short, Fraction())).limit_denominator(1001)


def write_gif(
    path: Path,
    frames: torch.Tensor,
    fps: float,
    document: Mapping[str, Any] | None,
    progress: Callable[[float, float], None],
) -> None:
    """256 colours of its own for every frame; the times are whole hundredths of a second that do not drift."""
    if fps > MAX_FPS:
        frames = frames[[int(number * fps / MAX_FPS) for number in range(max(1, int(len(frames) * MAX_FPS / fps)))]]
        fps = MAX_FPS
    pictures = []
    for number, picture in enumerate(frames):
        pictures.append(pil.fromarray(bytes_of(picture)).quantize(256, dither=pil.Dither.FLOYDSTEINBERG))
        progress(number + 1, len(frames))
    marks = [round(number * 100 / fps) for number in range(len(pictures) + 1)]
    times = [(after - before) * 10 for before, after in pairwise(marks)]
    comment = {"comment": workflow_metadata.as_text(document).encode()} if document else {}
    pictures[0].save(path, "GIF", save_all=True, append_images=pictures[1:], duration=times, loop=0, **comment)
