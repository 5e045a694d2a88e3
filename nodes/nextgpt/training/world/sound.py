"""A sound: one note of a scale, played by one of four instruments, for two seconds.

Synthesised in tensors, many at once, on any device.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nodes.nextgpt.training.world.terms import (
    BASE_HZ,
    BEATS,
    DIRECTIONS,
    LOUDNESS,
    NOTES,
    OCTAVES,
    PEAKS,
    STEPS,
    TIMBRES,
)

SAMPLE_RATE = 16_000
SECONDS = 2.0
SAMPLES = int(SAMPLE_RATE * SECONDS)
FADE_S = 0.012
"""Every stroke begins and ends in so many seconds, so that nothing clicks."""
DUTY = 0.72
"""Share of its slot in which a stroke sounds, where there are several."""

HARMONICS: dict[str, tuple[float, ...]] = {
    "flute": (1.0, 0.06),
    "organ": (1.0, 0.0, 0.6, 0.0, 0.36),
    "violin": (1.0, 0.62, 0.44, 0.3, 0.2, 0.12),
    "bell": (1.0, 0.25, 0.0, 0.5),
}
"""Amplitudes of the harmonics."""
LIMIT_HZ = 7_600
"""A harmonic that comes above this is left out, so that nothing folds back."""
DECAY_S = {"bell": 0.35}
"""Time in which a stroke falls to 1/e; others stay as loud as they began."""


@dataclass(frozen=True)
class Sound:
    """What is played. What glides is low and sounds once: it begins or ends an octave above its note."""

    note: str
    octave: str
    timbre: str
    beats: str
    direction: str
    loudness: str

    def __post_init__(self) -> None:
        if self.direction != "steady" and (self.octave, self.beats) != ("low", "once"):
            raise ValueError("a rising or falling sound is low and sounds once")

    @property
    def hz(self) -> float:
        """Of its note, wherever a glide begins or ends."""
        return BASE_HZ[self.octave] * STEPS[self.note] / 8

    @property
    def strokes(self) -> int:
        return tuple(BEATS).index(self.beats) + 1


def random_sound(draw: random.Random) -> Sound:
    """Half of the sounds are steady with one to four beats, the rest rise or fall."""
    direction = draw.choice(("steady", *DIRECTIONS))
    gliding = direction != "steady"
    return Sound(
        draw.choice(tuple(NOTES)),
        "low" if gliding else draw.choice(tuple(OCTAVES)),
        draw.choice(tuple(TIMBRES)),
        "once" if gliding else draw.choice(tuple(BEATS)),
        direction,
        draw.choice(tuple(LOUDNESS)),
    )


def play(sounds: Sequence[Sound], device: torch.device | str = "cpu") -> Tensor:
    """Waveforms "B SAMPLES" in -1..1 at 16 kHz, float32, of exactly the peak that their loudness says."""
    time = torch.arange(SAMPLES, device=device, dtype=torch.float64) / SAMPLE_RATE
    waves = []
    for sound in sounds:
        octaves = {"steady": torch.zeros_like(time), "rising": time / SECONDS, "falling": 1 - time / SECONDS}
        phase = 2 * math.pi * sound.hz * torch.cumsum(2 ** octaves[sound.direction], 0) / SAMPLE_RATE
        highest = sound.hz * (1 if sound.direction == "steady" else 2)
        wave = torch.zeros_like(time)
        for number, amplitude in enumerate(HARMONICS[sound.timbre], 1):
            if amplitude and number * highest < LIMIT_HZ:
                wave += amplitude * torch.sin(number * phase)
        wave = wave * _envelope(sound, time)
        waves.append(wave / wave.abs().max() * PEAKS[sound.loudness])
    return torch.stack(waves).float()


def _envelope(sound: Sound, time: Tensor) -> Tensor:
    slot = SECONDS / sound.strokes
    since = torch.remainder(time, slot)
    length = slot if sound.strokes == 1 else slot * DUTY
    rise = (since / FADE_S).clamp(0, 1)
    fall = ((length - since) / FADE_S).clamp(0, 1)
    envelope = rise * fall
    if sound.timbre in DECAY_S:
        # What sounds once rings through its two seconds, so that a glide can be heard to its end.
        envelope = envelope * torch.exp(-since / (DECAY_S[sound.timbre] * (3 if sound.strokes == 1 else 1)))
    return envelope
