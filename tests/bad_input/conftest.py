from __future__ import annotations

import wave
from collections.abc import Iterator
from pathlib import Path

import av
import numpy
import pytest
from PIL import Image

from tests.protocol.live import LiveServer
from web.limits import Limits


@pytest.fixture(scope="package")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """One server for the whole table: what one row does to it, the next one finds."""
    limits = Limits(send_s=0.5)
    with LiveServer(tmp_path_factory.mktemp("table"), limits=limits) as server:
        damage(server.engine.folders.roots["input"])
        yield server


def damage(folder: Path) -> None:
    """A picture, a sound and a film, each whole and each cut off; and a sound of no length."""
    noise = numpy.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=numpy.uint8)
    Image.fromarray(noise).save(folder / "whole.png")
    for name, frames in (("whole.wav", 8000), ("zero.wav", 0)):
        with wave.open(str(folder / name), "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(8000)
            sound.writeframes(b"\x01\x00" * frames)
    with av.open(str(folder / "whole.mp4"), "w") as film:
        stream = film.add_stream("mpeg4", rate=8)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for _ in range(4):
            film.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        film.mux(stream.encode())
    for name in ("whole.png", "whole.wav", "whole.mp4"):
        data = (folder / name).read_bytes()
        (folder / name.replace("whole", "cut")).write_bytes(data[: len(data) // 2])
