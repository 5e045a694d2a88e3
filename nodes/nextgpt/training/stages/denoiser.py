"""The denoiser of a decoder and its text encoder, together, from captions: a latent diffusion model in small."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d

from nodes.nextgpt.training.captioning import Captioner
from nodes.nextgpt.training.denoising import denoising_loss
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import Plan
from nodes.nextgpt.training.senses import Senses
from nodes.nextgpt.training.stage import Losses, Stage
from nodes.nextgpt.training.world.caption import AnyMedium, Medium, caption
from nodes.nextgpt.training.world.clip import Clip
from nodes.nextgpt.training.world.paint import painted
from nodes.nextgpt.training.world.sound import Sound, between
from nodes.nextgpt.training.world.talk import Talker
from nodes.nextgpt.training.world.terms import SYMMETRY

CANONICAL = 0.75
"""Share of captions in canonical English, which is what conditions are imitated from."""

UNNAMED = 0.4
"""Share of sounds between the notes, whose captions name none, or the two. There are so few sounds that a denoiser learns by
heart which instrument and octave come with which note: of withheld ones it played the note right in 94 of 100, the instrument
in 44, and the octave in 53."""

NEIGHBOURS = 0.7
"""Share of them whose captions name the two, so that every note's name is read beside every instrument's."""

FAVOURED = 0.5
"""Share of clips that move as the plan's `motions` say."""

AUDIBLE = 4.0
"""In natural logarithms of amplitudes: 35 dB."""


class Denoiser(Stage):
    def __init__(self, plan: Plan, parts: Parts) -> None:
        self.plan = plan
        # All the sounds there are fit in memory; scenes and clips hardly ever come twice.
        self.senses = Senses(parts, plan.modality == "audio")
        part, words = f"{plan.modality}_decoder", f"{plan.modality}_text_encoder"
        self.motions = tuple(filter(None, plan.motions.split(",")))
        self.decoder = parts.get(part)
        self.captioner = Captioner(parts, plan.modality)
        if plan.begin:
            self._begin(parts, plan.begin.removesuffix("_decoder"))
        self.decoder.unet.requires_grad_(True).train()
        if plan.train_text_encoder:
            self.captioner.encoder.requires_grad_(True).train()
        for module in self.decoder.unet.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0  # the world never ends, so nothing can be learned by heart
        if plan.checkpointing:
            self.decoder.unet.enable_gradient_checkpointing()
        self.modules = {part: self.decoder, words: self.captioner.encoder}
        self.saved = (part, words) if plan.train_text_encoder else (part,)

    def _begin(self, parts: Parts, modality: str) -> None:
        """With the weights of another decoder wherever names and sizes agree: of pictures, all that is not about time."""
        for own, other in (
            (self.decoder.unet, parts.get(f"{modality}_decoder").unet),
            (self.captioner.encoder, parts.get(f"{modality}_text_encoder")),
        ):
            there = own.state_dict()
            fitting = {k: v for k, v in other.state_dict().items() if k in there and v.shape == there[k].shape}
            own.load_state_dict(fitting, strict=False)

    def loss(self, draw: random.Random, count: int) -> Losses:
        talker = Talker(draw)
        asked = [self._asked(talker, draw) for _ in range(count)]
        captions = [self._caption(draw, medium, mention) for medium, mention in asked]
        media = [medium for medium, _ in asked]
        clean = self.senses.latents(self.plan.modality, media)
        loss = denoising_loss(
            self.decoder,
            self.plan.modality,
            clean,
            self.captioner.conditions(captions) if self.plan.train_text_encoder else self.captioner.targets(captions),
            gamma=self.plan.snr_gamma,
            importance=self._importance(media, clean) if self.plan.focus else None,
            noisiest=self.plan.noisiest,
        )
        return loss, {}

    def _asked(self, talker: Talker, draw: random.Random) -> tuple[Medium, frozenset[str]]:
        medium, mention = talker.asked(self.plan.modality)
        if self.plan.modality == "image" and draw.random() < self.plan.placeless:
            medium, mention = talker.asked_placeless()
        if self.motions and isinstance(medium, Clip) and draw.random() < FAVOURED:
            # Every shape grows; only circles and rings cannot be seen to turn.
            able = [motion for motion in self.motions if motion != "turns" or SYMMETRY[medium.shape]]
            medium = replace(medium, motion=draw.choice(able)) if able else medium
        if self.plan.modality == "audio" and draw.random() < UNNAMED:
            medium = between(draw)
            mention |= {"neighbours"} if draw.random() < NEIGHBOURS else frozenset()
        elif not isinstance(medium, Sound) and draw.random() < self.plan.unnamed:
            medium = painted(medium, draw)
        return medium, mention

    def _importance(self, media: list[Medium], clean: Tensor) -> Tensor:
        """ "B 1 h w" ("B 1 F h w" of films), 1 on the mean: cells in which something is seen or heard count `focus` more.

        Things fill a tenth of a picture, partials a tenth of a spectrogram, and all that a caption says is about them. But
        what counts more is expected more: where noise leaves it open which of nine places a thing has, its cells win five
        to one and it comes twice. So a denoiser ends with a focus of 0.
        """
        cells = (clean.shape[-2], clean.shape[-1])
        seen = torch.stack(self.senses.kept(media, lambda lacking: self._seen(lacking, cells), "seen"))
        found = 1 + self.plan.focus * seen
        return found / found.mean()

    def _seen(self, media: Sequence[AnyMedium], cells: tuple[int, int]) -> Tensor:
        """ "B 1 h w" ("B 1 F h w" of films), 0..1: how much of a thing or partial is in each cell of the latent."""
        shown = self.senses.decoder_target(self.plan.modality, media)
        if self.plan.modality == "audio":
            # Logarithms: a partial counts by how near it is to the loudest, from `AUDIBLE` below it upwards.
            heard = (1 + (shown - shown.amax((-2, -1), keepdim=True)) / AUDIBLE).clamp(min=0)
            return adaptive_max_pool2d(heard, cells)
        chroma = shown.amax(-3) - shown.amin(-3)  # 0..2; "B H W" or "B F H W"
        return adaptive_avg_pool2d(chroma, cells).clamp(max=1)[:, None]

    def _caption(self, draw: random.Random, medium: Medium, mention: frozenset[str]) -> str:
        if draw.random() < self.plan.condition_drop:
            return ""
        if draw.random() < CANONICAL:
            return caption(medium, "en", mention)
        return caption(medium, draw.choice(("en", "zh")), mention, draw.randrange(12))
