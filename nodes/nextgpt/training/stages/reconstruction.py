"""RecA: reconstruction alignment (arXiv 2509.07295), for a generator that stays frozen.

A medium is read by the understanding side and has to be made again from nothing but its signals: the encoder's embedding
is the dense prompt, no caption is needed. The output projector learns by the decoder's own loss; with `rank` above 0 an
adapter, and with `projector_rate` above 0 the input projector learn too, and then captions are learned beside it so that
understanding does not suffer. Pictures are the paper's case; films and sounds are experimental.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from nodes.nextgpt.training.adapter import Adapted
from nodes.nextgpt.training.language import Speech
from nodes.nextgpt.training.lines import lines, turns_of
from nodes.nextgpt.training.own_words import BRIEF, briefly, own_words
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import Plan
from nodes.nextgpt.training.source import CHINESE, Source
from nodes.nextgpt.training.stage import Losses, Stage
from nodes.nextgpt.training.stages.decoding_side import Outputs
from nodes.nextgpt.training.stages.encoding_side import features_of, joined
from nodes.nextgpt.training.world.talk import Said, Talk
from nodes.nextgpt.training.world.terms import Language

TEMPLATES = (
    "Draw this picture again.",
    "Make the same picture once more.",
    "Repeat this image as exactly as you can.",
    "Copy the picture: the same shapes, colours, sizes and places.",
    "Reproduce what you see, with its background.",
    "Show me this picture again, with nothing changed.",
    "Redraw every object of this image where it is.",
    "Make an image with the same things in the same colours.",
    "Paint this once more.",
    "The same again, please.",
    "Draw what is here, all of it and nothing else.",
    "Give me an image that looks just like this one.",
    "再画一次这张图片。",
    "请照原样再画一遍。",
    "画一张一模一样的图片。",
    "请重现这张图片的形状、颜色、大小和位置。",
    "把这张图片原样画出来。",
    "再来一张同样的图片。",
)
TEMPLATE_DROP = 0.1
"""Share of samples without an instruction (specs: 10 %)."""
PAIRED = 0.3
"""With `own_words`, share of pictures whose two things stand to each other as one word says: requests are about such."""


class Reconstruction(Stage):
    def __init__(self, plan: Plan, parts: Parts) -> None:
        self.plan = plan
        self.modality = "image" if plan.modality == "all" else plan.modality
        paired = PAIRED if plan.own_words else 0.0
        self.source = Source(plan, ("describe " + self.modality,), paired=paired)
        self.speech = Speech(parts, plan.checkpointing)
        self.outputs = Outputs(replace(plan, modality=self.modality), parts, self.speech, self.source.recurs)
        self.projector: Any = parts.get("input_projector")
        name = f"{self.modality}_projector"
        self.outputs.projectors[name].requires_grad_(True).train()
        self.adapted = Adapted(self.speech.model, plan) if plan.rank else None
        if plan.projector_rate:
            self.projector.requires_grad_(True).eval()  # as it is used, see `encoding_side`
        self.rows = self.speech.free_embeddings(plan.embeddings)
        self.modules: dict[str, nn.Module] = {
            "encoder": parts.get("encoder"),
            "input_projector": self.projector,
            "language_model": self.speech.model,
            **self.outputs.modules,
        }
        self.rates = {"input_projector": plan.projector_rate}
        changed = self.adapted is not None or bool(self.rows)
        self.saved = (
            name,
            *(("input_projector",) if plan.projector_rate else ()),
            *(("language_model",) if changed else ()),
        )
        self.shared = bool(plan.projector_rate or self.adapted)

    def loss(self, draw: random.Random, count: int) -> Losses:
        described = self.source.talks(draw, count)
        said = self._said(described, draw)
        again = [self._again(talk, draw, words) for talk, words in zip(described, said, strict=True)]
        noise = self._denoise(again)
        told: dict[str, Tensor] = {"denoise": noise}
        if self.shared and self.plan.words_weight:
            told["words"] = self._words(described)
        loss = self.plan.denoise_weight * noise + self.plan.words_weight * told.get("words", torch.zeros_like(noise))
        return loss, told

    def _again(self, talk: Talk, draw: random.Random, said: str = "") -> Talk:
        medium = talk.given[0]
        words = "" if draw.random() < TEMPLATE_DROP else draw.choice(TEMPLATES)
        asked = (medium, words) if words else (medium,)
        answer = (said, medium) if said else (medium,)
        return Talk("again", talk.language, (Said("user", asked), Said("assistant", answer)), ())

    def _said(self, talks: list[Talk], draw: random.Random) -> list[str]:
        """What the model says it sees, all in one language; nothing, where it is not to speak before it draws."""
        if not self.plan.own_words:
            return [""] * len(talks)
        with torch.no_grad():
            blocks = [block for blocks in features_of(talks, self.outputs.senses, self.projector) for block in blocks]
        language: Language = "zh" if draw.random() < CHINESE else "en"
        said = own_words(self.speech, self.modality, blocks, language, draw)
        return [briefly(words, language, draw) if draw.random() < BRIEF else words for words in said]

    def _denoise(self, talks: list[Talk]) -> Tensor:
        blocks = features_of(talks, self.outputs.senses, self.projector)
        turns = [turns_of(talk.turns, block) for talk, block in zip(talks, blocks, strict=True)]
        batch = lines(turns, self.speech.words)
        states = self.speech.read(batch, joined(blocks))
        hidden, embeds, places = self.speech.signal_states(batch, states, self.modality)
        condition = self.outputs.projectors[f"{self.modality}_projector"](hidden, embeds)
        return self.outputs.denoise(self.modality, [talks[place].given[0] for place in places], condition)

    def _words(self, talks: list[Talk]) -> Tensor:
        blocks = features_of(talks, self.outputs.senses, self.projector)
        turns = [turns_of(talk.turns, block) for talk, block in zip(talks, blocks, strict=True)]
        batch = lines(turns, self.speech.words)
        return self.speech.says(self.speech.read(batch, joined(blocks)), batch.labels)[0]

    def finish(self) -> None:
        if self.adapted is not None:
            self.adapted.gather()
            self.adapted.fold()
