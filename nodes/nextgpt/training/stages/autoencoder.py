"""The autoencoder of a decoder: pictures, frames of films or mel spectrograms to latents and back.

At its end latents are brought to mean 0 and deviation 1 by a change of the two 1 x 1 convolutions around them, which
computes the same; so the decoder's scaling factor is 1.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor

from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import Plan
from nodes.nextgpt.training.seeds import drawer
from nodes.nextgpt.training.senses import Senses
from nodes.nextgpt.training.stage import Losses, Stage
from nodes.nextgpt.training.world.caption import AnyMedium
from nodes.nextgpt.training.world.talk import Talker

DIVERGENCE = 1e-4
"""Weight of the divergence from a normal distribution, per latent value: enough that latents stay of one order."""
EDGES = 0.5
"""Weight of the error of differences between neighbours, which keeps edges sharp."""
COLOUR = 10.0
"""How much more a fully coloured pixel counts than a plain one, and what is within two pixels of it: things fill a tenth
of a picture, and an autoencoder that is asked for all pixels alike learns backgrounds for a long time."""
QUIET = -6.0
"""Where the logarithm of the latents' variance begins. At 0, its start otherwise, noise drowns what the encoder says, and
half of the channels are given up before they carry anything (seen: docs/training.md)."""
MEASURED = 256
"""Media by which mean and deviation are measured."""


class Autoencoder(Stage):
    def __init__(self, plan: Plan, parts: Parts) -> None:
        self.modality = plan.modality
        self.senses = Senses(parts)
        self.seed = plan.seed
        part = f"{plan.modality}_decoder"
        self.vae = parts.get(part).vae.requires_grad_(True)
        self.modules = {part: parts.get(part)}
        self.saved = (part,)
        self.deviation = self._fit_range() if plan.modality == "audio" else 1.0
        if plan.begin:
            self.vae.load_state_dict(parts.get(plan.begin).vae.state_dict())
        else:
            self._start_quiet()

    @torch.no_grad()
    def _start_quiet(self) -> None:
        channels = self.vae.config.latent_channels
        self.vae.quant_conv.weight[channels:] *= 0.1
        self.vae.quant_conv.bias[channels:] = QUIET

    def loss(self, draw: random.Random, count: int) -> Losses:
        target = self._target(draw, count)
        moments = self.vae.encode(target).latent_dist
        shown = self.vae.decode(moments.sample()).sample.float()
        error = (shown - target) / self.deviation
        error = error * self._importance(target)
        absolute, square = error.abs().mean(), error.square().mean()
        edges = sum(error.diff(dim=axis).abs().mean() for axis in (-1, -2))
        divergence = moments.kl().mean() / moments.mean[0].numel()
        loss = absolute + square + EDGES * edges + DIVERGENCE * divergence
        return loss, {"absolute": absolute, "divergence": divergence}

    def _importance(self, target: Tensor) -> Tensor | float:
        """ "N 1 H W" of pictures, by their colour; every part of a spectrogram counts alike."""
        if self.modality == "audio":
            return 1.0
        chroma = target.amax(1, keepdim=True) - target.amin(1, keepdim=True)  # 0..2
        return 1 + COLOUR / 2 * torch.nn.functional.max_pool2d(chroma, 5, 1, 2)

    @torch.no_grad()
    def _fit_range(self) -> float:
        """Logarithms of mel bands lie between -11.5 and 2: the first and last layer start where that is the unit, or
        most of the training would go into finding it. Returns the deviation of the data."""
        target = self._target(drawer(self.seed, "range"), 64)
        mean, deviation = float(target.mean()), float(target.std())
        first, last = self.vae.encoder.conv_in, self.vae.decoder.conv_out
        first.weight /= deviation
        first.bias -= mean * first.weight.sum((1, 2, 3))
        last.weight *= deviation
        last.bias.fill_(mean)
        return deviation

    def finish(self) -> None:
        target = self._target(drawer(self.seed, "measure"), MEASURED)
        latent = torch.cat([self.vae.encode(part).latent_dist.mode() for part in target.split(32)]).float()
        fold_scale(self.vae, latent.mean((0, 2, 3)), latent.std((0, 2, 3)))

    def _target(self, draw: random.Random, count: int) -> Tensor:
        return self.senses.decoder_target(self.modality, media(draw, self.modality, count)).flatten(0, -4)


def media(draw: random.Random, modality: str, count: int) -> list[AnyMedium]:
    """Media of the world that may be trained on; of films, one for every eight frames that are wanted."""
    talker = Talker(draw)
    made: list[AnyMedium] = []
    for _ in range(count if modality != "video" else -(-count // 8)):
        made.append(talker.scene() if modality == "image" else talker.sound() if modality == "audio" else talker.clip())
    return made


@torch.no_grad()
def fold_scale(vae: object, mean: Tensor, deviation: Tensor) -> None:
    """Latents become (z - mean) / deviation, channel by channel, and the decoder takes them so."""
    into, out = vae.quant_conv, vae.post_quant_conv  # type: ignore[attr-defined]
    channels = len(mean)
    into.bias[:channels] = (into.bias[:channels] - mean) / deviation
    into.weight[:channels] /= deviation[:, None, None, None]
    into.bias[channels:] -= 2 * deviation.log()  # the logarithm of the variance
    out.bias += out.weight[:, :, 0, 0] @ mean
    out.weight *= deviation[None, :, None, None]
