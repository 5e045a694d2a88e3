"""Stage 3, modality-switching instruction tuning: whole talks, media on both sides, in any mixture (NExT-GPT, section 5).

An adapter on the language model, the projectors of both sides and the signal tokens' embeddings learn; the base of the
language model, the encoder and the decoders stay. The adapter is saved as peft saves it and, for a preset whose weights
are trained here, folded into the language model.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from nodes.nextgpt.training.adapter import Adapted
from nodes.nextgpt.training.language import Speech
from nodes.nextgpt.training.lines import lines, turns_of
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import Plan
from nodes.nextgpt.training.snapshot import write, write_bytes
from nodes.nextgpt.training.source import Source
from nodes.nextgpt.training.stage import Losses, Stage
from nodes.nextgpt.training.stages.decoding_side import Outputs, total
from nodes.nextgpt.training.stages.encoding_side import features_of, joined
from nodes.nextgpt.training.stand_ins import StandIns
from nodes.nextgpt.training.unseen import Unseen

KINDS = {
    "make image": 5.0,
    "make audio": 2.0,
    "make video": 1.5,
    "describe image": 3.5,
    "describe audio": 6.0,
    "describe video": 2.5,
    "ask": 2.0,
    "mixed": 3.0,
    "cross": 3.0,
    "move": 2.0,
    "edit": 2.0,
    "chat": 0.5,
    "together": 4.0,
}
"""Kinds of talks, and how often they come. Pictures have the longest captions, and so their conditions take longest."""


class Instruction(Stage):
    def __init__(self, plan: Plan, parts: Parts) -> None:
        self.plan, self.parts = plan, parts
        self.source = Source(plan, tuple(KINDS), tuple(KINDS.values()))
        self.speech = Speech(parts, plan.checkpointing)
        self.stand_ins = StandIns(self.speech.words.tokenizer)
        self.unseen = None if plan.data else Unseen(self.speech.words.tokenizer)
        self.outputs = Outputs(plan, parts, self.speech, self.source.recurs)
        # As it is used: in training mode its choices of groups are drawn, and other groups come of it.
        self.projector: Any = parts.get("input_projector").requires_grad_(True).eval()
        self.outputs.free()
        self.adapted = Adapted(self.speech.model, plan)
        self.rows = self.speech.free_embeddings(plan.embeddings)
        self.modules: dict[str, nn.Module] = {
            "encoder": parts.get("encoder"),
            "input_projector": self.projector,
            "language_model": self.speech.model,
            **self.outputs.modules,
        }
        self.rates = dict.fromkeys(("input_projector", *self.outputs.projectors), plan.projector_rate)
        self.saved = ("input_projector", "language_model", *self.outputs.projectors)

    def loss(self, draw: random.Random, count: int) -> Losses:
        talks = self.source.talks(draw, count)
        blocks = features_of(talks, self.outputs.senses, self.projector)
        batch = lines([turns_of(t.turns, b) for t, b in zip(talks, blocks, strict=True)], self.speech.words)
        if self.plan.stand_ins:
            batch = self.stand_ins.replaced(batch, draw, self.plan.stand_ins)
        if self.plan.slips:
            batch = self.stand_ins.slipped(batch, draw, self.plan.slips)
        batch = self.stand_ins.unlearned(batch, talks)
        states = self.speech.read(batch, joined(blocks))
        beside = self.unseen.beside(batch.labels) if self.unseen else None
        words, accuracy = self.speech.says(states, batch.labels, beside)
        told = {"words": words, "accuracy": accuracy, **self.outputs.losses(talks, batch, states)}
        return total(self.plan, told), told

    def finish(self) -> None:
        self.adapted.gather()
        self.adapted.fold()

    def publish(self, folder: Path, facts: Mapping[str, str]) -> list[Path]:
        place = folder / "adapter"
        write(place / "adapter_model.safetensors", self.adapted.tensors, facts)
        config = place / "adapter_config.json"
        write_bytes(config, json.dumps(self.adapted.settings, indent=1).encode())
        return [place / "adapter_model.safetensors", config]
