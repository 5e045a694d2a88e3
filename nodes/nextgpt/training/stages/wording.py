"""Wording: the language model learns the language of the world, before it hears of signals.

Media of users are given as their captions, so that it learns what to do with them; media of answers are left out. The
rows of signal tokens are not touched by anything here.
"""

from __future__ import annotations

import random

import torch

from nodes.nextgpt.training.language import Speech
from nodes.nextgpt.training.lines import IGNORED, lines, turns_of
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import Plan
from nodes.nextgpt.training.source import Source
from nodes.nextgpt.training.stage import Losses, Stage
from nodes.nextgpt.training.stand_ins import StandIns
from nodes.nextgpt.training.world.talk import KINDS

EVERYTHING = 0.2
"""Weight of the loss on all tokens, the user's too; the rest is on the assistant's."""


class Wording(Stage):
    def __init__(self, plan: Plan, parts: Parts) -> None:
        self.plan = plan
        self.speech = Speech(parts, plan.checkpointing)
        self.stand_ins = StandIns(self.speech.words.tokenizer)
        self.source = Source(plan, tuple(KINDS), tuple(KINDS.values()))
        self.speech.model.requires_grad_(True).train()
        self.modules = {"language_model": self.speech.model}
        self.saved = ("language_model",)

    def loss(self, draw: random.Random, count: int) -> Losses:
        talks = self.source.talks(draw, count)
        batch = lines([turns_of(talk.turns, None, spoken=False) for talk in talks], self.speech.words)
        if self.plan.stand_ins:
            batch = self.stand_ins.replaced(batch, draw, self.plan.stand_ins)
        if self.plan.slips:
            batch = self.stand_ins.slipped(batch, draw, self.plan.slips)
        every = torch.where(batch.labels != IGNORED, batch.labels, batch.ids).masked_fill(batch.mask == 0, IGNORED)
        states = self.speech.read(batch, None)
        (answers, accuracy), (all_tokens, _) = self.speech.says(states, batch.labels), self.speech.says(states, every)
        return (1 - EVERYTHING) * answers + EVERYTHING * all_tokens, {
            "answers": answers,
            "tokens": all_tokens,
            "accuracy": accuracy,
        }
