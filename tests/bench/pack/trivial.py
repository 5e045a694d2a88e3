"""Nodes that do nothing worth measuring, once for the event loop and once for the thread pool."""

from __future__ import annotations

from graph_engine import AnyValue, Needs, node


@node(id="bench.value", needs=Needs(inline=True))
def value(value: int = 0) -> int:
    return value


@node(id="bench.inline", needs=Needs(inline=True))
def inline(a: int, b: int = 0) -> int:
    return a + b


@node(id="bench.pool")
def pool(a: int, b: int = 0) -> int:
    return a + b


@node(id="bench.gather_inline", needs=Needs(inline=True))
def gather_inline(**values: AnyValue) -> int:
    return sum(values.values())


@node(id="bench.gather_pool")
def gather_pool(**values: AnyValue) -> int:
    return sum(values.values())
