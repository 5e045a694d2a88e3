"""Arithmetic and comparisons. There is no expression language: a workflow never carries code."""

from __future__ import annotations

import math as mathematics
import operator
from collections.abc import Callable
from typing import Literal, NamedTuple

from graph_engine import Needs, NodeError, node

CATEGORY = "control/math"
INLINE = Needs(inline=True)

_OPERATIONS = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "floor divide": operator.floordiv,
    "modulo": operator.mod,
    "power": mathematics.pow,
    "minimum": min,
    "maximum": max,
}
_COMPARISONS = {
    "equal": operator.eq,
    "not equal": operator.ne,
    "less": operator.lt,
    "less or equal": operator.le,
    "greater": operator.gt,
    "greater or equal": operator.ge,
}


_ROUNDINGS: dict[str, Callable[[float], int]] = {
    "nearest": round,
    "down": mathematics.floor,
    "up": mathematics.ceil,
    "zero": mathematics.trunc,
}


class Number(NamedTuple):
    number: float
    integer: int


@node(id="control.math", category=CATEGORY, needs=INLINE)
def math(
    a: float,
    b: float,
    operation: Literal[
        "add", "subtract", "multiply", "divide", "floor divide", "modulo", "power", "minimum", "maximum"
    ] = "add",
) -> Number:
    """`a` operation `b`, as a number and rounded to a whole one."""
    try:
        result = float(_OPERATIONS[operation](a, b))  # type: ignore[operator]
        if not mathematics.isfinite(result):
            raise OverflowError("the result is too large")
    except (ZeroDivisionError, OverflowError, ValueError) as error:
        raise NodeError(
            f"{a:g} {operation} {b:g} has no result: {error}.",
            remedy="Check the numbers that arrive here.",
            code="no_result",
        ) from None
    return Number(result, round(result))


@node(id="control.round", title="Round", category=CATEGORY, needs=INLINE)
def round_number(number: float, towards: Literal["nearest", "down", "up", "zero"] = "nearest") -> int:
    """A whole number from a number; halves go to the even neighbour."""
    return _ROUNDINGS[towards](number)


@node(id="control.compare", category=CATEGORY, needs=INLINE)
def compare(
    a: float,
    b: float,
    comparison: Literal["equal", "not equal", "less", "less or equal", "greater", "greater or equal"] = "equal",
    tolerance: float = 0.0,
) -> bool:
    """Compare two numbers; they count as equal when they differ by no more than `tolerance`."""
    return bool(_COMPARISONS[comparison](0.0 if abs(a - b) <= tolerance else a - b, 0.0))


@node(id="control.compare_text", category=CATEGORY, needs=INLINE)
def compare_text(
    a: str,
    b: str,
    comparison: Literal["equal", "not equal", "contains", "starts with", "ends with"] = "equal",
    ignore_case: bool = False,
) -> bool:
    """Compare two texts, or look for `b` in `a`."""
    if ignore_case:
        a, b = a.casefold(), b.casefold()
    return {
        "equal": a == b,
        "not equal": a != b,
        "contains": b in a,
        "starts with": a.startswith(b),
        "ends with": a.endswith(b),
    }[comparison]


@node(id="control.logic", category=CATEGORY, needs=INLINE)
def logic(a: bool, b: bool = False, operation: Literal["and", "or", "xor", "not a"] = "and") -> bool:
    """Combine two conditions; `not a` looks at the first alone."""
    return {"and": a and b, "or": a or b, "xor": a != b, "not a": not a}[operation]
