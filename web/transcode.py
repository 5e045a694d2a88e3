"""From any medium that our libraries can read to one that every browser shows."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from graph_engine.errors import RequestError

LONGEST_S = 600.0
FILM_SIDE = 1280
PICTURE_SIDE = 4096
RATE = 48_000
TICKS = 90_000
"""Per second: times of frames, which need not come evenly."""
OPTIONS = {"protocol_whitelist": "file"}
"""A playlist in the clothes of a film must not fetch anything."""
_NOT_READ = frozenset({"hls", "concat", "dash", "applehttp", "sdp", "rtsp", "webm_dash_manifest", "imf"})
"""Containers that are lists of other files."""


def to_png(source: Path, target: Path) -> None:
    """The first picture, turned upright, with sides of at most 4096 pixels."""
    import torch
    from PIL import Image

    from nodes.media.image_file import read_image, to_pil

    colours, clear = read_image(source)
    alpha = (1.0 - clear).unsqueeze(-1)
    picture = to_pil(colours[0] if bool((alpha == 1).all()) else torch.cat([colours, alpha], dim=-1)[0])
    picture.thumbnail((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.BOX)
    picture.save(target, "PNG", compress_level=3)


def to_m4a(source: Path, target: Path) -> None:
    """The first sound track as AAC, two channels at 48 kHz."""
    with opened(source) as given, av.open(str(target), "w", format="mp4", options=_FAST) as made:
        if not given.streams.audio:
            raise _nothing(source, "sound")
        sound = _Sound(made)
        for frame in given.decode(given.streams.audio[0]):
            if _seconds(frame, given) > LONGEST_S:
                break
            sound.take(frame)
        sound.close()
        if not sound.count:
            raise _nothing(source, "sound")


def to_mp4(source: Path, target: Path) -> None:
    """The first picture track as H.264, upright, and the first sound track as AAC. Frames keep their times."""
    turns = _turns(source)
    with opened(source) as given, av.open(str(target), "w", format="mp4", options=_FAST) as made:
        if not given.streams.video:
            raise _nothing(source, "pictures")
        pictures = given.streams.video[0]
        pictures.thread_type = "AUTO"
        film: Any = made.add_stream("libx264", rate=30, options={"crf": "25", "preset": "veryfast"})
        sides = (pictures.codec_context.width, pictures.codec_context.height)
        scale = min(1.0, FILM_SIDE / max(*sides, 1))
        width, height = (max(2, 2 * round(side * scale / 2)) for side in sides)
        film.width, film.height = (height, width) if turns % 2 else (width, height)
        film.pix_fmt = "yuv420p"
        film.codec_context.time_base = Fraction(1, TICKS)
        sound = _Sound(made) if given.streams.audio else None
        last = -1
        for packet in given.demux([pictures, *given.streams.audio[:1]]):
            for frame in packet.decode():
                at = _seconds(frame, given)
                if at > LONGEST_S:
                    continue
                if isinstance(frame, av.VideoFrame):
                    picture = _turned(frame, width, height, turns)
                    last = max(last + 1, round(at * TICKS))
                    picture.pts, picture.time_base = last, Fraction(1, TICKS)
                    made.mux(film.encode(picture))
                elif sound is not None and isinstance(frame, av.AudioFrame):
                    sound.take(frame)
        if last < 0:
            raise _nothing(source, "pictures")
        made.mux(film.encode(None))
        if sound is not None:
            sound.close()


def _turns(source: Path) -> int:
    """Quarters of a turn that a phone's mark asks for."""
    with opened(source) as given:
        if given.streams.video:
            for frame in given.decode(given.streams.video[0]):
                return round(frame.rotation / 90) % 4
    return 0


def _turned(frame: Any, width: int, height: int, turns: int) -> Any:
    if not turns:
        return frame.reformat(width, height, "yuv420p")
    pixels = np.rot90(frame.to_ndarray(format="rgb24", width=width, height=height), turns)
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24").reformat(format="yuv420p")


_FAST = {"movflags": "faststart"}


def opened(source: Path) -> Any:
    """The container of a sound or film. Raises RequestError for a list of other files."""
    container = av.open(str(source), options=OPTIONS)
    if _NOT_READ & set(container.format.name.split(",")):
        container.close()
        raise RequestError(
            f"{source.name[:80]!r} is a list of other files.", remedy="Bring the film itself.", code="damaged_file"
        )
    return container


def _seconds(frame: Any, given: Any) -> float:
    origin = (given.start_time or 0) / av.time_base
    return 0.0 if frame.pts is None else max(0.0, float(frame.pts * frame.time_base) - origin)


def _nothing(source: Path, what: str) -> RequestError:
    return RequestError(f"{source.name[:80]!r} has no {what}.", remedy="Choose another file.", code="damaged_file")


class _Sound:
    """A track of AAC in a container."""

    def __init__(self, made: Any) -> None:
        self._made = made
        self._stream: Any = made.add_stream("aac", rate=RATE, layout="stereo")
        self._stream.bit_rate = 160_000
        self._resampler = av.AudioResampler(format="fltp", layout="stereo", rate=RATE, frame_size=1024)
        self.count = 0

    def take(self, frame: Any) -> None:
        """Laid end to end: what the file says of times is often wrong by a sample."""
        frame.pts = None
        for part in self._resampler.resample(frame):
            self._encode(part)

    def _encode(self, part: Any) -> None:
        part.pts, part.time_base = self.count, Fraction(1, RATE)
        self.count += part.samples
        self._made.mux(self._stream.encode(part))

    def close(self) -> None:
        for part in self._resampler.resample(None):
            self._encode(part)
        self._made.mux(self._stream.encode(None))
