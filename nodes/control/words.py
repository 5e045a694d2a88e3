"""Text: join, split, replace, and to and from numbers."""

from __future__ import annotations

import math
from typing import Annotated, NamedTuple

from graph_engine import AnyValue, Needs, NodeError, Widget, node
from nodes.control.port_order import natural
from nodes.control.template import as_text, refuse_long

CATEGORY = "control/text"
INLINE = Needs(inline=True)
_ESCAPES = {r"\n": "\n", r"\t": "\t"}


def _separator(text: str) -> str:
    """A separator as typed into a one-line field: `\\n` and `\\t` mean line break and tab."""
    for written, meant in _ESCAPES.items():
        text = text.replace(written, meant)
    return text


@node(id="control.join_text", category=CATEGORY, needs=INLINE)
def join_text(separator: str = "\\n", skip_empty: bool = False, **texts: list[str]) -> str:
    """Join texts, in the natural order of the port names; lists are joined entry by entry."""
    parts: list[str] = []
    for name in natural(texts):
        value = texts[name]
        if value is not None:
            parts.extend(value if isinstance(value, list) else [value])
    between = _separator(separator)
    parts = [part for part in parts if part or not skip_empty]
    refuse_long(sum(map(len, parts)) + len(between) * (len(parts) - 1))
    return between.join(parts)


@node(id="control.split_text", category=CATEGORY, needs=INLINE)
def split_text(
    text: Annotated[str, Widget(multiline=True)], separator: str = "\\n", strip: bool = True, skip_empty: bool = True
) -> list[str]:
    """Split at every separator (`\\n` is a line break); an empty separator splits at white space."""
    parts = text.split(_separator(separator)) if separator else text.split()
    if strip:
        parts = [part.strip() for part in parts]
    return [part for part in parts if part or not skip_empty]


@node(id="control.replace_text", category=CATEGORY, needs=INLINE)
def replace_text(text: Annotated[str, Widget(multiline=True)], find: str, replacement: str = "") -> str:
    """Replace every occurrence of `find`, letter by letter."""
    if not find:
        return text
    longer = len(replacement) - len(find)
    if longer > 0:
        refuse_long(len(text) + text.count(find) * longer, "replacement")
    return text.replace(find, replacement)


@node(id="control.to_text", category=CATEGORY, needs=INLINE)
def to_text(value: AnyValue) -> str:
    """Any value as text: numbers and JSON as JSON, tensors in a few words."""
    return as_text(value)


class Number(NamedTuple):
    number: float
    integer: int


@node(id="control.to_number", category=CATEGORY, needs=INLINE)
def to_number(text: str) -> Number:
    """The number that a text spells, and that number rounded."""
    try:
        number = float(text.strip())
        if not math.isfinite(number):
            raise ValueError
    except ValueError:
        shown = text if len(text) <= 60 else text[:57] + "..."
        raise NodeError(
            f"{shown!r} is no number.",
            remedy="Give digits, a point and an exponent at most, as in -12.5e3.",
            code="no_number",
            port="text",
        ) from None
    return Number(number, round(number))
