"""Stage 2, decoding-side alignment: what is asked for becomes signals, and signals what decoders are driven by.

Three losses (NExT-GPT, section 4.2): words (the caption, then the signals), the distance of the projected condition from
the text encoder's of the caption, and the denoising loss through the frozen denoiser. Output projectors learn, and the
signal tokens' own embeddings.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nodes.nextgpt.training.captioning import Captioner
from nodes.nextgpt.training.denoising import denoising_loss
from nodes.nextgpt.training.language import Speech
from nodes.nextgpt.training.ledger import Rows
from nodes.nextgpt.training.lines import Lines, lines, turns_of
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import MODALITIES, Plan
from nodes.nextgpt.training.senses import Senses
from nodes.nextgpt.training.source import Source
from nodes.nextgpt.training.stage import Losses, Stage
from nodes.nextgpt.training.upload import sent
from nodes.nextgpt.training.world.talk import Talk

KINDS = {
    "all": {"make image": 2.0, "make video": 1.5, "make audio": 1.0, "mixed": 1.0},
    "image": {"make image": 4.0, "edit": 1.0},
    "video": {"make video": 1.0},
    "audio": {"make audio": 1.0},
}
"""Talks by the modality whose side is trained."""


class DecodingSide(Stage):
    def __init__(self, plan: Plan, parts: Parts) -> None:
        self.plan = plan
        kinds = {"make image": 1.0} if plan.typical else KINDS[plan.modality]
        self.source = Source(plan, tuple(kinds), tuple(kinds.values()))
        self.speech = Speech(parts, plan.checkpointing)
        self.outputs = Outputs(plan, parts, self.speech, self.source.recurs)
        self.outputs.free()
        self.rows: dict[str, Rows] = self.speech.free_embeddings(plan.embeddings)
        self.modules = {"language_model": self.speech.model, **self.outputs.modules}
        self.rates = dict.fromkeys(self.outputs.projectors, plan.projector_rate)
        self.saved = (*self.outputs.projectors, *(("language_model",) if self.rows else ()))

    def loss(self, draw: random.Random, count: int) -> Losses:
        talks = self.source.talks(draw, count)
        batch = lines([turns_of(talk.turns, []) for talk in talks], self.speech.words)
        states = self.speech.read(batch, None)
        words, accuracy = self.speech.says(states, batch.labels)
        told = {"words": words, "accuracy": accuracy, **self.outputs.losses(talks, batch, states)}
        return total(self.plan, told), told


def total(plan: Plan, told: dict[str, Tensor]) -> Tensor:
    """Weighted sum of the losses; those of no modality are left out."""
    weights = {"words": plan.words_weight, "caption": plan.caption_weight, "denoise": plan.denoise_weight}
    return torch.stack([weight * told[name] for name, weight in weights.items() if name in told and weight]).sum()


class Outputs:
    """Output projectors with the frozen decoders and text encoders that judge them."""

    def __init__(self, plan: Plan, parts: Parts, speech: Speech, keep: bool) -> None:
        self.plan, self.parts, self.speech = plan, parts, speech
        self.senses = Senses(parts, keep)
        spoken = [m for m in MODALITIES if f"{m}_projector" in parts and plan.modality in ("all", m)]
        self.modalities = tuple(spoken)
        self.projectors: dict[str, Any] = {f"{m}_projector": parts.get(f"{m}_projector") for m in spoken}
        self.captioners = {m: Captioner(parts, m) for m in spoken if f"{m}_text_encoder" in parts}
        # Without the denoising loss no decoder is loaded: that of a full-size preset takes gigabytes.
        self.decoders = {m: parts.get(f"{m}_decoder") for m in spoken} if plan.denoise_weight else {}
        if plan.checkpointing:
            for decoder in self.decoders.values():
                decoder.unet.enable_gradient_checkpointing()
        self.modules: dict[str, Any] = {
            **self.projectors,
            **{f"{m}_text_encoder": captioner.encoder for m, captioner in self.captioners.items()},
            **{f"{m}_decoder": decoder for m, decoder in self.decoders.items()},
        }

    def free(self) -> None:
        for projector in self.projectors.values():
            projector.requires_grad_(True).train()

    def losses(self, talks: Sequence[Talk], batch: Lines, states: Tensor) -> dict[str, Tensor]:
        """Mean over modalities of the caption's distance ("caption") and of the denoising loss ("denoise"); each modality's own
        distance ("caption_image", ...) beside it."""
        media = [medium for talk in talks for medium in talk.made]
        captions = [text for talk in talks for text in talk.captions]
        far, noise, apart = [], [], {}
        for modality in self.modalities:
            if not any(run.modality == modality for run in batch.runs):
                continue
            hidden, embeds, places = self.speech.signal_states(batch, states, modality)
            condition = self.projectors[f"{modality}_projector"](hidden, embeds)
            # A record may have no words for what it shows: imitating the condition of "" would teach to ask for nothing.
            told_of = [index for index, place in enumerate(places) if captions and captions[place].strip()]
            if self.plan.caption_weight and modality in self.captioners and told_of:
                wanted = self.captioners[modality].targets([captions[places[index]] for index in told_of])
                every = len(told_of) == len(places)
                given = condition if every else condition[sent(torch.tensor(told_of), condition.device)]
                far.append(caption_distance(given, wanted))
                apart[f"caption_{modality}"] = far[-1].detach()
            if self.plan.denoise_weight:
                chosen = [media[place] for place in places]
                noise.append(self.denoise(modality, chosen, condition))
        told = {"caption": far, "denoise": noise}
        means = {name: torch.stack(found).mean() for name, found in told.items() if found}
        return {**means, **apart}

    def denoise(self, modality: str, media: Sequence[Any], condition: Tensor) -> Tensor:
        """Through the frozen denoiser; some conditions are replaced by that of no words, so that guidance stays true."""
        clean = self.senses.latents(modality, media)
        if self.plan.condition_drop and modality in self.captioners:
            dropped = torch.rand(len(condition), device=condition.device) < self.plan.condition_drop
            empty = self.captioners[modality].targets([""]).to(condition.dtype)
            condition = torch.where(dropped.view(-1, 1, 1), empty, condition)
        return denoising_loss(
            self.decoders[modality],
            modality,
            clean.to(condition.device),
            condition,
            gamma=self.plan.snr_gamma,
            noisiest=self.plan.noisiest,
        )


def caption_distance(condition: Tensor, wanted: Tensor) -> Tensor:
    """Mean over batch and rows of the Euclidean distance of rows (not its square), as the original has it."""
    return (condition.float() - wanted.float()).square().sum(-1).clamp_min(1e-12).sqrt().mean()
