"""Dialogue: a conversation of an instruction set while it is being made, with places for media that are not there yet.

As JSON, which is how nodes hand it on:

    {"kind": "make image", "language": "en", "source": "template",
     "turns": [{"from": "human", "parts": ["Draw a red star."]},
               {"from": "gpt", "parts": ["a red star", {"modality": "image", "caption": "a red star", "world": {...}}]}]}

`world` describes a medium of the small world exactly, so that it can be drawn; media of other authors lack it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from nodes.nextgpt.training.media_file import MediaFile
from nodes.nextgpt.training.world.caption import Medium, caption, modality_of
from nodes.nextgpt.training.world.clip import Clip
from nodes.nextgpt.training.world.scene import Scene, Thing
from nodes.nextgpt.training.world.sound import Sound
from nodes.nextgpt.training.world.talk import Talk
from nodes.nextgpt.training.world.terms import Language

HAN = re.compile(r"[\u4e00-\u9fff]")
_WORD = re.compile(r"[\u4e00-\u9fff]|[^\W_]+(?:['’][^\W_]+)*")


@dataclass(frozen=True)
class Wanted:
    """A medium that a turn has a place for. drawn: what it is in the small world, if it comes from there."""

    modality: str
    caption: str
    drawn: Medium | None = None


@dataclass(frozen=True)
class Turn:
    speaker: Literal["human", "gpt"]
    parts: tuple[str | Wanted, ...]

    @property
    def text(self) -> str:
        return " ".join(part for part in self.parts if isinstance(part, str))

    @property
    def media(self) -> tuple[Wanted, ...]:
        return tuple(part for part in self.parts if isinstance(part, Wanted))


@dataclass(frozen=True)
class Dialogue:
    """source: who wrote it. kind: what is done in it, "make image" for example; of several as the readers of data sets
    name the whole."""

    kind: str
    language: Language
    source: str
    turns: tuple[Turn, ...]

    @property
    def text(self) -> str:
        return "\n".join(f"{turn.speaker}: {turn.text}" for turn in self.turns)

    @property
    def words(self) -> int:
        """A Chinese character counts as a word."""
        return words_in(" ".join(turn.text for turn in self.turns))

    def wanted(self) -> Iterator[tuple[Turn, Wanted]]:
        for turn in self.turns:
            for medium in turn.media:
                yield turn, medium


def words_in(text: str) -> int:
    return len(_WORD.findall(text))


def language_of(text: str) -> Language:
    return "zh" if HAN.search(text) else "en"


def of_talk(talk: Talk, source: str = "template") -> Dialogue:
    """A talk of the small world as a dialogue; its media are described as the talk's captions do."""
    told = iter(talk.captions)
    turns = []
    for said in talk.turns:
        parts: list[str | Wanted] = []
        for part in said.parts:
            if isinstance(part, str):
                parts.append(part)
            elif isinstance(part, MediaFile):
                raise ValueError("a talk about files is a data set already; nothing of it is to be made")
            else:
                words = next(told, "") if said.role == "assistant" else ""
                parts.append(Wanted(modality_of(part), words or caption(part), part))
        turns.append(Turn("human" if said.role == "user" else "gpt", tuple(parts)))
    return Dialogue(talk.kind, talk.language, source, tuple(turns))


def to_json(dialogue: Dialogue) -> dict[str, Any]:
    turns = [
        {"from": turn.speaker, "parts": [part if isinstance(part, str) else _wanted_json(part) for part in turn.parts]}
        for turn in dialogue.turns
    ]
    return {"kind": dialogue.kind, "language": dialogue.language, "source": dialogue.source, "turns": turns}


def from_json(value: Any) -> Dialogue:
    """Raises ValueError that says what is wrong."""
    if not isinstance(value, Mapping) or not isinstance(value.get("turns"), list):
        raise ValueError("a dialogue is an object with turns")
    turns = []
    for number, turn in enumerate(value["turns"], 1):
        if not isinstance(turn, Mapping) or turn.get("from") not in ("human", "gpt"):
            raise ValueError(f"turn {number} is from neither human nor gpt")
        if not isinstance(turn.get("parts"), list):
            raise ValueError(f"turn {number} has no list of parts")
        turns.append(Turn(turn["from"], tuple(_part(part, number) for part in turn["parts"])))
    made = Dialogue(str(value.get("kind", "")), "en", str(value.get("source", "")), tuple(turns))
    language = value.get("language") if value.get("language") in ("en", "zh") else language_of(made.text)
    return Dialogue(made.kind, language, made.source, made.turns)  # type: ignore[arg-type]


def _part(part: Any, number: int) -> str | Wanted:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping) or part.get("modality") not in ("image", "video", "audio"):
        raise ValueError(f"turn {number} has a part that is neither text nor an image, video or audio")
    world = part.get("world")
    return Wanted(part["modality"], str(part.get("caption", "")), None if world is None else _drawn(world, number))


def _wanted_json(medium: Wanted) -> dict[str, Any]:
    told: dict[str, Any] = {"modality": medium.modality, "caption": medium.caption}
    if medium.drawn is not None:
        told["world"] = asdict(medium.drawn)
    return told


def _drawn(world: Any, number: int) -> Medium:
    try:
        if "things" in world:
            things = tuple(Thing(**{**thing, "offset": tuple(thing["offset"])}) for thing in world["things"])
            return Scene(**{**world, "things": things})
        return Clip(**world) if "motion" in world else Sound(**world)
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"turn {number} describes a medium that the small world does not have: {error}") from None
