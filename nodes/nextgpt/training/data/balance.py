"""Balance: how often each label occurs in a data set, and how even that is.

Labels are what is known of every talk (kind, language, number of turns, media of either side) and, of captions, the words
of the small world that they use.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nodes.nextgpt.training.judges.words import read
from nodes.nextgpt.training.media_file import MediaFile
from nodes.nextgpt.training.world.caption import AnyMedium, caption, modality_of
from nodes.nextgpt.training.world.talk import Talk

Counts = Mapping[str, Counter[str]]
"""{label: {value: count}}"""


def counts_of(talks: Iterable[Talk]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}

    def count(label: str, value: str) -> None:
        found.setdefault(label, Counter())[value] += 1

    for talk in talks:
        count("kind", talk.kind)
        count("language", talk.language)
        count("turns", str(len(talk.turns)))
        for side, media in (("given", talk.given), ("made", talk.made)):
            for medium in media:
                count(side, modality_of(medium))
        for medium in (*talk.given, *talk.made):
            for label, value in _attributes(medium):
                count(label, value)
    return found


def evenness(counts: Mapping[str, int]) -> float:
    """Entropy over its maximum: 1 where all values are equally frequent, near 0 where one is nearly all; 1 of one value."""
    total = sum(counts.values())
    shares = [count / total for count in counts.values() if count]
    if len(shares) < 2:
        return 1.0
    return -sum(share * math.log(share) for share in shares) / math.log(len(shares))


def table_of(counts: Counts, labels: Sequence[str] = ()) -> dict[str, Any]:
    """A TABLE with a row per value, most frequent first; labels: of these only."""
    rows = [
        [label, value, count, round(count / sum(values.values()), 4)]
        for label, values in counts.items()
        if not labels or label in labels
        for value, count in sorted(values.items(), key=lambda entry: (-entry[1], entry[0]))
    ]
    return {"columns": ["label", "value", "count", "share"], "rows": rows}


def evenness_table(counts: Counts) -> dict[str, Any]:
    """A TABLE with a row per label."""
    rows = [
        [
            label,
            len(values),
            sum(values.values()),
            max(values, key=lambda value: values[value]),
            round(evenness(values), 3),
        ]
        for label, values in counts.items()
    ]
    return {"columns": ["label", "values", "count", "most frequent", "evenness"], "rows": rows}


def _attributes(medium: AnyMedium) -> Iterable[tuple[str, str]]:
    told = read(medium.caption if isinstance(medium, MediaFile) else caption(medium))
    for thing in told.things:
        yield from ((name, value) for name, value in thing.items())
    if told.motion:
        yield "motion", told.motion
    # A caption that names no note says nothing of a sound, and is not steady for it.
    if "note" in told.sound:
        yield from told.sound.items()
