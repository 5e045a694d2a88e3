"""Small node types that between them use every outcome, and random workflows made of them."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from hypothesis import strategies as st

from graph_engine import LAZY, UNSET, Effect, Grow, Need, Needs, Skip, node
from graph_engine.graph.registry import Registry

T = TypeVar("T")
CALLS: list[str] = []
"""Names of the node types called, in order; tests clear it."""


@node(id="p.const", needs=Needs(inline=True))
def const(value: int = 0) -> int:
    CALLS.append("const")
    return value


@node(id="p.add")
def add(a: int, b: int = 1) -> int:
    CALLS.append("add")
    return a + b


@node(id="p.maybe")
def maybe(a: int, b: int | None = None) -> int:
    """An optional input: a Skip counts as not connected."""
    return a * 2 if b is None else a - b


@node(id="p.numbers")
def numbers(count: int, start: int = 0) -> list[int]:
    return list(range(start, start + count % 4))


@node(id="p.holes")
def holes(count: int) -> list[int]:
    """A list with holes in it."""
    return [Skip("odd") if n % 2 else n for n in range(count % 5)]  # type: ignore[list-item]


@node(id="p.total")
def total(values: list[int]) -> int:
    return sum(values) + 100 * len(values)


@node(id="p.skip")
def skip(a: int, when: int = 0) -> int:
    return Skip("asked for") if a % 3 == when else a  # type: ignore[return-value]


@node(id="p.fail")
def fail(a: int, when: int = 0) -> int:
    if a % 4 == when:
        raise ValueError(f"{a} is no good")
    return a


@node(id="p.pick")
def pick(flag: int, x: Annotated[T, LAZY], y: Annotated[T, LAZY]) -> T:
    chosen = x if flag % 2 else y
    if chosen is UNSET:
        return Need.of("x" if flag % 2 else "y")  # type: ignore[return-value]
    return chosen


@node(id="p.ask")
def ask(a: int, x: Annotated[int | None, LAZY] = None) -> int:
    """A lazy input that need not have anything."""
    if x is UNSET:
        return Need.of("x")  # type: ignore[return-value]
    return a if x is None else a * 3 + x


@node(id="p.count")
def count(a: int, depth: int = 2) -> int:
    """Nested growth: each round adds one, skips or fails on the way like any other graph."""
    if depth <= 0:
        return a
    grow = Grow()
    step = grow.add("p.add", a=grow.own("a"), b=1)
    rest = grow.add("p.count", a=step["int"], depth=depth - 1)
    return grow.returning(int=rest["int"])  # type: ignore[return-value]


@node(id="p.spread")
def spread(a: int, width: int = 2) -> list[int]:
    """Growth with a list output, whose parts may be skipped or fail."""
    grow = Grow()
    parts: list[Any] = []
    for index in range(width % 4):
        moved = grow.add("p.add", a=grow.own("a"), b=index)
        parts.append(grow.add("p.skip", a=moved["int"], when=1)["int"])
    parts.append(Skip("a hole"))
    return grow.returning(int=parts)  # type: ignore[return-value]


@node(id="p.hand_on")
def hand_on(a: int) -> int:
    """Growth without nodes: my output is my input."""
    return Grow().returning(int=Grow.own("a"))  # type: ignore[return-value]


@node(id="p.constant_growth")
def constant_growth(a: int) -> int:
    """Growth over a value that no JSON holds."""
    grow = Grow()
    return grow.returning(int=grow.add("p.total", values=(a, a))["int"])  # type: ignore[return-value]


@node(id="p.write", effect=Effect.EXTERNAL, output=True)
def write(a: int) -> int:
    CALLS.append("write")
    return a


TYPES = [
    f.node_type  # type: ignore[attr-defined]
    for f in (
        const,
        add,
        maybe,
        numbers,
        holes,
        total,
        skip,
        fail,
        pick,
        ask,
        count,
        spread,
        hand_on,
        constant_growth,
        write,
    )
]
REGISTRY = Registry(TYPES)


@st.composite
def workflows(draw: st.DrawFn, max_nodes: int = 14) -> dict[str, Any]:
    """A random document over the vocabulary; every link goes to an earlier node."""
    size = draw(st.integers(1, max_nodes))
    nodes: dict[str, Any] = {}
    names: list[str] = []
    for index in range(size):
        type = draw(st.sampled_from(TYPES)) if names else REGISTRY["p.const"]
        entry: dict[str, Any] = {"type": type.id, "values": {}, "links": {}}
        for port in type.inputs:
            linked = names and (port.required or draw(st.booleans()))
            if linked and not (port.name in ("when", "depth", "width", "count", "value") and draw(st.integers(0, 3))):
                source = draw(st.sampled_from(names))
                output = REGISTRY[nodes[source]["type"]].outputs[0].name
                entry["links"][port.name] = f"{source}.{output}"
            elif port.required:
                entry["values"][port.name] = draw(st.integers(0, 5))
        size_port = {"p.count": "depth", "p.spread": "width"}.get(type.id)
        if size_port is not None and size_port not in entry["links"]:
            entry["values"].setdefault(size_port, draw(st.integers(0, 3)))
        if type.id == "p.count" and "depth" in entry["links"]:
            del entry["links"]["depth"]
            entry["values"]["depth"] = 1
        if type.id == "p.const":
            entry["values"] = {} if entry["links"] else {"value": draw(st.integers(0, 6))}
        name = f"n{index}"
        nodes[name] = entry
        names.append(name)
    targets = draw(st.lists(st.sampled_from(names), min_size=1, max_size=4, unique=True))
    return {"format": "anyloom", "version": 1, "nodes": nodes, "targets": targets}
