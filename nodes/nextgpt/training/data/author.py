"""Authors of dialogues: templates of the small world, and language models, whose text is taken apart.

A language model is asked for this form, one dialogue per text:

    Human: Can you show me a lighthouse?
    GPT: Here is one at dusk. <image: a lighthouse on a cliff at dusk>

A place without a caption (`<image>`) takes the words of its turn. Written anew; the prompts that the authors of NExT-GPT
gave to GPT-4 were not used.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Literal

from graph_engine.errors import Problem
from nodes.nextgpt.training.data.dialogue import Dialogue, Turn, Wanted, language_of, of_talk
from nodes.nextgpt.training.seeds import drawer
from nodes.nextgpt.training.world.talk import KINDS, Talk, Talker
from nodes.nextgpt.training.world.terms import LANGUAGES, Language

_TURN = re.compile(r"^\s*\**\s*(human|user|gpt|assistant)\s*\**\s*[:：]\s*", re.I | re.M)
_PLACE = re.compile(r"<(image|video|audio)(?:\s*[:：]\s*([^<>]*?))?\s*>", re.I)
_SPEAKER: dict[str, Literal["human", "gpt"]] = {"human": "human", "user": "human", "gpt": "gpt", "assistant": "gpt"}
_MADE = {"image": "picture", "video": "video", "audio": "sound"}


def by_templates(
    count: int,
    seed: int = 0,
    kinds: Sequence[str] = (),
    languages: Sequence[Language] = LANGUAGES,
    rounds: tuple[int, int] = (1, 4),
) -> list[Dialogue]:
    """Dialogues of the small world. rounds: how many talks, at least and at most, follow one another in each.

    Raises ValueError for a kind that the world does not have.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise ValueError(f"there is no kind of talk {', '.join(unknown)}; choose some of {', '.join(KINDS)}")
    return [_chained(drawer("dialogue", seed, number), kinds, languages, rounds) for number in range(count)]


def _chained(
    draw: random.Random, kinds: Sequence[str], languages: Sequence[Language], rounds: tuple[int, int]
) -> Dialogue:
    talker, language = Talker(draw), draw.choice(list(languages))
    names = list(kinds or KINDS)
    weights = [KINDS[kind] for kind in names]
    talks: list[Talk] = []
    for _ in range(draw.randint(*rounds)):
        talks.append(talker.talk(draw.choices(names, weights)[0], language))
    turns = tuple(turn for talk in talks for turn in of_talk(talk).turns)
    found = {talk.kind for talk in talks}
    return Dialogue(found.pop() if len(found) == 1 else kind_of(turns), language, "template", turns)


def request_for(topic: str, modalities: Sequence[str], rounds: int, language: Language = "en") -> str:
    """What a language model is asked, so that its answer can be taken apart by `by_text`."""
    made = " and ".join(f"one <{name}: caption>" for name in modalities) or "no media"
    speech = {"en": "English", "zh": "Chinese"}[language]
    nouns = ", ".join(_MADE[name] for name in modalities) or "media"
    return (
        f"Write a conversation in {speech} about: {topic}.\n"
        f"A person (Human) and an assistant (GPT) speak in turns, {rounds} turns each; the person begins, the assistant "
        f"ends. Begin each turn on a new line with 'Human:' or 'GPT:'.\n"
        f"The assistant can give {nouns}. In all it gives {made}: write the mark where the medium is to stand, with a "
        f"caption of at most twenty words that describes it to somebody who has not read the conversation.\n"
        f"Write fewer than 300 words, and nothing but the conversation."
    )


def by_text(texts: Sequence[str], source: str = "language model") -> tuple[list[Dialogue], list[Problem]]:
    """The dialogues in what language models wrote, and what is wrong with the other texts, by their number."""
    found: list[Dialogue] = []
    problems: list[Problem] = []
    for number, text in enumerate(texts, 1):
        pieces = _TURN.split(text)
        turns = [
            Turn(_SPEAKER[who.lower()], _parts(said.strip()))
            for who, said in zip(pieces[1::2], pieces[2::2], strict=True)
        ]
        wrong = _wrong(turns)
        if wrong:
            told = Problem("bad_dialogue", f"{wrong}.", "Ask the model again, or correct it.", place=f"text {number}")
            problems.append(told)
            continue
        language = language_of(" ".join(turn.text for turn in turns))
        found.append(Dialogue(kind_of(turns), language, source, tuple(turns)))
    return found, problems


def _parts(text: str) -> tuple[str | Wanted, ...]:
    bare = " ".join(_PLACE.sub(" ", text).split())
    parts: list[str | Wanted] = []
    end = 0
    for mark in _PLACE.finditer(text):
        parts += [text[end : mark.start()].strip()]
        parts.append(Wanted(mark[1].lower(), (mark[2] or "").strip() or bare))
        end = mark.end()
    parts.append(text[end:].strip())
    return tuple(part for part in parts if part)


def _wrong(turns: Sequence[Turn]) -> str:
    """What is wrong with the order of speakers; nothing of what a filter would find."""
    if not turns:
        return "there is no line that begins with 'Human:' or 'GPT:'"
    for number, turn in enumerate(turns):
        if turn.speaker != ("human", "gpt")[number % 2]:
            return f"turn {number + 1} is from {turn.speaker}; they speak in turns, and Human begins"
        if not turn.parts:
            return f"turn {number + 1} says nothing"
        empty = next((medium.modality for medium in turn.media if not medium.caption), None)
        if empty:
            return f"the {empty} of turn {number + 1} has neither a caption nor words beside it"
    return "" if turns[-1].speaker == "gpt" else "it ends with Human; there is no answer to learn"


def kind_of(turns: Sequence[Turn]) -> str:
    """By the media of both sides, as the readers of data sets name it."""
    given = [medium.modality for turn in turns if turn.speaker == "human" for medium in turn.media]
    made = [medium.modality for turn in turns if turn.speaker == "gpt" for medium in turn.media]
    if given and made:
        return "cross"
    if given:
        return f"describe {given[0]}"
    if made:
        return f"make {made[0]}" if len(made) == 1 else "mixed"
    return "chat"
