"""Values that a person types in."""

from __future__ import annotations

from typing import Annotated

from graph_engine import Json, Needs, Widget, node

CATEGORY = "control/constants"


@node(id="control.text", category=CATEGORY, needs=Needs(inline=True))
def text(value: Annotated[str, Widget(multiline=True)] = "") -> str:
    """A text."""
    return value


@node(id="control.integer", category=CATEGORY, needs=Needs(inline=True))
def integer(value: int = 0) -> int:
    """A whole number."""
    return value


@node(id="control.number", category=CATEGORY, needs=Needs(inline=True))
def number(value: float = 0.0) -> float:
    """A number."""
    return value


@node(id="control.boolean", category=CATEGORY, needs=Needs(inline=True))
def boolean(value: bool = True) -> bool:
    """True or false."""
    return value


@node(id="control.json", category=CATEGORY, needs=Needs(inline=True))
def json(value: Json = None) -> Json:
    """Any JSON value: object, list, text, number, true, false, null."""
    return value
