"""A sound: one note of a scale, played by one of four instruments, for two seconds.

Synthesised in tensors, many at once, on any device.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

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
    """What is played. What glides is low and sounds once: it begins or ends an octave above its note.

    bend: octaves above its note (below, if negative). What is bent has no name; training hears such sounds so that an
    instrument is not learned by heart note by note (`between`, `bent`).
    """

    note: str
    octave: str
    timbre: str
    beats: str
    direction: str
    loudness: str
    bend: float = 0.0

    def __post_init__(self) -> None:
        if self.direction != "steady" and (self.octave, self.beats) != ("low", "once"):
            raise ValueError("a rising or falling sound is low and sounds once")

    @property
    def neighbours(self) -> tuple[str, str]:
        """The notes between which it lies, if it is bent: its own and the next one that way round the scale."""
        notes = tuple(NOTES)
        return self.note, notes[(notes.index(self.note) + (1 if self.bend > 0 else -1)) % len(notes)]

    @property
    def hz(self) -> float:
        """Of its note, wherever a glide begins or ends."""
        return BASE_HZ[self.octave] * STEPS[self.note] / 8 * 2**self.bend

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


def between(draw: random.Random) -> Sound:
    """Any instrument half way from one note to the next."""
    sound = random_sound(draw)
    lower, _ = draw.choice(tuple(pairwise(NOTES)))
    return replace(sound, note=lower, bend=half_way(lower))


BENT = (0.3, 0.7)
"""Of the way from a note to the next."""


def bent(draw: random.Random) -> Sound:
    """Any instrument somewhere between two notes; one time in seven below the lowest, where `between` never is."""
    sound = random_sound(draw)
    way = 2 * draw.uniform(*BENT)
    if draw.random() < 1 / len(NOTES):
        return replace(sound, note=next(iter(NOTES)), bend=-way * half_way(tuple(NOTES)[-1]))
    return replace(sound, bend=way * half_way(sound.note))


def half_way(note: str) -> float:
    """Octaves from a note half way to the next one; from the last to the first of the next octave."""
    notes = tuple(NOTES)
    index = notes.index(note) + 1
    above = STEPS[notes[index]] if index < len(notes) else 2 * STEPS[notes[0]]
    return math.log2(above / STEPS[note]) / 2


def play(sounds: Sequence[Sound], device: torch.device | str = "cpu") -> Tensor:
    """Waveforms "B SAMPLES" in -1..1 at 16 kHz, float32, of exactly the peak that their loudness says."""
    # On a CPU a few at a time: beyond its caches each of the many passes over them waits for memory.
    few = 4 if torch.device(device).type == "cpu" else 512
    return torch.cat([_played(sounds[start : start + few], device) for start in range(0, len(sounds), few)])


def _played(sounds: Sequence[Sound], device: torch.device | str) -> Tensor:
    time = torch.arange(SAMPLES, device=device, dtype=torch.float64) / SAMPLE_RATE
    hz, glide, last, decay, peak, level = _numbers(sounds, device)
    # Octaves above the note: none, 0 to 1, or 1 to 0.
    octaves = glide.clamp_min(0) * time / SECONDS - glide.clamp_max(0) * (1 - time / SECONDS)
    periods = torch.cumsum(hz * torch.exp2(octaves), -1) / SAMPLE_RATE
    wave = torch.zeros_like(time).float().expand(len(sounds), -1).clone()
    for number in range(1, level.shape[1] + 1):
        # Whole periods are taken off in float64; the sine of the rest needs no more than float32.
        part = torch.frac(number * periods).float() * (2 * math.pi)
        wave += level[:, number - 1, None].float() * torch.sin(part)
    wave = wave * _envelope(time, last, decay)
    return (wave / wave.abs().amax(-1, keepdim=True) * peak).float()


def _numbers(sounds: Sequence[Sound], device: torch.device | str) -> tuple[Tensor, ...]:
    """Frequency, glide (1, 0, -1), strokes, decay in seconds and peak, "B 1" each; levels of the harmonics "B H"."""
    most = max(map(len, HARMONICS.values()))
    rows, levels = [], []
    for sound in sounds:
        glide = {"steady": 0.0, "rising": 1.0, "falling": -1.0}[sound.direction]
        decay = DECAY_S.get(sound.timbre, math.inf)
        # What sounds once rings through its two seconds, so that a glide can be heard to its end.
        rows.append([sound.hz, glide, sound.strokes, decay * (3 if sound.strokes == 1 else 1), PEAKS[sound.loudness]])
        highest = sound.hz * (2 if glide else 1)
        audible = [a if n * highest < LIMIT_HZ else 0.0 for n, a in enumerate(HARMONICS[sound.timbre], 1)]
        levels.append(audible + [0.0] * (most - len(audible)))
    table = torch.tensor(rows, dtype=torch.float64, device=device)
    return (*table.T[..., None].unbind(0), torch.tensor(levels, dtype=torch.float64, device=device))


def _envelope(time: Tensor, strokes: Tensor, decay: Tensor) -> Tensor:
    """Loudness "B S" in 0..1."""
    slot = SECONDS / strokes
    since = torch.remainder(time, slot)
    length = torch.where(strokes == 1, slot, slot * DUTY)
    rise, fall = (since / FADE_S).clamp(0, 1), ((length - since) / FADE_S).clamp(0, 1)
    return rise * fall * torch.exp(-since / decay)
