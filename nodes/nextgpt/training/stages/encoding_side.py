"""Stage 1, encoding-side alignment: media to captions. Only the input projector learns (NExT-GPT, section 4.1).

With `train_encoder` the encoder learns too, as it does not in the paper: that is pre-training of a small encoder, which has
to see whatever captions say, and goes on being bound meanwhile (captions and contrast together: CoCa, arXiv 2205.01917).
"""

from __future__ import annotations

import random

from torch import Tensor

from nodes.nextgpt.training.language import Speech
from nodes.nextgpt.training.lines import lines, turns_of
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import Plan
from nodes.nextgpt.training.senses import Senses
from nodes.nextgpt.training.source import Source
from nodes.nextgpt.training.stage import Losses, Stage
from nodes.nextgpt.training.stages.binding import Binding
from nodes.nextgpt.training.world.talk import Talk

ENCODER_RATE = 0.3
"""Of the learning rate: it knows a lot already."""

BOUND = 0.1
"""Weight of the contrast, a sum over four pairs of senses."""

KINDS = {"describe image": 2.0, "describe video": 1.0, "describe audio": 1.0, "ask": 0.5}


class EncodingSide(Stage):
    def __init__(self, plan: Plan, parts: Parts) -> None:
        self.source = Source(plan, tuple(KINDS), tuple(KINDS.values()))
        self.binding = Binding(plan, parts) if plan.train_encoder else None
        self.senses = Senses(parts, self.source.recurs, learns=plan.train_encoder)
        self.speech = Speech(parts, plan.checkpointing)
        self.projector = parts.get("input_projector").requires_grad_(True).train()
        self.rows = self.speech.free_embeddings(plan.embeddings)
        self.modules = {
            "encoder": parts.get("encoder"),
            "input_projector": self.projector,
            "language_model": self.speech.model,
        }
        self.rates = {"encoder": ENCODER_RATE}
        self.saved = (
            "input_projector",
            *(("encoder",) if plan.train_encoder else ()),
            *(("language_model",) if self.rows else ()),
        )

    def loss(self, draw: random.Random, count: int) -> Losses:
        talks = self.source.talks(draw, count)
        blocks = features_of(talks, self.senses, self.projector)
        batch = lines(
            [turns_of(t.turns, b) for t, b in zip(talks, blocks, strict=True)], self.speech.words, self.speech.device
        )
        loss, accuracy = self.speech.says(self.speech.read(batch, joined(blocks)), batch.labels)
        told = {"words": loss, "accuracy": accuracy}
        if self.binding is not None:
            told["binding"], _ = self.binding.loss(draw, count)
            loss = loss + BOUND * told["binding"]
        return loss, told


def features_of(talks: list[Talk], senses: Senses, projector: Tensor) -> list[list[Tensor]]:
    """Of each talk the projected features "M H" of what its user gives, in order; encoded and projected together."""
    import torch

    media = [medium for talk in talks for medium in talk.given]
    found: list[Tensor | None] = [None] * len(media)
    rows = senses.features(media) if media else []
    lengths = sorted({len(row) for row in rows})
    for length in lengths:
        places = [index for index, row in enumerate(rows) if len(row) == length]
        projected = projector(torch.stack([rows[index] for index in places]).to(senses.device))  # type: ignore[operator]
        for index, block in zip(places, projected, strict=True):
            found[index] = block
    rest = iter(block for block in found if block is not None)
    return [[next(rest) for _ in talk.given] for talk in talks]


def joined(blocks: list[list[Tensor]]) -> Tensor | None:
    """All feature vectors in the order in which `lines` places them."""
    import torch

    flat = [block for talk in blocks for block in talk]
    return torch.cat(flat) if flat else None
