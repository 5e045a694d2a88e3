"""The language model in training: reads lines, says words, and knows its signal tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, pad

from nodes.nextgpt.training.ledger import Rows
from nodes.nextgpt.training.lengths import apart
from nodes.nextgpt.training.lines import IGNORED, Lines, embedded
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.upload import sent
from nodes.nextgpt.words import words_of


class Speech:
    """checkpointing: activations are computed again in the backward pass."""

    def __init__(self, parts: Parts, checkpointing: bool = False) -> None:
        self.model: Any = parts.get("language_model")
        self.words = words_of(parts.extras("language_model"), parts.models_dir)
        self.device = parts.device
        if checkpointing:
            causal = self.model.causal
            # Later versions of transformers have another name for it, and warn of the old one.
            enable = getattr(causal, "activation_checkpointing_enable", None) or causal.gradient_checkpointing_enable
            enable({"use_reentrant": False})
            # Recomputation is done by layers in training mode only; they have no dropout.
            self.model.train()

    def read(self, batch: Lines, features: Tensor | None) -> Tensor:
        """The last states "B L H" after the final norm; 0 beyond a line's end.

        On a CPU short and long lines are read apart: one talk of three media among questions is half of a batch's length
        and the rest would be padding (`lengths.py`).
        """
        embeds = embedded(self.model, batch, features)
        lengths = batch.mask.sum(1).tolist()
        if embeds.device.type != "cpu":
            # What is filled up lies behind a line, where nothing of it is seen: no mask, which would cost the fast kernel.
            out = self.model.causal.get_decoder()(inputs_embeds=embeds, use_cache=False)
            read: Tensor = out.last_hidden_state
            return read
        groups, states = apart(lengths), []
        for rows in groups:
            longest = max(lengths[row] for row in rows)
            out = self.model.causal.get_decoder()(
                inputs_embeds=embeds[rows, :longest], attention_mask=batch.mask[rows, :longest], use_cache=False
            )
            states.append(pad(out.last_hidden_state, (0, 0, 0, embeds.shape[1] - longest)))
        back = torch.tensor([row for rows in groups for row in rows], device=embeds.device).argsort()
        return torch.cat(states)[back]

    def says(self, states: Tensor, labels: Tensor, beside: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean cross entropy of what is to be said, each token from the state before it, and the share of it that is the
        model's first choice (the original's gen_acc). labels: "B L", `IGNORED` where nothing is; there no logits are made.
        beside: "B L K", tokens that do not count as wrong at each place (`unseen.py`), negative ones for none."""
        wanted = labels[:, 1:].flatten().cpu()
        counted = (wanted != IGNORED).nonzero()[:, 0]
        said = states[:, :-1].flatten(0, 1).index_select(0, sent(counted, states.device))
        logits = self.model.causal.get_output_embeddings()(said).float()
        truth = sent(wanted[counted], states.device)
        right = (logits.argmax(-1) == truth).sum() / max(1, len(truth))
        if beside is not None:
            left = beside[:, 1:].flatten(0, 1).cpu()[counted]
            rows, places = (left >= 0).nonzero(as_tuple=True)
            outside = torch.zeros_like(logits, dtype=torch.bool)
            outside[sent(rows, states.device), sent(left[rows, places], states.device)] = True
            logits = logits.masked_fill(outside, -torch.inf)
        return cross_entropy(logits, truth), right

    def free_embeddings(self, which: str) -> dict[str, Rows]:
        """Let token embeddings be trained: all, those of signals, or none. Returns the rows, "language_model.NAME".

        Decided here and not by what a library does when a vocabulary grows: NExT-GPT trained all of them unawares.
        """
        from nodes.nextgpt.model.language_weights import vocabulary_keys

        if which == "none":
            return {}
        start = 0 if which == "all" else min(self.words.vocabulary.ids())
        parameters = dict(self.model.named_parameters())
        rows = {}
        for key in vocabulary_keys(self.model):
            if key in parameters:
                parameters[key].requires_grad_(True)
                rows[f"language_model.{key}"] = Rows(start)
        return rows

    def signal_states(self, batch: Lines, states: Tensor, modality: str) -> tuple[Tensor, Tensor, list[int]]:
        """Of every run of a modality: states "N n H", the tokens' input embeddings "N n H", and which media they are."""
        run = self.words.vocabulary.run(modality)
        found = [entry for entry in batch.runs if entry.modality == modality]
        width = states.shape[1]
        places = [[entry.row * width + entry.start + step for step in range(len(run))] for entry in found]
        hidden = states.flatten(0, 1)[sent(torch.tensor(places), states.device)]
        embeds = self.model.causal.get_input_embeddings()(sent(torch.tensor(run), states.device))
        return hidden, embeds.expand(len(found), -1, -1), [entry.medium for entry in found]
