"""Log-mel filter bank with the conventions of Kaldi's ``compute-fbank-feats`` (htk-compatible, no dither, no energy).

Frames of 25 ms every 10 ms, only whole ones ("snip edges"); per frame: remove the mean, pre-emphasise by 0.97,
symmetric Hann window, zero-pad to a power of two, power spectrum; triangles equally spaced on the mel scale
``1127 ln(1 + f/700)`` from 20 Hz to half the sample rate; natural logarithm with float32's epsilon as floor.
The waveform stays in -1..1; Kaldi itself would scale it to 16-bit integers.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

FRAME_S = 0.025
HOP_S = 0.010
PREEMPHASIS = 0.97
LOW_HZ = 20.0
POWER_FLOOR = torch.finfo(torch.float32).eps


def frame_samples(sample_rate: int) -> int:
    """Samples of one frame, which is the shortest waveform that gives a frame at all."""
    return int(sample_rate * FRAME_S)


def log_mel(waveform: Tensor, sample_rate: int, mel_bins: int) -> Tensor:
    """``"... T"`` in -1..1 -> ``"... frames mel_bins"`` of the same type.

    There are ``1 + (T - 400) // 160`` frames at 16 kHz.

    Raises ValueError if the waveform is shorter than one frame.
    """
    size, hop = frame_samples(sample_rate), int(sample_rate * HOP_S)
    if waveform.shape[-1] < size:
        raise ValueError(
            f"filter bank needs at least {size} samples ({FRAME_S * 1000:.0f} ms at {sample_rate} Hz), got "
            f"{waveform.shape[-1]}; pad the waveform with silence"
        )
    # In float32 the rounding of a loud band's FFT would show in the logarithm of a silent one; clips are short.
    frames = waveform.double().unfold(-1, size, hop)
    frames = frames - frames.mean(dim=-1, keepdim=True)
    # The first sample of a frame counts as its own predecessor.
    before = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
    window = torch.hann_window(size, periodic=False, dtype=torch.float64, device=waveform.device)
    fft_size = 1 << (size - 1).bit_length()
    power = torch.fft.rfft((frames - PREEMPHASIS * before) * window, n=fft_size).abs().square()
    banks = _triangles_on(power.device, sample_rate, fft_size, mel_bins)
    features: Tensor = (power @ banks.T).clamp_min(POWER_FLOOR).log()
    return features.to(waveform.dtype)


@lru_cache(maxsize=16)
def _triangles_on(device: torch.device, sample_rate: int, fft_size: int, mel_bins: int) -> Tensor:
    return mel_triangles(sample_rate, fft_size, mel_bins).to(device)


def mel_triangles(sample_rate: int, fft_size: int, mel_bins: int) -> Tensor:
    """Weights ``"mel_bins fft_size/2+1"`` in float64; triangles rise and fall linearly in mel, with peak 1.

    The Nyquist bin belongs to no triangle.  With many bins the lowest triangles may fall between two FFT bins and stay
    empty; their feature is then the floor, as in Kaldi.
    """
    edges = torch.linspace(mel(LOW_HZ), mel(sample_rate / 2), mel_bins + 2, dtype=torch.float64)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    hertz = torch.arange(fft_size // 2 + 1, dtype=torch.float64) * (sample_rate / fft_size)
    at = 1127.0 * torch.log1p(hertz / 700.0)
    weights = torch.minimum((at - left) / (centre - left), (right - at) / (right - centre)).clamp_min(0.0)
    weights[:, -1] = 0.0
    return weights


def mel(hertz: float) -> float:
    """Pitch of a frequency on the mel scale."""
    return 1127.0 * math.log1p(hertz / 700.0)
