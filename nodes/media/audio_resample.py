"""Resampling of sound by windowed-sinc interpolation.

Source: J. O. Smith, "Digital Audio Resampling", https://ccrma.stanford.edu/~jos/resample/; the Kaiser window and the
constants are those of resampy's `kaiser_best` (McFee, 2016): 64 zero crossings, rolloff 0.9476, beta 14.77.
"""

from __future__ import annotations

import math

import torch

CROSSINGS = 64
ROLLOFF = 0.9475937167399596
BETA = 14.769656459379492
MAX_TABLE = 4096
"""Rates whose ratio has more phases than this get their weights sample by sample."""
_BLOCK = 1 << 23


def resample(waveform: torch.Tensor, rate: int, new_rate: int) -> torch.Tensor:
    """ "B C T" at `rate` to "B C T'" at `new_rate`, T' = ceil(T new / old), free of aliases."""
    if rate == new_rate:
        return waveform
    divisor = math.gcd(rate, new_rate)
    old, new = rate // divisor, new_rate // divisor
    cutoff = min(1.0, new / old) * ROLLOFF
    reach = math.ceil(CROSSINGS / cutoff)
    length = -(-waveform.shape[-1] * new // old)
    padded = torch.nn.functional.pad(waveform, (reach, reach + 1)).unfold(-1, 2 * reach + 1, 1)
    table = _weights(torch.arange(new) / new, reach, cutoff) if new <= MAX_TABLE else None
    pieces = []
    step = max(1, _BLOCK // ((2 * reach + 1) * waveform.shape[0] * waveform.shape[1]))
    for start in range(0, length, step):
        number = torch.arange(start, min(start + step, length), dtype=torch.int64)
        place, phase = number * old // new, number * old % new
        weights = table[phase] if table is not None else _weights(phase / new, reach, cutoff)
        pieces.append(torch.einsum("bcnk,nk->bcn", padded[:, :, place], weights))
    return torch.cat(pieces, dim=-1)


def _weights(fraction: torch.Tensor, reach: int, cutoff: float) -> torch.Tensor:
    """The weights "N 2*reach+1" around a place that lies `fraction` "N" of a sample after the middle one."""
    distance = (torch.arange(-reach, reach + 1) - fraction.double()[:, None]) * cutoff
    inside = (1 - (distance / CROSSINGS) ** 2).clamp(min=0)
    window = torch.special.i0(BETA * inside.sqrt()) / torch.special.i0(torch.tensor(BETA, dtype=torch.float64))
    weights: torch.Tensor = torch.sinc(distance) * window * (inside > 0) * cutoff
    return weights.float()


def to_channels(waveform: torch.Tensor, channels: int) -> torch.Tensor:
    """ "B C T" with another number of channels: mono is copied into each, all are averaged into mono."""
    have = waveform.shape[1]
    if have == channels:
        return waveform
    mono = waveform.mean(dim=1, keepdim=True)
    return mono.expand(-1, channels, -1).clone()
