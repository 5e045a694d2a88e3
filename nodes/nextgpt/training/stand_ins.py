"""Stand-ins, slips and guesses: exercises for a model that says what it is told or shown, not what usually goes together.

A world has few words, and a model soon knows which go together: told of a withheld pair, it said the nearest one it had
been trained on ("a green star" became "a green square"). Stand-ins are other words in place of those that are copied:
where any word may stand beside any other, only copying helps. No withheld pair comes up: what stands in for a word of the
world is none of these words itself. Slips are wrong colours among the words that the model hears itself say; what it is to
say next stays true to what it was asked, so it learns not to guess a shape from the colour before it. So a colour can be
heard before a shape that it is withheld from, as a mistake; no request and no medium has such a pair.

Guesses are the colours and notes of what has none (`world/paint.py`): heard like any word, and never learned to be said. When
captions left them out instead, a model left them out of withheld pairs as well: an orange ring looks like a ring between
orange and yellow more than like anything else. So a withheld pair can be heard in a guess too, its shape learned after it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from nodes.nextgpt.model.tokenizer import Tokenizer
from nodes.nextgpt.training.lines import IGNORED, Lines
from nodes.nextgpt.training.world.paint import is_unnamed
from nodes.nextgpt.training.world.talk import Talk
from nodes.nextgpt.training.world.terms import COLOURS, LANGUAGES, NOTES, SHAPES, TIMBRES, Words

EACH = 0.7
"""Chance of each word of a talk that has any."""
_ROLES = ("USER", "ASSISTANT")


class StandIns:
    """By the vocabulary of one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.others = _others(tokenizer)
        self.colours = _colours(tokenizer)
        self.guesses = _guesses(tokenizer)

    def replaced(self, batch: Lines, draw: random.Random, share: float) -> Lines:
        """A batch in which `share` of the talks have stand-ins, the same ones for user and assistant. Only words that the
        assistant repeats are replaced; these talks' signals are no longer among `runs`, since no medium is like that."""
        ids, labels, strange = batch.ids.clone(), batch.labels.clone(), set()
        for row in range(len(ids)):
            if draw.random() >= share:
                continue
            told = set(ids[row][labels[row] == IGNORED].tolist())
            repeated = sorted(told & set(labels[row].tolist()) & self.others.keys())
            for word in repeated:
                if draw.random() < EACH:
                    other = draw.choice(self.others[word])
                    ids[row][ids[row] == word] = other
                    labels[row][labels[row] == word] = other
                    strange.add(row)
        return replace(batch, ids=ids, labels=labels, runs=tuple(run for run in batch.runs if run.row not in strange))

    def slipped(self, batch: Lines, draw: random.Random, share: float) -> Lines:
        """A batch in which `share` of the talks have slips of the tongue: colours that the assistant has said are others in
        `ids`, and as they should be in `labels`. Their signals stay: they are to be true to what was asked for."""
        ids = batch.ids.clone()
        for row in range(len(ids)):
            if draw.random() >= share:
                continue
            for place in (batch.labels[row] != IGNORED).nonzero().flatten().tolist():
                others = self.colours.get(int(ids[row, place]))
                if others and draw.random() < EACH:
                    ids[row, place] = draw.choice(others)
        return replace(batch, ids=ids)

    def unlearned(self, batch: Lines, talks: Sequence[Talk]) -> Lines:
        """A batch in which nobody learns the guesses: colours and notes are no labels in talks that show something without a
        name, and signals of such a medium are not among `runs`."""
        rows = [row for row, talk in enumerate(talks) if talk.is_guess]
        if not rows:
            return batch
        labels = batch.labels.clone()
        labels[rows] = labels[rows].masked_fill(torch.isin(labels[rows], self.guesses.to(labels.device)), IGNORED)
        media = [medium for talk in talks for medium in talk.made]
        runs = tuple(run for run in batch.runs if not is_unnamed(media[run.medium]))
        return replace(batch, labels=labels, runs=runs)


Kind = tuple[bool, bool, bool]
"""How a token is written: with Latin letters, with a space before them, with a capital. Only the like is exchanged."""


@lru_cache(maxsize=4)
def _colours(tokenizer: Tokenizer) -> Mapping[int, tuple[int, ...]]:
    """For each colour that is one token, the other ones."""
    kinds: dict[Kind, list[int]] = {}
    for spelling in sorted(_spellings(COLOURS)):
        token = tokenizer.id_of(spelling)
        if token is not None:
            kinds.setdefault(_kind(spelling), []).append(token)
    return {token: tuple(other for other in alike if other != token) for alike in kinds.values() for token in alike}


@lru_cache(maxsize=4)
def _guesses(tokenizer: Tokenizer) -> Tensor:
    """Every colour and note that is one token."""
    tokens = {tokenizer.id_of(spelling) for spelling in _spellings(COLOURS) | _spellings(NOTES)}
    return torch.tensor(sorted(token for token in tokens if token is not None))


@lru_cache(maxsize=4)
def _others(tokenizer: Tokenizer) -> Mapping[int, tuple[int, ...]]:
    """For each word of the world that is one token, what may stand in for it."""
    named = _spellings(COLOURS) | _spellings(SHAPES) | _spellings(NOTES) | _spellings(TIMBRES)
    kinds: dict[Kind, list[int]] = {}
    world: dict[int, Kind] = {}
    for token in range(tokenizer.size):
        text = tokenizer.decode([token])
        if text in named:
            world[token] = _kind(text)
        elif len(text.strip()) > 1 and text.strip() not in _ROLES and text.strip().isalpha():
            kinds.setdefault(_kind(text), []).append(token)
    return {token: tuple(kinds[kind]) for token, kind in world.items() if kind in kinds}


def _spellings(table: Mapping[str, Words]) -> set[str]:
    words = {spoken for entry in table.values() for language in LANGUAGES for spoken in entry[language]}
    words |= {spoken.capitalize() for spoken in words}
    return words | {f" {spoken}" for spoken in words}


def _kind(text: str) -> Kind:
    return text.isascii(), text.startswith(" "), text.istitle()
