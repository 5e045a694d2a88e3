"""A shelf of captioned media: the one whose caption is most like a text is taken from it.

Captions come from data sets in the folder (any format that is read) and from text files beside media: `boat.png` with
`boat.txt`. Likeness is the cosine of words weighted by their rarity (tf-idf); of Chinese, pairs of characters are words.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from graph_engine.errors import RequestError
from nodes.nextgpt.training.data.archive import KINDS
from nodes.nextgpt.training.data.duplicates import media_of
from nodes.nextgpt.training.data.talks import ENDINGS, read_set
from nodes.nextgpt.training.media_file import MediaFile

LEAST = 0.25
"""Likeness below which a medium is not what was asked for."""
_TERM = re.compile(r"[\u4e00-\u9fff]+|[^\W_]+")
_EMPTY = frozenset({"a", "an", "the", "of", "on", "in", "at", "to", "and", "with", "is", "are", "it", "its", "this"})


class Shelf:
    """media: all that have a caption."""

    def __init__(self, media: Sequence[MediaFile]) -> None:
        self.media = tuple(media)
        self._terms = [Counter(terms(medium.caption)) for medium in self.media]
        frequency = Counter(term for entry in self._terms for term in entry)
        self._rarity = {term: 1 + math.log(len(self.media) / count) for term, count in frequency.items()}

    def nearest(self, text: str, modality: str, least: float = LEAST) -> MediaFile | None:
        """The medium whose caption is most like the text; None if none is as like as `least`. Of equals the first."""
        asked = Counter(terms(text))
        best, found = least, None
        for medium, entry in zip(self.media, self._terms, strict=True):
            if medium.modality == modality:
                like = self._cosine(asked, entry)
                if like > best or (found is None and like >= best):
                    best, found = like, medium
        return found

    def _cosine(self, one: Counter[str], other: Counter[str]) -> float:
        shared = sum(count * other[term] * self._weight(term) ** 2 for term, count in one.items() if term in other)
        length = self._length(one) * self._length(other)
        return shared / length if length else 0.0

    def _length(self, entry: Counter[str]) -> float:
        return math.sqrt(sum((count * self._weight(term)) ** 2 for term, count in entry.items()))

    def _weight(self, term: str) -> float:
        # A word that no caption has is as rare as can be: it makes everything less alike.
        return self._rarity.get(term, 1 + math.log(max(1, len(self.media))))


def terms(text: str) -> list[str]:
    """Words without the most common ones; of a run of Chinese characters its pairs."""
    found = []
    for run in _TERM.findall(text.casefold()):
        if "\u4e00" <= run[0] <= "\u9fff":
            found += [run[i : i + 2] for i in range(max(1, len(run) - 1))]
        elif run not in _EMPTY:
            found.append(run)
    return found


def open_shelf(path: Path) -> Shelf:
    """path: a data set, or a folder with data sets, or with text files beside its media, or both.

    Raises RequestError where no medium has a caption. Broken records of data sets are passed over.
    """
    media: list[MediaFile] = []
    if path.is_file() or any(file.suffix in ENDINGS for file in path.rglob("*")):
        media += [medium for medium in media_of(read_set(path).talks) if medium.caption]
    known = {medium.path for medium in media}
    for modality, endings in KINDS.items():
        for file in sorted(file for file in path.rglob("*") if file.suffix.lower() in endings):
            words = file.with_suffix(".txt")
            if file.resolve() not in known and words.is_file():
                caption = words.read_text(encoding="utf-8", errors="replace").strip()
                if caption:
                    media.append(MediaFile(modality, file, caption))
    if not media:
        raise RequestError(
            f"{path} has no media with captions.",
            remedy="Put a text file beside each medium (boat.png, boat.txt), or name a data set.",
            code="no_captions",
        )
    return Shelf(media)
