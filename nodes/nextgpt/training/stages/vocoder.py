"""The vocoder: mel spectrograms to waveforms, by regression.

Sounds of the world begin at phase 0 and every note is a whole number of periods per frame, so the waveform itself can be
the target; spectra at three resolutions add what a shifted phase would hide. No adversary is needed.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn

from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import Plan
from nodes.nextgpt.training.seeds import drawer
from nodes.nextgpt.training.senses import Senses
from nodes.nextgpt.training.stage import Losses, Stage
from nodes.nextgpt.training.stages.autoencoder import media

WINDOWS = (512, 1024, 2048)
STRETCH = 12
"""Frames that are learned at a time (0.24 s): a vocoder sees no further than its own reach."""

FLOOR = 0.5
"""Of magnitudes, some 40 dB below a tone's. Lower, the silence between the harmonics outweighs them: a vocoder that says
nothing is better off than one that tries, and one that tries gives up the instrument (at 0.02 it kept 44 of 100)."""

EDGE_RATE = 0.1
"""Of the first and last layer, as a share of the others': the last begins so small that full steps throw it about (after 180
steps the error is 0.47 of the power with it and above 0.65 without)."""


class Vocoder(Stage):
    def __init__(self, plan: Plan, parts: Parts) -> None:
        self.senses, self.seed, self.weight = Senses(parts), plan.seed, plan.spectra_weight
        decoder = parts.get("audio_decoder")
        self.hop = decoder.hop
        self.vocoder = decoder.vocoder.requires_grad_(True)
        if not plan.begin:
            self._start_lively()
            self._fit_range()
        self.modules = {"audio_decoder": decoder}
        self.rates = dict.fromkeys((f"audio_decoder.vocoder.{edge}" for edge in ("conv_pre", "conv_post")), EDGE_RATE)
        self.saved = ("audio_decoder",)

    @torch.no_grad()
    def _start_lively(self) -> None:
        """Weights that keep the size of what passes. With HiFi-GAN's own (deviation 0.01, whatever the width) a narrow
        one says 0.00001 and stays there."""
        for name, layer in self.vocoder.named_modules():
            if isinstance(layer, nn.Conv1d | nn.ConvTranspose1d):
                reach = layer.in_channels * layer.kernel_size[0]
                if isinstance(layer, nn.ConvTranspose1d):
                    reach //= layer.stride[0]
                gain = {"conv_post": 0.03}.get(name, 0.1 if "convs2" in name else 1.26)
                layer.weight.normal_(0, gain * reach**-0.5)
                if layer.bias is not None:
                    layer.bias.zero_()

    @torch.no_grad()
    def _fit_range(self) -> None:
        """The first layer starts where logarithms of mel bands (-11.5 to 2) are of mean 0 and deviation 1."""
        mel = self.senses.mel(media(drawer(self.seed, "range"), "audio", 64))
        first = self.vocoder.conv_pre
        first.weight /= mel.std()
        first.bias -= mel.mean() * first.weight.sum((1, 2))

    def loss(self, draw: random.Random, count: int) -> Losses:
        sounds = media(draw, "audio", count)
        steady = torch.tensor([is_steady(sound) for sound in sounds], device=self.senses.device)
        wave, steady = mixed(self.senses.waves(sounds), steady)
        mel = self.senses.mel_of(wave)
        start = draw.randrange(max(1, mel.shape[1] - STRETCH + 1))
        mel, wave = mel[:, start : start + STRETCH], wave[:, start * self.hop : (start + STRETCH) * self.hop]
        # Noise of the size that an autoencoder leaves: the vocoder hears no clean spectrogram when it works.
        said = self.vocoder(mel + 0.05 * torch.randn_like(mel)).float()[:, : wave.shape[1]]
        near = nearness(said, wave, steady)
        with torch.set_grad_enabled(bool(self.weight) and torch.is_grad_enabled()):  # shown, whether it counts or not
            spectra = torch.stack([spectral_distance(said, wave, window) for window in WINDOWS]).mean()
        return near + self.weight * spectra, {"waveform": near, "spectra": spectra}


def mixed(wave: Tensor, steady: Tensor) -> tuple[Tensor, Tensor]:
    """Half of the sounds "B S" are mixed with the next one, in any shares; a mixture is steady if both are.

    Else a vocoder learns by heart which timbre comes with which note: of combinations that it had never heard it played
    the note right and the timbre in 45 of 100, of those it had, all.
    """
    share = torch.rand(len(wave), 1, device=wave.device) * (torch.rand(len(wave), 1, device=wave.device) < 0.5)
    both = steady & (steady.roll(1) | (share[:, 0] == 0))
    return (1 - share) * wave + share * wave.roll(1, 0), both


def is_steady(sound: object) -> bool:
    return getattr(sound, "direction", "steady") == "steady"


def nearness(said: Tensor, wave: Tensor, counted: Tensor) -> Tensor:
    """The error's power as a share of the power of those that are counted, "B"; a quiet sound counts by the root of its
    own power, so that it is heard beside a loud one and does not drown it."""
    power = wave.square().mean(1)
    error = (said - wave).square().mean(1)
    scale = (power + 1e-4).rsqrt() * counted
    return (error * scale).sum() / ((power * scale).sum() + 1e-6)


def spectral_distance(said: Tensor, wave: Tensor, window: int) -> Tensor:
    """Convergence, each sound's own, and distance of logarithms of magnitudes, "B S" each (arXiv 1910.11480)."""
    shape = torch.hann_window(window, device=wave.device)
    a, b = (
        torch.stft(signal.float(), window, window // 4, window=shape, return_complex=True).abs().clamp_min(FLOOR)
        for signal in (said, wave)
    )
    far = (a - b).flatten(1).norm(dim=1) / b.flatten(1).norm(dim=1)
    return far.mean() + (a.log() - b.log()).abs().mean()
