"""The sound of a video file while it is written, second by second beside the pictures."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import av
import numpy as np

_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
PIECE_S = 0.5


class SoundTrack:
    """Encodes the first batch entry of AUDIO, mixed to at most two channels: AAC into "mp4", Opus into "webm"."""

    def __init__(self, container: Any, audio: Mapping[str, Any], format: str) -> None:
        waveform, self.rate = audio["waveform"][0], int(audio["sample_rate"])
        if waveform.shape[0] > 2:
            waveform = waveform.mean(dim=0, keepdim=True).expand(2, -1)
        self.samples = waveform.detach().cpu().numpy().clip(-1, 1)
        self.layout = "mono" if len(self.samples) == 1 else "stereo"
        codec, rates = ("libopus", _OPUS_RATES) if format == "webm" else ("aac", _AAC_RATES)
        self.container, self.place = container, 0
        self.stream = container.add_stream(codec, rate=self.rate if self.rate in rates else 48000, layout=self.layout)
        self.stream.bit_rate = 96_000 * len(self.samples)

    def write_until(self, time_s: float) -> None:
        """Encode the sound up to this time."""
        step = max(1, round(PIECE_S * self.rate))
        while self.place < self.samples.shape[1] and self.place <= time_s * self.rate:
            piece = np.ascontiguousarray(self.samples[:, self.place : self.place + step])
            frame = av.AudioFrame.from_ndarray(piece, "fltp", self.layout)
            frame.sample_rate, frame.pts, frame.time_base = self.rate, self.place, Fraction(1, self.rate)
            self.container.mux(self.stream.encode(frame))
            self.place += step

    def close(self) -> None:
        """Encode the rest."""
        self.write_until(float("inf"))
        self.container.mux(self.stream.encode(None))
