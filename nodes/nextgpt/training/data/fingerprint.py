"""Fingerprints: what of a text, a picture, a film or a sound stays the same when it is copied, encoded anew or scaled.

A medium's fingerprint is a small grid of bytes; one bit per cell says whether it is above the mean of its row (the average
hash, over all three colours). Bits are compared first, because that is quick; the grids then decide, so that two shapes of
which only the colour differs are told apart.

    picture   16 x 16 cells x 3 colours (the average hash has 8 x 8; that is too coarse for the small world's shapes)
    film      the grids of its first, middle and last frame
    sound     16 bands (100 Hz to 7 kHz) x 8 slices of time, in decibels below the loudest
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

CELLS, SLICES = 16, 8
BANDS, LOWEST_HZ, HIGHEST_HZ = 16, 100.0, 7000.0
FLOOR_DB = 60.0
SHINGLE = 5
"""Characters of a text that stand together."""


@dataclass(frozen=True)
class Fingerprint:
    """bits: an integer; grid: bytes 0..255, row by row."""

    bits: int
    grid: bytes

    def difference(self, other: Fingerprint) -> tuple[float, float, float]:
        """Share of bits that differ; of the grids the greatest and the root mean square difference, 0..1. Of unlike sizes
        all are 1."""
        if len(self.grid) != len(other.grid):
            return 1.0, 1.0, 1.0
        bits = (self.bits ^ other.bits).bit_count() / len(self.grid)
        apart = [abs(a - b) / 255 for a, b in zip(self.grid, other.grid, strict=True)]
        return bits, max(apart), math.sqrt(sum(value * value for value in apart) / len(apart))


def fingerprint(value: Any) -> Fingerprint:
    """Of an IMAGE (its first picture), VIDEO or AUDIO (its first sound, all channels together)."""
    if isinstance(value, Mapping) and "waveform" in value:
        return _of_grid(_spectrum(value["waveform"][0].float().mean(0), int(value["sample_rate"])))
    if isinstance(value, Mapping):
        frames = value["frames"]
        chosen = frames[[0, len(frames) // 2, len(frames) - 1]]
        return _of_grid(torch.cat([_cells(frame) for frame in chosen]))
    return _of_grid(_cells(value[0]))


def _cells(picture: Tensor) -> Tensor:
    """ "H W C" in 0..1 to "3 256": means of cells, by area."""
    planes = picture[..., :3].float().movedim(-1, 0)
    if len(planes) == 1:
        planes = planes.expand(3, -1, -1)
    return torch.nn.functional.adaptive_avg_pool2d(planes[None], CELLS)[0].flatten(1).clamp(0, 1)


def _spectrum(wave: Tensor, rate: int) -> Tensor:
    """ "8 16" in 0..1: slices of time, bands of equal width in octaves."""
    size = 1024 if rate >= 8000 else 256
    wave = torch.nn.functional.pad(wave, (0, max(0, size - len(wave))))
    power = torch.stft(
        wave, size, hop_length=size // 2, window=torch.hann_window(size), center=False, return_complex=True
    ).abs().square()  # fmt: skip
    hertz = torch.arange(size // 2 + 1) * rate / size
    edges = LOWEST_HZ * (HIGHEST_HZ / LOWEST_HZ) ** (torch.arange(BANDS + 1) / BANDS)
    band = torch.bucketize(hertz, edges, right=True) - 1
    bands = torch.stack([power[band == index].sum(0) for index in range(BANDS)])
    slices = torch.nn.functional.adaptive_avg_pool1d(bands[None], SLICES)[0]
    decibels = 10 * (slices.clamp_min(1e-12) / slices.amax().clamp_min(1e-12)).log10()
    return (1 + decibels / FLOOR_DB).clamp(0, 1).T if float(slices.amax()) > 1e-9 else torch.zeros(SLICES, BANDS)


def _of_grid(rows: Tensor) -> Fingerprint:
    """Each row of a grid has a mean of its own."""
    above = (rows > rows.mean(1, keepdim=True)).flatten().tolist()
    bits = 0
    for cell in above:
        bits = bits << 1 | cell
    return Fingerprint(bits, bytes((rows * 255).round().to(torch.uint8).flatten().tolist()))


def plain(text: str) -> str:
    """A text without what is only form: case, spaces, signs."""
    return " ".join("".join(sign if sign.isalnum() else " " for sign in text.casefold()).split())


def shingles(text: str) -> frozenset[str]:
    """All runs of five characters of the plain text; of a shorter one the text itself."""
    words = plain(text)
    return frozenset(words[i : i + SHINGLE] for i in range(max(1, len(words) - SHINGLE + 1))) - {""}


def likeness(one: frozenset[str], other: frozenset[str]) -> float:
    """Shared shingles of all (Jaccard), 0..1."""
    return len(one & other) / len(one | other) if one or other else 1.0
