"""A film of the kind that browsers do not play."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np


def film(path: Path, codec: str = "mpeg4", format: str = "avi") -> None:
    """A second of 12 frames that turn red from the left, with a tone of 440 Hz."""
    with av.open(str(path), "w", format=format) as container:
        stream: Any = container.add_stream(codec, rate=12, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        sound: Any = container.add_stream("mp3", rate=44_100, layout="mono")
        for number in range(12):
            pixels = np.zeros((64, 96, 3), np.uint8)
            pixels[:, : number * 8] = (255, 0, 0)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 12)
            container.mux(stream.encode(frame))
        tone = (0.3 * np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100)).astype(np.float32)
        for start in range(0, 44_100, 1152):
            piece = av.AudioFrame.from_ndarray(tone[None, start : start + 1152], format="fltp", layout="mono")
            piece.sample_rate, piece.pts, piece.time_base = 44_100, start, Fraction(1, 44_100)
            container.mux(sound.encode(piece))
        container.mux(stream.encode(None))
        container.mux(sound.encode(None))
