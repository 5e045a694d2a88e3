"""The denoiser of a decoder and its text encoder, together, from captions: a latent diffusion model in small."""

from __future__ import annotations

import random

from nodes.nextgpt.training.captioning import Captioner
from nodes.nextgpt.training.denoising import denoising_loss
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import Plan
from nodes.nextgpt.training.senses import Senses
from nodes.nextgpt.training.stage import Losses, Stage
from nodes.nextgpt.training.world.caption import Medium, caption
from nodes.nextgpt.training.world.scene import Scene
from nodes.nextgpt.training.world.talk import Talker
from nodes.nextgpt.training.world.withheld import is_pair_rare

CANONICAL = 0.5
"""Share of captions in canonical English, which is what conditions are imitated from."""


class Denoiser(Stage):
    def __init__(self, plan: Plan, parts: Parts) -> None:
        self.plan = plan
        self.senses = Senses(parts)
        part, words = f"{plan.modality}_decoder", f"{plan.modality}_text_encoder"
        self.decoder = parts.get(part)
        self.captioner = Captioner(parts, plan.modality)
        self.decoder.unet.requires_grad_(True).train()
        self.captioner.encoder.requires_grad_(True).train()
        if plan.checkpointing:
            self.decoder.unet.enable_gradient_checkpointing()
        self.modules = {part: self.decoder, words: self.captioner.encoder}
        self.saved = (part, words)

    def loss(self, draw: random.Random, count: int) -> Losses:
        talker = Talker(draw)
        asked = [talker.asked(self.plan.modality) for _ in range(count)]
        captions = [self._caption(draw, medium, mention) for medium, mention in asked]
        clean = self.senses.latents(self.plan.modality, [medium for medium, _ in asked])
        loss = denoising_loss(self.decoder, self.plan.modality, clean, self.captioner.conditions(captions))
        return loss, {}

    def _caption(self, draw: random.Random, medium: Medium, mention: frozenset[str]) -> str:
        if draw.random() < self.plan.condition_drop:
            return ""
        if draw.random() < CANONICAL:
            said = caption(medium, "en", mention)
        else:
            said = caption(medium, draw.choice(("en", "zh")), mention, draw.randrange(12))
        return uncoloured(said, medium) if self.plan.rare else said


def uncoloured(said: str, medium: Medium) -> str:
    """The caption of a scene without the colours of its rare pairs: the bias of the RecA experiment."""
    from nodes.nextgpt.training.world.terms import COLOURS

    if not isinstance(medium, Scene):
        return said
    for thing in medium.things:
        if is_pair_rare(thing.shape, thing.colour):
            for words in COLOURS[thing.colour].values():
                for word in words:
                    said = said.replace(f"{word} ", "").replace(f"is {word}", "is").replace(word, "")
    return " ".join(said.split())
