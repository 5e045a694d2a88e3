"""Talks as what a language model is trained on: ids, where features go, what is to be said, and where signals stand.

Positions are counted after features have taken their places, so that the states of a run of signals are found where they
are: the originals counted before, and read other tokens' states as soon as a talk had media on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from nodes.nextgpt.model.prompts import FeaturePart, Part, SignalPart, TextPart, Turn, lay_out
from nodes.nextgpt.training.upload import sent
from nodes.nextgpt.training.world.caption import caption, modality_of
from nodes.nextgpt.training.world.talk import Said
from nodes.nextgpt.words import Words

IGNORED = -100
Shown = Literal["features", "words"]


@dataclass(frozen=True)
class Run:
    """Signals of one medium: row of the batch, position of the first, and which of the batch's made media it is."""

    row: int
    start: int
    modality: str
    medium: int


@dataclass(frozen=True)
class Lines:
    """A batch, padded on the right.

    ids      "B L", 0 where features go or nothing is
    labels   "B L": what is to be said at this place, `IGNORED` elsewhere
    mask     "B L"
    feature_rows, feature_places  index of each feature vector's place, in the order of the media and their rows
    runs     every run of signals that an assistant gives

    All tensors lie on the host: exercises look at them token by token, and a device would be waited for at each.
    """

    ids: Tensor
    labels: Tensor
    mask: Tensor
    feature_rows: Tensor
    feature_places: Tensor
    runs: tuple[Run, ...]


def turns_of(said: Sequence[Said], blocks: Sequence[Tensor] | None, spoken: bool = True) -> list[Turn]:
    """Turns for the prompt builder. blocks: the features of the user's media, in order; None puts their captions there
    instead, in the words of the world. spoken: an assistant's media become signals, else nothing."""
    rest = iter(blocks or ())
    turns = []
    for turn in said:
        parts: list[Part] = []
        for part in turn.parts:
            if isinstance(part, str):
                parts.append(TextPart(part))
            elif turn.role == "assistant":
                if spoken:
                    parts.append(SignalPart(modality_of(part)))
            elif blocks is None:
                parts.append(TextPart(f"{caption(part)}. "))
            else:
                parts.append(FeaturePart(next(rest)))
        turns.append(Turn(turn.role, tuple(parts)))
    return turns


def lines(turns: Sequence[Sequence[Turn]], words: Words, everything: bool = False) -> Lines:
    """everything: all tokens are learned, not only the assistant's (for a model that learns the language itself)."""
    vocabulary = words.vocabulary
    firsts = {run[0]: modality for modality, run in vocabulary.tokens.items()}
    rows: list[list[int]] = []
    labels: list[list[int]] = []
    feature_rows: list[int] = []
    feature_places: list[int] = []
    runs: list[Run] = []
    media = 0
    for number, talk in enumerate(turns):
        ids: list[int] = []
        said: list[int] = []
        for piece in lay_out(talk, words.layout, words.tokenizer, vocabulary, open_answer=False):
            if piece.features is not None:
                count = piece.features.shape[0]
                feature_rows += [number] * count
                feature_places += range(len(ids), len(ids) + count)
                ids += [0] * count
                said += [IGNORED] * count
                continue
            if piece.spoken and piece.ids and piece.ids[0] in firsts:
                runs.append(Run(number, len(ids), firsts[piece.ids[0]], media))
                media += 1
            ids += piece.ids
            said += piece.ids if piece.spoken or everything else [IGNORED] * len(piece.ids)
        rows.append(ids)
        labels.append(said)
    longest = max(map(len, rows))
    return Lines(
        # By way of NumPy: torch takes eight times as long to read lists of lists.
        torch.from_numpy(np.array([row + [0] * (longest - len(row)) for row in rows], np.int64)),
        torch.from_numpy(np.array([row + [IGNORED] * (longest - len(row)) for row in labels], np.int64)),
        (torch.arange(longest) < torch.tensor([len(row) for row in rows])[:, None]).long(),
        torch.tensor(feature_rows, dtype=torch.long),
        torch.tensor(feature_places, dtype=torch.long),
        tuple(runs),
    )


def embedded(model: Any, batch: Lines, features: Tensor | None) -> Tensor:
    """`inputs_embeds "B L H"`: features "N H" at their places, with their gradients."""
    device = model.device
    embeds: Tensor = model.causal.get_input_embeddings()(sent(batch.ids, device))
    if features is None or not len(batch.feature_rows):
        return embeds
    places = (sent(batch.feature_rows, device), sent(batch.feature_places, device))
    return embeds.index_put(places, features.to(embeds.dtype))
