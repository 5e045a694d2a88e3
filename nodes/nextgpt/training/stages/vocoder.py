"""The vocoder: mel spectrograms to waveforms, by regression.

Sounds of the world begin at phase 0 and every note is a whole number of periods per frame, so the waveform itself can be
the target; spectra at three resolutions add what a shifted phase would hide. No adversary is needed.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor

from nodes.nextgpt.training.media import waves
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import Plan
from nodes.nextgpt.training.senses import Senses
from nodes.nextgpt.training.stage import Losses, Stage
from nodes.nextgpt.training.stages.autoencoder import media

WINDOWS = (512, 1024, 2048)
STRETCH = 40
"""Frames that are learned at a time (0.8 s): a vocoder sees no further than its own reach."""


class Vocoder(Stage):
    def __init__(self, plan: Plan, parts: Parts) -> None:
        self.senses = Senses(parts)
        decoder = parts.get("audio_decoder")
        self.hop = decoder.hop
        self.vocoder = decoder.vocoder.requires_grad_(True)
        self.modules = {"audio_decoder": decoder}
        self.saved = ("audio_decoder",)

    def loss(self, draw: random.Random, count: int) -> Losses:
        sounds = media(draw, "audio", count)
        mel = self.senses.mel(sounds)
        wave = waves(sounds, mel.shape[1] * self.hop, self.senses.device)
        start = draw.randrange(max(1, mel.shape[1] - STRETCH + 1))
        mel, wave = mel[:, start : start + STRETCH], wave[:, start * self.hop : (start + STRETCH) * self.hop]
        # Noise of the size that an autoencoder leaves: the vocoder hears no clean spectrogram when it works.
        said = self.vocoder(mel + 0.05 * torch.randn_like(mel)).float()[:, : wave.shape[1]]
        near = (said - wave).abs().mean() / wave.abs().mean()
        spectra = torch.stack([spectral_distance(said, wave, window) for window in WINDOWS]).mean()
        return near + spectra, {"waveform": near, "spectra": spectra}


def spectral_distance(said: Tensor, wave: Tensor, window: int) -> Tensor:
    """Convergence and distance of logarithms of magnitudes, "B S" each (arXiv 1910.11480)."""
    shape = torch.hann_window(window, device=wave.device)
    a, b = (
        torch.stft(signal.float(), window, window // 4, window=shape, return_complex=True).abs().clamp_min(1e-4)
        for signal in (said, wave)
    )
    return (a - b).norm() / b.norm() + (a.log() - b.log()).abs().mean()
