"""What a sound of the world is: note, octave, instrument, strokes, direction and loudness, by its spectrum.

Frames of 64 ms, one every 16 ms, zero-padded to half a second; the strongest partial is the fundamental, since every
instrument of the world has it so. A straight line through its logarithm over time says direction and note.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nodes.nextgpt.training.world.sound import HARMONICS, LIMIT_HZ, SAMPLE_RATE, Sound
from nodes.nextgpt.training.world.terms import BASE_HZ, BEATS, PEAKS, STEPS

_WINDOW, _HOP, _FFT = 1024, 256, 8192
_LOWEST_HZ, _HIGHEST_HZ = 340.0, 1750.0
_ON, _OFF = 0.32, 0.14
"""Shares of the greatest loudness at which a stroke begins and ends; apart, so that a flutter is no stroke."""
_LOUD = math.sqrt(PEAKS["quiet"] * PEAKS["loud"])
_GLIDE = 0.45
"""Octaves in the whole sound; half of what a gliding sound makes."""
_HIGH_HZ = BASE_HZ["low"] * (15.5 / 8)
"""Between the highest note of the low octave and the lowest of the high one."""
_CENTS = {name: 1200 * math.log2(step / 8) for name, step in STEPS.items()}


@dataclass(frozen=True)
class Heard:
    """hz: of the note; cents: how far it is from the note it was taken for; octaves: how far it glides."""

    note: str
    octave: str
    timbre: str
    beats: str
    direction: str
    loudness: str
    hz: float
    cents: float
    octaves: float


def listen(waveform: Any, rate: int = SAMPLE_RATE) -> Heard | None:
    """What a waveform "S" (or "1 1 S") sounds like; None for silence."""
    wave = torch.as_tensor(waveform).double().reshape(-1).numpy()
    if len(wave) < _WINDOW or float(np.abs(wave).max()) < 5e-3:
        return None
    if rate != SAMPLE_RATE:
        raise ValueError(f"a judge of sounds wants {SAMPLE_RATE} samples a second, got {rate}; resample it")
    frames = np.lib.stride_tricks.sliding_window_view(wave, _WINDOW)[::_HOP]
    loudness = np.sqrt((frames**2).mean(-1))
    spectra = np.abs(np.fft.rfft(frames * np.hanning(_WINDOW), n=_FFT))
    active = loudness > _ON * loudness.max()
    pitches = _fundamentals(spectra[active])
    times = np.flatnonzero(active) * _HOP / rate
    start, slope = _line(times, np.log2(pitches))
    length = len(wave) / rate
    octaves = slope * length
    direction = "steady" if abs(octaves) < _GLIDE else "rising" if octaves > 0 else "falling"
    # Every frame votes for the pitch at time 0 of a rising sound (at the end of a falling one).
    base = start if direction != "falling" else start + slope * length
    hz = float(2**base) if direction != "steady" else float(np.median(pitches))
    above = 1200 * math.log2(hz / BASE_HZ["low"])
    off = {name: (above - cents + 600) % 1200 - 600 for name, cents in _CENTS.items()}
    note = min(off, key=lambda name: abs(off[name]))
    strokes = _strokes(wave, rate)
    return Heard(
        note,
        "high" if hz > _HIGH_HZ else "low",
        _timbre(spectra[active], pitches, loudness, strokes, hz * (1 if direction == "steady" else 2)),
        tuple(BEATS)[min(strokes, len(BEATS)) - 1],
        direction,
        "loud" if float(np.quantile(np.abs(wave), 0.999)) > _LOUD else "quiet",
        hz,
        off[note],
        octaves,
    )


def _fundamentals(spectra: np.ndarray) -> np.ndarray:
    """Hz of the strongest partial of each spectrum, between bins by a parabola through the logarithm."""
    width = SAMPLE_RATE / _FFT
    low, high = int(_LOWEST_HZ / width), int(_HIGHEST_HZ / width)
    peaks = spectra[:, low:high].argmax(-1) + low
    rows = np.arange(len(spectra))
    a, b, c = (np.log(spectra[rows, peaks + step] + 1e-12) for step in (-1, 0, 1))
    bend = a - 2 * b + c
    shift = np.where(np.abs(bend) > 1e-9, 0.5 * (a - c) / np.where(bend == 0, 1, bend), 0)
    return np.asarray((peaks + np.clip(shift, -0.5, 0.5)) * width)


def _line(times: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Value at the middle of the first frame's window taken as time 0, and slope, by medians (Theil and Sen)."""
    centre = times + _WINDOW / 2 / SAMPLE_RATE
    if len(centre) < 3:
        return float(np.median(values)), 0.0
    far = (centre[None, :] - centre[:, None])[np.triu_indices(len(centre), 1)]
    rise = (values[None, :] - values[:, None])[np.triu_indices(len(centre), 1)]
    wide = far > 0.25 * (centre[-1] - centre[0])
    slope = float(np.median(rise[wide] / far[wide])) if wide.any() else 0.0
    return float(np.median(values - slope * centre)), slope


def _strokes(wave: np.ndarray, rate: int) -> int:
    size = rate // 100
    short = np.sqrt((wave[: len(wave) // size * size].reshape(-1, size) ** 2).mean(-1))
    short = np.convolve(short, np.ones(5) / 5, mode="same")
    on, count = False, 0
    for value in short / short.max():
        if not on and value > _ON:
            on, count = True, count + 1
        elif on and value < _OFF:
            on = False
    return max(count, 1)


def _timbre(spectra: np.ndarray, pitches: np.ndarray, loudness: np.ndarray, strokes: int, highest: float) -> str:
    """The instrument whose harmonics (2 to 5, of those below `LIMIT_HZ`) and decay are nearest."""
    width = SAMPLE_RATE / _FFT
    rows = np.arange(len(spectra))

    def partial(number: int) -> np.ndarray:
        place = np.clip(np.round(pitches * number / width).astype(int), 4, spectra.shape[1] - 5)
        return np.asarray(np.max([spectra[rows, place + step] for step in range(-4, 5)], axis=0))

    first = partial(1)
    heard = {
        number: float(np.median((partial(number) / first)[ok]))
        for number in range(2, 6)
        if (ok := pitches * number < 7_400).mean() > 0.3
    }
    active = loudness[loudness > _OFF * loudness.max()]
    third = max(1, len(active) // 3)
    falls = float(active[-third:].mean() / active[:third].mean()) if strokes == 1 else 1.0

    def distance(name: str) -> float:
        audible = [a if number * highest < LIMIT_HZ else 0.0 for number, a in enumerate(HARMONICS[name], 1)]
        wanted = dict(enumerate(audible, 1))
        far = sum((value - wanted.get(number, 0.0)) ** 2 for number, value in heard.items())
        rings = (falls < 0.62) if strokes == 1 else None
        return far + (0.15 if rings is not None and rings != (name == "bell") else 0.0)

    return min(HARMONICS, key=distance)


def agrees(heard: Heard | None, sound: Sound) -> dict[str, bool]:
    """Attribute by attribute, whether that is what was to be heard."""
    names = ("note", "octave", "timbre", "beats", "direction", "loudness")
    return {name: heard is not None and getattr(heard, name) == getattr(sound, name) for name in names}
