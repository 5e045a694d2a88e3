"""Change of sample rate by band-limited interpolation (Smith, "Digital Audio Resampling").

A Hann-windowed sinc of six zero crossings and a roll-off of 0.99, the usual defaults, so that the encoder hears what it
was trained on.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

ZERO_CROSSINGS = 6
ROLLOFF = 0.99

# Bounds the table of weights per step: 2^20 float64 values are 8 MiB.
BLOCK_TAPS = 1 << 20


def resampled_length(samples: int, rate_in: int, rate_out: int) -> int:
    """How many samples ``samples`` become: ceil(samples * rate_out / rate_in)."""
    return -(-samples * rate_out // rate_in)


def resample(waveform: Tensor, rate_in: int, rate_out: int, *, start: int = 0, stop: int | None = None) -> Tensor:
    """``"... T"`` at ``rate_in`` Hz -> ``"... stop-start"`` at ``rate_out`` Hz, in the type of the waveform.

    ``start`` and ``stop`` choose output samples, so that a clip of a long recording costs no more than the clip.
    Beyond its ends the waveform counts as silence.  Raises ValueError for rates below 1 Hz.
    """
    if rate_in < 1 or rate_out < 1:
        raise ValueError(f"cannot resample from {rate_in} Hz to {rate_out} Hz: rates must be at least 1 Hz")
    length = waveform.shape[-1]
    stop = resampled_length(length, rate_in, rate_out) if stop is None else stop
    if rate_in == rate_out:
        return waveform[..., start:stop]
    divisor = math.gcd(rate_in, rate_out)
    step_in, step_out = rate_in // divisor, rate_out // divisor
    # The pass band ends below the lower of the two Nyquist frequencies; in units of the input rate.
    cutoff = min(1.0, step_out / step_in) * ROLLOFF
    reach = math.ceil(ZERO_CROSSINGS / cutoff)
    offsets = torch.arange(-reach, reach + 2, device=waveform.device)
    block = max(1, BLOCK_TAPS // len(offsets))
    pieces = []
    for begin in range(start, stop, block):
        # Output n lies at n * step_in / step_out input samples: integers, so hours of audio keep their phase.
        ticks = torch.arange(begin, min(begin + block, stop), device=waveform.device) * step_in
        nearest = ticks.div(step_out, rounding_mode="floor")
        phase = (ticks - nearest * step_out).double() / step_out
        time = ((offsets - phase[:, None]) * cutoff).clamp(-ZERO_CROSSINGS, ZERO_CROSSINGS)
        weight = torch.sinc(time) * torch.cos(time * (math.pi / 2 / ZERO_CROSSINGS)).square() * cutoff
        index = nearest[:, None] + offsets
        weight = weight.where((index >= 0) & (index < length), 0.0).to(waveform.dtype)
        pieces.append((waveform[..., index.clamp(0, length - 1)] * weight).sum(dim=-1))
    return torch.cat(pieces, dim=-1) if pieces else waveform[..., :0]
