"""Stand-ins: words of a talk that is copied are replaced by other ones, so that a language model copies what it is told.

A world has few words, and a model soon knows which go together: told of a withheld pair, it said the nearest one it had
been trained on ("a green star" became "a green square"). Where any word may stand beside any other, only copying helps.
No withheld pair comes up: what stands in for a word of the world is none of these words itself.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from nodes.nextgpt.model.tokenizer import Tokenizer
from nodes.nextgpt.training.lines import IGNORED, Lines
from nodes.nextgpt.training.world.terms import COLOURS, LANGUAGES, NOTES, SHAPES, TIMBRES

EACH = 0.7
"""Chance of each word of a talk that has any."""
_ROLES = ("USER", "ASSISTANT")


class StandIns:
    """By the vocabulary of one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.others = _others(tokenizer)

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


@lru_cache(maxsize=4)
def _others(tokenizer: Tokenizer) -> Mapping[int, tuple[int, ...]]:
    """For each word of the world that is one token, what may stand in for it: words that are written alike (Chinese, English
    with or without the space before it)."""
    named = {
        spelling
        for table in (COLOURS, SHAPES, NOTES, TIMBRES)
        for entry in table.values()
        for language in LANGUAGES
        for spoken in entry[language]
        for spelling in (spoken, f" {spoken}", spoken.capitalize(), f" {spoken.capitalize()}")
    }
    kinds: dict[tuple[bool, bool], list[int]] = {}
    world: dict[int, tuple[bool, bool]] = {}
    for token in range(tokenizer.size):
        text = tokenizer.decode([token])
        kind = (text.isascii(), text.startswith(" "))
        if text in named:
            world[token] = kind
        elif len(text.strip()) > 1 and text.strip() not in _ROLES and text.strip().isalpha():
            kinds.setdefault(kind, []).append(token)
    return {token: tuple(kinds[kind]) for token, kind in world.items() if kind in kinds}
