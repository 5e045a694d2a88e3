"""Text to the token rows that CLIP takes, with emphasis written as `(words:1.2)` and parentheses that are none as `\\(`."""

import re
from collections.abc import Callable
from dataclasses import dataclass

EMPHASIS = re.compile(r"(?<!\\)\(((?:[^()\\]|\\.)*):\s*([-+]?(?:\d+\.?\d*|\.\d+))\s*\)")
_ESCAPED = re.compile(r"\\([()])")


@dataclass(frozen=True)
class Row:
    """ids and weights, one per position; `lost` tokens did not fit."""

    ids: list[int]
    weights: list[float]
    lost: int


def stretches(text: str) -> list[tuple[str, float]]:
    """The text in pieces of one weight each. Parentheses without a number are ordinary text."""
    found, at = [], 0
    for match in EMPHASIS.finditer(text):
        found.append((text[at : match.start()], 1.0))
        found.append((match[1], float(match[2])))
        at = match.end()
    found.append((text[at:], 1.0))
    return [(_ESCAPED.sub(r"\1", piece), weight) for piece, weight in found if piece.strip()]


def row(text: str, encode: Callable[[str], list[int]], length: int, start: int, end: int, pad: int) -> Row:
    """`length` positions: the start sign, the text cut to what fits, the end sign, padding."""
    pairs = _weighted(text, encode)
    found = _framed(pairs[: length - 2], length, start, end, pad)
    return Row(found.ids, found.weights, max(0, len(pairs) - (length - 2)))


def rows(text: str, encode: Callable[[str], list[int]], length: int, start: int, end: int, pad: int) -> list[Row]:
    """The whole text in as many rows as it takes, at least one; each as `row` makes it."""
    pairs, room = _weighted(text, encode), length - 2
    places = range(0, max(len(pairs), 1), room)
    return [_framed(pairs[at : at + room], length, start, end, pad) for at in places]


def _weighted(text: str, encode: Callable[[str], list[int]]) -> list[tuple[int, float]]:
    return [(id, weight) for piece, weight in stretches(text) for id in encode(piece)]


def _framed(kept: list[tuple[int, float]], length: int, start: int, end: int, pad: int) -> Row:
    ids = [start, *(id for id, _ in kept), end]
    weights = [1.0, *(weight for _, weight in kept), 1.0]
    missing = length - len(ids)
    return Row(ids + [pad] * missing, weights + [1.0] * missing, 0)
