"""The mel spectrogram that AudioLDM was trained on, so that a recorded sound can be edited from its latent.

Magnitudes of 64 ms frames (FFT and periodic Hann window of 1,024 samples at 16 kHz), one every 10 ms, without centring;
64 mel bands from 0 to 8 kHz, on Slaney's scale and with his area norm; natural logarithm with a floor of 1e-5.

Sources: AudioLDM arXiv 2301.12503, HiFi-GAN arXiv 2010.05646, Slaney's Auditory Toolbox (1998).
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

WINDOW = 1024
PEAK = 0.5
FLOOR = 1e-5
_POWER_FLOOR = 1e-9
"""Keeps the square root away from zero."""


def training_mel(
    waveform: Tensor, samples: int, bands: int, hop: int, sample_rate: int, *, level: bool = True
) -> Tensor:
    """ "B S" in -1..1 to log-mel "B samples/hop bands", float32.

    The mean is removed and the peak brought to 0.5, as in training; silence fills up to `samples`, a multiple of `hop`.
    level: without it the sound keeps its own loudness.
    Raises ValueError for an empty waveform.
    """
    if not waveform.numel():
        raise ValueError("the sound is empty; check that trimming did not remove all of it")
    # In float64, because the rounding of a loud band's FFT would show in the logarithm of a silent one.
    wave = waveform.double()
    wave = wave - wave.mean(dim=-1, keepdim=True)
    if level:
        wave = wave / wave.abs().amax(dim=-1, keepdim=True).clamp_min(1e-8) * PEAK
    wave = F.pad(wave, (0, samples - wave.shape[-1]))
    # Half a window at both ends, less half a hop: the frames number exactly samples / hop.
    margin = (WINDOW - hop) // 2
    # A reflection cannot be longer than what it reflects.
    wave = F.pad(wave, (margin, margin), mode="reflect" if samples > margin else "replicate")
    window = torch.hann_window(WINDOW, dtype=wave.dtype, device=wave.device)
    spectrum = torch.fft.rfft(wave.unfold(-1, WINDOW, hop) * window)
    magnitude = (spectrum.abs().square() + _POWER_FLOOR).sqrt()
    return (magnitude @ _banks(bands, sample_rate, wave.device)).clamp_min(FLOOR).log().float()


@lru_cache(maxsize=8)
def _banks(bands: int, sample_rate: int, device: torch.device) -> Tensor:
    """Weights "WINDOW/2+1 bands"."""
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(
        num_frequency_bins=WINDOW // 2 + 1,
        num_mel_filters=bands,
        min_frequency=0.0,
        max_frequency=sample_rate / 2,
        sampling_rate=sample_rate,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.from_numpy(filters).double().to(device)
