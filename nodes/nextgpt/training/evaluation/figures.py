"""Figures: what share of the prompts was answered right, in which respect, and whether that reaches the bars."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nodes.nextgpt.training.evaluation.prompts import Prompt

BARS: Mapping[str, tuple[str, float]] = {
    "text_to_image_colour": (">=", 0.97),
    "text_to_image_shape": (">=", 0.95),
    "text_to_image_position": (">=", 0.95),
    "text_to_audio_pitch": (">=", 0.95),
    "text_to_audio_rhythm": (">=", 0.95),
    "text_to_video_motion": (">=", 0.93),
    "text_to_video_object": (">=", 0.93),
    "image_to_text": (">=", 0.95),
    "audio_to_text": (">=", 0.95),
    "video_to_text": (">=", 0.95),
    "cross_modal": (">=", 0.90),
    "mixed_order": (">=", 0.95),
    "router_precision": (">=", 0.99),
    "router_recall": (">=", 0.99),
    "second_turn": (">=", 0.90),
    "chinese_gap": ("<=", 0.05),
    "turn_seconds": ("<=", 12.0),
}
"""What the mini model has to reach; figures without a bar are for information."""


@dataclass(frozen=True)
class Outcome:
    """What became of a prompt. given: modalities of the answer, in order. verdicts: one per wish, attribute by attribute."""

    prompt: Prompt
    text: str
    given: tuple[str, ...]
    verdicts: tuple[Mapping[str, bool], ...]
    seconds: float

    @property
    def good(self) -> bool:
        """Everything that was wished for is there, and no medium too many."""
        return list(self.given) == self.prompt.wanted and all(all(v.values()) for v in self.verdicts)


def figures(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Shares in 0..1 (and seconds). A figure for which nothing was asked is left out."""
    found: dict[str, float] = {}
    votes: dict[str, list[bool]] = defaultdict(list)
    for outcome in outcomes:
        kind = outcome.prompt.kind
        for wish, verdict in zip(outcome.prompt.wishes, outcome.verdicts, strict=True):
            for name, right in verdict.items():
                figure = _figure(kind, str(wish["modality"]), name)
                if figure:
                    votes[figure].append(right)
        if kind in ("cross", "move"):
            votes["cross_modal"].append(outcome.good)
            for given in outcome.prompt.given[-1:]:
                votes[f"{given}_to_{outcome.prompt.wanted[0]}"].append(outcome.good)
        if kind == "mixed":
            votes["mixed_order"].append(list(outcome.given) == outcome.prompt.wanted)
        if kind == "edit":
            votes["second_turn"].append(outcome.good)
    found |= {name: sum(values) / len(values) for name, values in sorted(votes.items())}
    found |= _router(outcomes)
    by_language = {
        language: [outcome.good for outcome in outcomes if outcome.prompt.language == language]
        for language in ("en", "zh")
    }
    shares = {language: sum(values) / len(values) for language, values in by_language.items() if values}
    found |= {f"all_{language}": share for language, share in shares.items()}
    if len(shares) == 2:
        found["chinese_gap"] = shares["en"] - shares["zh"]
    described = [
        outcome for outcome in outcomes if outcome.prompt.kind.startswith("describe") and outcome.prompt.reference
    ]
    if described:
        found["caption_exact"] = sum(o.text == o.prompt.reference for o in described) / len(described)
        found["caption_bleu"] = bleu([(o.text, o.prompt.reference) for o in described])
    if outcomes:
        found["all"] = sum(outcome.good for outcome in outcomes) / len(outcomes)
        found["prompts"] = float(len(outcomes))
        ordered = sorted(outcome.seconds for outcome in outcomes)
        found["turn_seconds"] = ordered[math.ceil(0.95 * len(ordered)) - 1]
    return found


def missed(found: Mapping[str, float]) -> list[str]:
    """The bars that are not reached; one whose figure is lacking counts as missed."""
    wrong = []
    for name, (sense, bar) in BARS.items():
        value = found.get(name)
        if value is None or math.isnan(value) or (value < bar if sense == ">=" else value > bar):
            wrong.append(name)
    return wrong


def _figure(kind: str, modality: str, attribute: str) -> str | None:
    if kind.startswith("describe") or kind == "ask":
        return f"{'image' if kind == 'ask' else kind.split()[1]}_to_text"
    if kind not in ("make image", "make audio", "make video", "mixed"):
        return None
    if modality == "text":
        return None  # words beside media; of them alone there are the kinds above
    names = {
        "image": {"colour": "colour", "shape": "shape", "place": "position", "count": "count"},
        "audio": {"note": "pitch", "beats": "rhythm", "direction": "rhythm"},
        "video": {"motion": "motion", "colour": "object", "shape": "object"},
    }[modality]
    return f"text_to_{modality}_{names.get(attribute, attribute)}"


def _router(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Of media given, how many were wished for; of those wished for, how many were given."""
    right = given = wanted = 0
    for outcome in outcomes:
        have, want = Counter(outcome.given), Counter(outcome.prompt.wanted)
        right += sum((have & want).values())
        given, wanted = given + sum(have.values()), wanted + sum(want.values())
    return {
        "router_precision": right / given if given else float(wanted == 0),
        "router_recall": right / wanted if wanted else 1.0,
    }


def bleu(pairs: Sequence[tuple[str, str]]) -> float:
    """Corpus BLEU-4 with one reference each (Papineni et al. 2002); Chinese is counted by characters."""
    matches, totals = [0] * 4, [0] * 4
    said_length = wanted_length = 0
    for said, wanted in pairs:
        a, b = _units(said), _units(wanted)
        said_length, wanted_length = said_length + len(a), wanted_length + len(b)
        for size in range(1, 5):
            have = Counter(tuple(a[i : i + size]) for i in range(len(a) - size + 1))
            want = Counter(tuple(b[i : i + size]) for i in range(len(b) - size + 1))
            matches[size - 1] += sum((have & want).values())
            totals[size - 1] += sum(have.values())
    if not all(matches):
        return 0.0
    precision = sum(math.log(m / t) for m, t in zip(matches, totals, strict=True)) / 4
    return math.exp(precision + min(0.0, 1 - wanted_length / said_length))


def _units(text: str) -> list[str]:
    units: list[str] = []
    for word in text.replace(",", " ,").split():
        units += [word] if word.isascii() else list(word)
    return units
