"""Duplicates: texts and media of a data set that are there more than once, or nearly so.

Texts are compared by their shingles, only where they share one of the rarest; media by fingerprint, each with each of its
modality. 5,000 conversations take 3 s, comparing 5,000 pictures 1 s; reading the files takes longer.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from graph_engine.errors import AnyloomError
from nodes.nextgpt.training.data.fingerprint import Fingerprint, fingerprint, likeness, plain, shingles
from nodes.nextgpt.training.media import as_value
from nodes.nextgpt.training.media_file import MediaFile
from nodes.nextgpt.training.world.talk import Talk

NEAR_TEXT = 0.8
"""Share of shingles from which on two texts are nearly one."""
NEAR_BITS = 0.08
"""Share of a fingerprint's bits up to which two media may be nearly one."""
NEAR_PICTURE, NEAR_FILM, NEAR_SOUND = 0.09, 0.12, 0.04
"""Differences up to which they are: the greatest of pictures and films, the root mean square of sounds. Measured on the
small world: a picture of 64 x 64 as JPEG of quality 90 is up to 0.08 away, at twice the size 0.02; a small circle and a
small square at the same place 0.11, two colours 0.36. A sound at half its loudness 0.00, as Vorbis 0.03, with other strokes
0.05."""
_ANCHORS = 6
"""Rarest shingles of a text by which candidates are found."""


@dataclass(frozen=True)
class Group:
    """What is there more than once: `places` in the order of the data set, at least two."""

    what: Literal["text", "image", "video", "audio"]
    how: Literal["exact", "near"]
    places: tuple[str, ...]
    shown: str


def duplicate_texts(
    texts: Mapping[str, str], least: float = NEAR_TEXT, beside: Mapping[str, Hashable] | None = None
) -> list[Group]:
    """Groups of texts {place: text}. Exact: equal but for case, spaces and signs.

    beside: what stands beside each; only texts with equal company are compared.
    """
    names, company = list(texts), beside or {}
    exact = _alike(names, lambda name: (company.get(name), plain(texts[name])))
    groups = [Group("text", "exact", tuple(places), texts[places[0]]) for places in exact]
    first = {name: places[0] for places in exact for name in places}
    rest = [name for name in names if first.get(name, name) == name]
    sets = {name: shingles(texts[name]) for name in rest}

    def alike(one: str, other: str) -> bool:
        return company.get(one) == company.get(other) and likeness(sets[one], sets[other]) >= least

    near = _joined(rest, _candidates(sets), alike)
    return groups + [Group("text", "near", tuple(places), texts[places[0]]) for places in near]


def duplicate_media(
    media: Iterable[MediaFile], on_progress: Callable[[int], None] = lambda _: None
) -> tuple[list[Group], dict[str, str]]:
    """Groups of files, and {path: why} of those that cannot be read. Exact: the same bytes."""
    files: dict[str, MediaFile] = {str(medium.path): medium for medium in media}
    broken: dict[str, str] = {}
    prints: dict[str, Fingerprint] = {}
    contents: dict[str, str] = {}
    for number, (place, medium) in enumerate(files.items(), 1):
        try:
            contents[place] = _digest(medium.path)
            prints[place] = fingerprint(as_value(medium))
        except (AnyloomError, OSError, ValueError) as error:
            broken[place] = str(error)
        on_progress(number)
    groups: list[Group] = []
    for modality in ("image", "video", "audio"):
        names = [place for place in prints if files[place].modality == modality]
        exact = _alike(names, lambda name: contents[name])
        groups += [Group(modality, "exact", tuple(p), files[p[0]].caption) for p in exact]
        first = {name: places[0] for places in exact for name in places}
        rest = [name for name in names if first.get(name, name) == name]
        for places in _joined(rest, _near_prints(rest, prints), partial(_alike_in, modality, prints)):
            groups.append(Group(modality, "near", tuple(places), files[places[0]].caption))
    return groups, broken


def same(modality: str, one: Fingerprint, other: Fingerprint) -> bool:
    """Whether two media are nearly one."""
    bits, greatest, mean = one.difference(other)
    near = (
        mean <= NEAR_SOUND if modality == "audio" else greatest <= (NEAR_PICTURE if modality == "image" else NEAR_FILM)
    )
    return bits <= NEAR_BITS and near


def texts_of(talks: Sequence[Talk]) -> tuple[dict[str, str], dict[str, Hashable]]:
    """What is said in each talk, and the media beside it, by "talk NUMBER": equal words about another medium are another
    exercise."""
    names = [f"talk {number}" for number in range(1, len(talks) + 1)]
    words = ("\n".join(part for said in talk.turns for part in said.parts if isinstance(part, str)) for talk in talks)
    media = ((tuple(talk.given), tuple(talk.made)) for talk in talks)
    return dict(zip(names, words, strict=True)), dict(zip(names, media, strict=True))


def media_of(talks: Iterable[Talk]) -> list[MediaFile]:
    """All files, each once, with the first caption that is not empty."""
    found: dict[Path, MediaFile] = {}
    for talk in talks:
        for medium in (*talk.given, *talk.made):
            if isinstance(medium, MediaFile) and not (medium.path in found and found[medium.path].caption):
                found[medium.path] = medium
    return list(found.values())


def table_of(groups: Sequence[Group]) -> dict[str, Any]:
    """A TABLE: one row per entry of a group."""
    rows = [
        [number, group.what, group.how, place, group.shown[:160]]
        for number, group in enumerate(groups, 1)
        for place in group.places
    ]
    return {"columns": ["group", "what", "how", "place", "reads"], "rows": rows}


def _alike_in(modality: str, prints: Mapping[str, Fingerprint], one: str, other: str) -> bool:
    return same(modality, prints[one], prints[other])


def _alike(names: Sequence[str], key: Callable[[str], Hashable]) -> list[list[str]]:
    found: dict[Hashable, list[str]] = defaultdict(list)
    for name in names:
        found[key(name)].append(name)
    return [places for places in found.values() if len(places) > 1]


def _candidates(sets: Mapping[str, frozenset[str]]) -> Iterator[tuple[str, str]]:
    """Pairs that share one of the rarest shingles of either."""
    counts = Counter(shingle for entry in sets.values() for shingle in entry)
    holders: dict[str, list[str]] = defaultdict(list)
    for name, entry in sets.items():
        for shingle in entry:
            holders[shingle].append(name)
    for name, entry in sets.items():
        rarest = sorted(entry, key=lambda shingle: (counts[shingle], shingle))
        # Of a near copy four fifths are shared, so some of the rarest that anybody shares are.
        shared = [shingle for shingle in rarest if counts[shingle] > 1][:_ANCHORS]
        for other in dict.fromkeys(other for shingle in shared for other in holders[shingle]):
            if other != name:
                yield name, other


def _near_prints(names: Sequence[str], prints: Mapping[str, Fingerprint]) -> Iterator[tuple[str, str]]:
    """Pairs whose bits differ little: rows of bytes, one against all that follow."""
    sizes = {name: len(prints[name].grid) for name in names}
    for size in sorted(set(sizes.values())):
        group = [name for name in names if sizes[name] == size]
        width = -(-size // 8)
        table = np.array([list(prints[name].bits.to_bytes(width, "big")) for name in group], dtype=np.uint8)
        for index in range(len(group) - 1):
            differ = np.bitwise_count(table[index + 1 :] ^ table[index]).sum(1)
            for other in np.flatnonzero(differ <= NEAR_BITS * size):
                yield group[index], group[index + 1 + int(other)]


def _joined(
    names: Sequence[str], pairs: Iterable[tuple[str, str]], alike: Callable[[str, str], bool]
) -> list[list[str]]:
    """Groups of what is alike with its like (union-find), in the order of `names`."""
    over = {name: name for name in names}

    def root(name: str) -> str:
        while over[name] != name:
            over[name] = over[over[name]]
            name = over[name]
        return name

    for one, other in pairs:
        if root(one) != root(other) and alike(one, other):
            over[root(other)] = root(one)
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[root(name)].append(name)
    return [places for places in groups.values() if len(places) > 1]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()
