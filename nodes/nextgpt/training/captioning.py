"""Captions to the conditions of decoders, by their text encoders, many at once and with gradients where wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from nodes.nextgpt.caption_route import tokeniser
from nodes.nextgpt.training.parts import Parts


class Captioner:
    """Of one modality. Raises ModelError where the preset has no text encoder for it, or its tokenizer is not there."""

    def __init__(self, parts: Parts, modality: str) -> None:
        name = f"{modality}_text_encoder"
        self.encoder: Any = parts.get(name)
        self.device = parts.device
        config = self.encoder.config
        self._tokens = tokeniser(
            str(parts.extras(name).get("tokenizer", "tiny")), parts.models_dir, config.kind, config.length
        )
        self._kept: dict[str, Tensor] = {}

    def conditions(self, captions: Sequence[str]) -> Tensor:
        """ "B rows width": last states of CLIP, or CLAP's vector of unit length as one row."""
        config, ids = self.encoder.config, [self._tokens(text).ids for text in captions]
        if config.kind == "clip":
            tokens = torch.tensor(ids, device=self.device)
            states: Tensor = self.encoder.model(input_ids=tokens).last_hidden_state
            return states
        longest, pad = max(map(len, ids)), int(config.options["pad_token_id"])
        tokens = torch.tensor([row + [pad] * (longest - len(row)) for row in ids], device=self.device)
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids], device=self.device)
        vectors = self.encoder.model(input_ids=tokens, attention_mask=mask).text_embeds
        return normalize(vectors, dim=-1)[:, None]

    @torch.no_grad()
    def targets(self, captions: Sequence[str]) -> Tensor:
        """The same of a frozen encoder; each caption is encoded once."""
        new = [text for text in dict.fromkeys(captions) if text not in self._kept]
        if len(self._kept) > 20_000:
            self._kept.clear()
            new = list(dict.fromkeys(captions))
        if new:
            self._kept.update(zip(new, self.conditions(new).float(), strict=True))
        return torch.stack([self._kept[text] for text in captions])
