"""Lists: nodes that read a list are run once per entry, so a list output is a loop without a loop."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from graph_engine import AnyValue, Needs, NodeError, Widget, node
from nodes.control.port_order import natural

T = TypeVar("T")
CATEGORY = "control/list"
INLINE = Needs(inline=True)
MAX_ENTRIES = 100_000
MAX_GATHERED = 1_000_000
"""A chain of nodes that each gather the one before twice doubles the list with each."""


@node(id="control.gather", category=CATEGORY, needs=INLINE)
def gather(**values: list[T]) -> list[T]:
    """All inputs as one list, in the natural order of the port names. Lists that arrive are laid end to end."""
    gathered: list[T] = []
    for name in natural(values):
        value: Any = values[name]
        if value is not None:
            gathered.extend(value if isinstance(value, list) else [value])
            if len(gathered) > MAX_GATHERED:
                raise NodeError(
                    f"the list would have more than {MAX_GATHERED:,} entries.",
                    remedy="Gather fewer values.",
                    code="too_large",
                    port=name,
                )
    return gathered


@node(id="control.range", title="Range", category=CATEGORY, needs=INLINE)
def range_list(
    start: int = 0,
    count: Annotated[int, Widget(min=0, max=MAX_ENTRIES)] = 1,
    step: int = 1,
) -> list[int]:
    """`count` whole numbers from `start` on, `step` apart."""
    return [start + number * step for number in range(count)]


@node(id="control.list_length", category=CATEGORY, needs=INLINE)
def list_length(items: list[AnyValue]) -> int:
    """How many entries the list has."""
    return len(items)


@node(id="control.item", title="List item", category=CATEGORY, needs=INLINE)
def item(items: list[T], index: int = 0) -> T:
    """One entry of a list; 0 is the first, -1 the last."""
    if not -len(items) <= index < len(items):
        raise NodeError(
            f"there is no entry {index} in a list of {len(items)}.",
            remedy=f"Choose an index in {-len(items)}..{len(items) - 1}." if items else "The list is empty; skip this.",
            code="no_such_item",
            port="index",
        )
    return items[index]
