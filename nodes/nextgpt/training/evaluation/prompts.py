"""Prompts: what is asked in an evaluation, and what has to come of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graph_engine.errors import RequestError
from nodes.nextgpt.training.seeds import drawer
from nodes.nextgpt.training.world.caption import caption, modality_of
from nodes.nextgpt.training.world.talk import KINDS, Said, Talker
from nodes.nextgpt.training.world.terms import LANGUAGES, language_of
from nodes.nextgpt.training.world.wish import fault_of

COUNTS: Mapping[str, int] = {
    "make image": 60,
    "make audio": 40,
    "make video": 40,
    "describe image": 30,
    "describe audio": 24,
    "describe video": 24,
    "ask": 12,
    "cross": 36,
    "move": 20,
    "mixed": 30,
    "edit": 30,
    "chat": 20,
}
"""Of each kind, half in each language: 366 in all."""


@dataclass(frozen=True)
class Prompt:
    """turns end with the user. wishes: what the answer has to have, in order (`world/wish.py`); `reference`: its words."""

    kind: str
    language: str
    turns: tuple[Said, ...]
    wishes: tuple[Mapping[str, Any], ...]
    reference: str = ""

    @property
    def wanted(self) -> list[str]:
        """The modalities that the answer has to have, in order."""
        return [str(wish["modality"]) for wish in self.wishes if wish["modality"] != "text"]

    @property
    def given(self) -> list[str]:
        """The modalities of the media that the user gives, in order."""
        return [
            modality_of(part)
            for turn in self.turns
            if turn.role == "user"
            for part in turn.parts
            if not isinstance(part, str)
        ]

    @property
    def shown(self) -> str:
        """The turns as a person reads them."""
        return " / ".join(
            " ".join(part if isinstance(part, str) else f"[{caption(part)}]" for part in turn.parts)
            for turn in self.turns
        )


def withheld(seed: int = 0, scale: float = 1.0) -> list[Prompt]:
    """Prompts about combinations that were never trained on. scale: of their number; each kind has two at least."""
    prompts = []
    for kind, count in COUNTS.items():
        for number in range(max(2, round(count * scale))):
            language = LANGUAGES[number % 2]
            talk = Talker(drawer("evaluation", seed, kind, number), withheld=True).talk(kind, language)
            *before, last = talk.turns
            words = " ".join(part for part in last.parts if isinstance(part, str))
            prompts.append(Prompt(kind, language, tuple(before), talk.wishes, words))
    return prompts


def read_prompts(path: Path) -> list[Prompt]:
    """A JSON list of {"text", "language"?, "kind"?, "wishes"}. Raises RequestError with the place of what is wrong.

    language: by default that of its characters. kind: one of `KINDS`, by default what the wishes are for.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(
            f"{path} cannot be read: {error}.", remedy="Give a JSON list.", code="bad_prompts"
        ) from error
    if not isinstance(entries, list) or not entries:
        raise RequestError(f"{path} holds no list of prompts.", remedy="Give a JSON list.", code="bad_prompts")
    return [_prompt(entry, f"{path}: prompt {number}") for number, entry in enumerate(entries, 1)]


def _prompt(entry: Any, place: str) -> Prompt:
    def refuse(told: str, remedy: str) -> RequestError:
        return RequestError(f"{place}{told}.", remedy=remedy, code="bad_prompts")

    wishes = entry.get("wishes") if isinstance(entry, dict) else None
    if not isinstance(wishes, list) or not isinstance(entry.get("text"), str):
        raise refuse(
            " has no text or no wishes",
            'Write {"text": "Draw a red star.", "wishes": [{"modality": "image", "things": [{"colour": "red"}]}]}.',
        )
    for number, wish in enumerate(wishes, 1):
        if fault := fault_of(wish):
            raise refuse(
                f", wish {number}: {fault}", "See nodes/nextgpt/training/world/wish.py for the form of wishes."
            )
    modalities = [wish["modality"] for wish in wishes if wish["modality"] != "text"]
    kind = entry.get("kind") or ("chat" if not modalities else f"make {modalities[0]}" if len(wishes) == 1 else "mixed")
    if kind not in tuple(KINDS):
        raise refuse(f": its kind {kind!r} is none of {', '.join(KINDS)}", "Correct it, or leave it out.")
    language = entry.get("language") or language_of(entry["text"])
    if language not in LANGUAGES:
        raise refuse(f": its language {language!r} is none of {', '.join(LANGUAGES)}", "Correct it, or leave it out.")
    return Prompt(kind, language, (Said("user", (entry["text"],)),), tuple(wishes))
