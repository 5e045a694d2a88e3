"""Branches: which of several inputs goes on, and whether anything does. What is not chosen is never computed."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar, cast

from graph_engine import LAZY, UNSET, Need, Needs, NodeError, Skip, Widget, node
from nodes.control.port_order import natural

T = TypeVar("T")
CATEGORY = "control/branch"
INLINE = Needs(inline=True)


@node(id="control.switch", category=CATEGORY, needs=INLINE, skips=True)
def switch(condition: bool, on_true: Annotated[T | None, LAZY] = None, on_false: Annotated[T | None, LAZY] = None) -> T:
    """`on_true` or `on_false`, of any one kind; the other one is not computed. Nothing if the chosen one is absent."""
    return cast(T, _chosen("on_true" if condition else "on_false", on_true if condition else on_false))


@node(id="control.select", category=CATEGORY, needs=INLINE, skips=True)
def select(index: Annotated[int, Widget(min=0)] = 0, **options: Annotated[T | None, LAZY]) -> T:
    """The option with this number, counted from 0 in the natural order of the port names; no other is computed."""
    names = natural(options)
    if not 0 <= index < len(names):
        raise NodeError(
            f"there is no option {index}: {len(names)} are connected ({', '.join(names) or 'none'}).",
            remedy=f"Choose an index in 0..{len(names) - 1}." if names else "Connect at least one option.",
            code="no_such_option",
            port="index",
        )
    return cast(T, _chosen(names[index], options[names[index]]))


def _chosen(port: str, value: Any) -> Any:
    """The value of a lazy port once it is there, until then the wish for it. None: skipped or unconnected."""
    if value is UNSET:
        return Need.of(port)
    return Skip(f"nothing arrives at {port}") if value is None else value


@node(id="control.first", category=CATEGORY, needs=INLINE, skips=True)
def first(**values: T | None) -> T:
    """The first input that has a value, in the natural order of the port names: a fallback for skipped branches."""
    present = (values[name] for name in natural(values) if values[name] is not None)
    return cast(T, next(present, Skip("none of the inputs has a value")))


@node(id="control.skip_if", category=CATEGORY, needs=INLINE, skips=True)
def skip_if(value: T, condition: bool, message: str = "") -> T:
    """Hand `value` on, or, when the condition holds, nothing: all that depends on it is skipped."""
    return cast(T, Skip(message) if condition else value)


@node(id="control.fail_if", category=CATEGORY, needs=INLINE)
def fail_if(value: T, condition: bool, message: str = "the condition of this check was met.") -> T:
    """Hand `value` on, or, when the condition holds, fail with the message: a check inside a workflow."""
    if condition:
        raise NodeError(message, remedy="Look at what feeds this check.", code="check_failed", port="condition")
    return value
