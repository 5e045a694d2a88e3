"""Sift: which dialogues of a set in the making are worth learning from, and why the others are not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nodes.nextgpt.training.data.dialogue import Dialogue
from nodes.nextgpt.training.data.duplicates import NEAR_TEXT, duplicate_texts

_MARK = re.compile(r"<(image|video|audio)[\s>:]|\[(IMG|VID|AUD)\d+\]", re.I)


@dataclass(frozen=True)
class Rules:
    """most_words, most_turns: of a dialogue (the paper: under 300 words, 3 to 7 turns on average 4.8).
    near: share of shingles from which on two dialogues are one; above 1 only equal ones are.
    largest_share: of one kind; the last ones beyond it are left out.
    made_only: media on the assistant's side only, as in the published set.
    """

    most_words: int = 300
    least_turns: int = 2
    most_turns: int = 14
    near: float = NEAR_TEXT
    largest_share: float = 1.0
    made_only: bool = False


@dataclass(frozen=True)
class Rejected:
    """number: of the dialogue in what was sifted, from 1."""

    number: int
    code: str
    why: str
    dialogue: Dialogue


def sift(dialogues: Sequence[Dialogue], rules: Rules) -> tuple[list[int], list[Rejected]]:
    """Indices of what is kept, in order, and what is not. Balance comes last, of what is left."""
    rejected: list[Rejected] = []

    def reject(index: int, code: str, why: str) -> None:
        rejected.append(Rejected(index + 1, code, why, dialogues[index]))

    sound = []
    for index, dialogue in enumerate(dialogues):
        fault = _fault(dialogue, rules)
        if fault:
            reject(index, *fault)
        else:
            sound.append(index)
    # What is shown belongs to what is said: "Describe it." of another picture is another exercise.
    texts = {str(index): _told(dialogues[index]) for index in sound}
    shown = {str(index): _shown(dialogues[index]) for index in sound}
    for group in duplicate_texts(texts, min(rules.near, 1.0), shown):
        if group.how == "near" and rules.near > 1:
            continue
        for place in group.places[1:]:
            how = "equal" if group.how == "exact" else "nearly equal"
            reject(int(place), "duplicate", f"it is {how} to dialogue {int(group.places[0]) + 1}")
    gone = {entry.number - 1 for entry in rejected}
    kept: list[int] = []
    most = most_of_each(Counter(dialogues[i].kind for i in sound if i not in gone), rules.largest_share)
    counts: Counter[str] = Counter()
    for index in sound:
        if index in gone:
            continue
        kind = dialogues[index].kind
        if counts[kind] >= most:
            reject(index, "unbalanced", f"{most} of the kind {kind!r} are enough")
        else:
            counts[kind] += 1
            kept.append(index)
    return kept, sorted(rejected, key=lambda entry: entry.number)


def most_of_each(counts: Counter[str], largest_share: float) -> int:
    """The greatest number of one kind that is at most this share of the whole; where there are too few kinds for that, as
    many of each as of the rarest."""
    if not counts or largest_share >= 1:
        return max(counts.values(), default=0)
    for most in range(max(counts.values()), 0, -1):
        if most <= largest_share * sum(min(count, most) for count in counts.values()):
            return most
    return min(counts.values())


def table_of(rejected: Sequence[Rejected]) -> dict[str, Any]:
    """A TABLE: what was left out, and why."""
    rows = [[entry.number, entry.code, entry.why, entry.dialogue.text[:160]] for entry in rejected]
    return {"columns": ["dialogue", "code", "why", "text"], "rows": rows}


def _fault(dialogue: Dialogue, rules: Rules) -> tuple[str, str] | None:
    turns = dialogue.turns
    if not turns or turns[0].speaker != "human" or turns[-1].speaker != "gpt":
        return "bad_order", "it must begin with the human and end with the answer"
    if any(turn.speaker != ("human", "gpt")[number % 2] for number, turn in enumerate(turns)):
        return "bad_order", "the speakers must take turns"
    if any(not turn.parts for turn in turns):
        return "empty_turn", "a turn says nothing"
    if not rules.least_turns <= len(turns) <= rules.most_turns:
        return "length", f"it has {len(turns)} turns, not {rules.least_turns} to {rules.most_turns}"
    if dialogue.words > rules.most_words:
        return "length", f"it has {dialogue.words} words, more than {rules.most_words}"
    if _MARK.search(dialogue.text):
        return "mark_in_text", "its words hold a placeholder or a signal, which would be read as one"
    if rules.made_only and any(turn.speaker == "human" for turn, _ in dialogue.wanted()):
        return "given_medium", "the human shows a medium"
    return None


def _told(dialogue: Dialogue) -> str:
    """All words, with the captions of what is made."""
    return "\n".join([dialogue.text, *(medium.caption for turn, medium in dialogue.wanted() if turn.speaker == "gpt")])


def _shown(dialogue: Dialogue) -> tuple[Any, ...]:
    return tuple(medium.drawn or medium for turn, medium in dialogue.wanted() if turn.speaker == "human")
