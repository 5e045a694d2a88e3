"""Stage 1, encoding-side alignment: media to captions. Only the input projector learns (NExT-GPT, section 4.1)."""

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
from nodes.nextgpt.training.stand_ins import StandIns
from nodes.nextgpt.training.unseen import Unseen
from nodes.nextgpt.training.world.talk import Talk

KINDS = {"describe image": 3.0, "describe video": 1.5, "describe audio": 1.5, "ask": 2.0}


class EncodingSide(Stage):
    def __init__(self, plan: Plan, parts: Parts) -> None:
        self.plan = plan
        self.source = Source(plan, tuple(KINDS), tuple(KINDS.values()))
        self.senses = Senses(parts, self.source.recurs)
        self.speech = Speech(parts, plan.checkpointing)
        self.stand_ins = StandIns(self.speech.words.tokenizer)
        self.unseen = None if plan.data else Unseen(self.speech.words.tokenizer)
        # As it is used: in training mode its choices of groups are drawn, and other groups come of it.
        self.projector = parts.get("input_projector").requires_grad_(True).eval()
        self.rows = self.speech.free_embeddings(plan.embeddings)
        self.modules = {
            "encoder": parts.get("encoder"),
            "input_projector": self.projector,
            "language_model": self.speech.model,
        }
        self.saved = ("input_projector", *(("language_model",) if self.rows else ()))

    def loss(self, draw: random.Random, count: int) -> Losses:
        talks = self.source.talks(draw, count)
        blocks = features_of(talks, self.senses, self.projector)
        batch = lines([turns_of(t.turns, b) for t, b in zip(talks, blocks, strict=True)], self.speech.words)
        if self.plan.slips:
            batch = self.stand_ins.slipped(batch, draw, self.plan.slips)
        batch = self.stand_ins.unlearned(batch, talks)
        beside = self.unseen.beside(batch.labels) if self.unseen else None
        loss, accuracy = self.speech.says(self.speech.read(batch, joined(blocks)), batch.labels, beside)
        return loss, {"accuracy": accuracy}


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
