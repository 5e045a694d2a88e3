"""What a sentence says about the world: attributes by the words of `terms.py`, clause by clause, in both languages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from nodes.nextgpt.training.world import terms
from nodes.nextgpt.training.world.terms import Words

_THING_TABLES: Mapping[str, Mapping[str, Words]] = {
    "colour": terms.COLOURS,
    "shape": terms.SHAPES,
    "place": terms.PLACES,
    "size": terms.SIZES,
}
_SOUND_TABLES: Mapping[str, Mapping[str, Words]] = {
    "octave": terms.OCTAVES,
    "timbre": terms.TIMBRES,
    "beats": terms.BEATS,
    "direction": terms.DIRECTIONS,
    "loudness": terms.LOUDNESS,
}
_CLAUSES = re.compile(r"\s*[,;.!?，。；！？、]\s*|\s+and\s+(?=(?:an?|the|in|on|at)\b)|和(?=一个|左|右|上|下|中)")
_NOTE = re.compile(r"\bnote ([A-G])\b|([A-G])音")


@dataclass
class Told:
    """What a text says. things: in the order of speech, each with those of shape, colour, size and place it names."""

    things: list[dict[str, str]] = field(default_factory=list)
    relation: str | None = None
    background: str | None = None
    motion: str | None = None
    sound: dict[str, str] = field(default_factory=dict)


def read(text: str) -> Told:
    """What a text says about things, sounds and motions; nothing where it says nothing."""
    told = Told()
    note = _NOTE.search(text)
    if note:
        told.sound["note"] = note.group(1) or note.group(2)
        for name, table in _SOUND_TABLES.items():
            found = _first(table, text)
            if found:
                told.sound[name] = found
        told.sound.setdefault("direction", "steady")  # which nobody says of a sound that is
        return told
    text, told.background = _without_background(text)
    told.motion = _first(terms.MOTIONS, text)
    for clause in filter(None, _CLAUSES.split(text)):
        how = _first(terms.RELATIONS, clause)
        pieces = _split_at(clause, how) if how else [clause]
        things = [_thing(piece) for piece in pieces]
        if how and all("shape" in thing for thing in things):
            told.relation = how
            told.things += things
        else:
            thing = _thing(clause)
            if "shape" in thing:
                told.things.append(thing)
            elif told.things:  # "a star, on the left"
                told.things[-1] = {**thing, **told.things[-1]}
            elif thing:
                told.things.append(thing)
    return told


def _thing(text: str) -> dict[str, str]:
    return {name: found for name, table in _THING_TABLES.items() if (found := _first(table, text))}


def _first(table: Mapping[str, Words], text: str) -> str | None:
    """The entry whose word stands in the text; the longest word counts, "top left" before "left"."""
    best: tuple[int, str] | None = None
    for name, words in table.items():
        for spoken in (*words["en"], *words["zh"]):
            there = re.search(rf"\b{re.escape(spoken)}\b", text, re.I) if spoken.isascii() else spoken in text
            if there and (best is None or len(spoken) > best[0]):
                best = (len(spoken), name)
    return best[1] if best else None


def _split_at(clause: str, relation: str) -> list[str]:
    words = terms.RELATIONS[relation]
    for spoken in words["en"]:
        if spoken in clause:
            return clause.split(spoken, 1)
    # "A在B的左侧"
    head, _, rest = clause.partition("在")
    return [head, rest]


def _without_background(text: str) -> tuple[str, str | None]:
    for name, words in terms.BACKGROUNDS.items():
        for spoken in words["en"]:
            found = re.search(rf",?\s*(on an? {spoken} background|the background is {spoken})", text, re.I)
            if found:
                return text.replace(found.group(0), ""), name
        for spoken in words["zh"]:
            found = re.search(rf"，?({spoken}背景|背景是{spoken})", text)
            if found:
                return text.replace(found.group(0), ""), name
    return text, None
