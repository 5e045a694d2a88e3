"""Loops answer with a graph; the graph is read here by a small interpreter that calls the node functions."""

from __future__ import annotations

from typing import Any

import pytest

from graph_engine import Grow, NodeError
from graph_engine.graph.outcome import NodeLink, OwnInput
from nodes import control
from nodes.control import map_items, repeat
from nodes.control.loop import BLOCK

TYPES = {type.node_type.id: type for type in vars(control).values() if hasattr(type, "node_type")}


def evaluate(outcome: Any, own: dict[str, Any]) -> Any:
    """The value of the only output of a node's outcome, by recursion."""
    if not isinstance(outcome, Grow):
        return outcome

    def read(source: Any) -> Any:
        if isinstance(source, list):
            return [read(entry) for entry in source]
        if isinstance(source, OwnInput):
            return own[source.port]
        if not isinstance(source, NodeLink):
            return source
        grown = outcome.nodes[source.node]
        function = TYPES[grown.type]
        inputs = {**grown.values, **{port: read(link) for port, link in grown.links.items()}}
        result = evaluate(function(**inputs), inputs)
        outputs = function.node_type.outputs
        return result if len(outputs) == 1 else result[function.node_type.output_index[source.port]]

    return read(*outcome.outputs.values())


def test_map_runs_the_node_once_per_entry() -> None:
    grow = map_items([1.0, 2.0, 3.0], node="control.math", port="a", output="number", constants={"b": 10.0})
    assert isinstance(grow, Grow)
    assert [grown.type for grown in grow.nodes.values()] == ["control.math"] * 3
    assert [grown.values for grown in grow.nodes.values()] == [{"a": a, "b": 10.0} for a in (1.0, 2.0, 3.0)]
    assert grow.outputs == {"value": [NodeLink(f"item{number}", "number") for number in range(3)]}
    assert evaluate(grow, {}) == [11.0, 12.0, 13.0]


def test_map_hands_on_links_without_copying_them() -> None:
    picture = object()
    grow = map_items(["a"], node="control.template", port="template", output="text", picture=picture, name="text")
    assert grow.nodes["item0"].links == {"picture": OwnInput("picture")}
    assert grow.nodes["item0"].values == {"template": "a", "name": "text"}


def test_map_of_nothing_is_an_empty_list() -> None:
    assert map_items([], node="control.math", port="a", output="number") == []


@pytest.mark.parametrize("count", [1, 2, BLOCK, BLOCK + 1, 3 * BLOCK + 5])
def test_repeat_feeds_back(count: int) -> None:
    inputs = {"node": "control.math", "port": "a", "output": "number", "count": count, "constants": {"b": 2.0}}
    grow = repeat(value=1.0, **inputs)
    assert isinstance(grow, Grow)
    assert len(grow.nodes) <= BLOCK + 1
    assert ("rest" in grow.nodes) == (count > BLOCK)
    assert evaluate(grow, {"value": 1.0}) == 1.0 + 2.0 * count


def test_repeat_hands_on_its_start_and_its_links_to_the_nested_rounds() -> None:
    start, other = object(), object()
    grow = repeat(value=start, node="x.y", port="a", output="o", count=BLOCK + 2, other=other)
    assert grow.nodes["round0"].links == {"a": OwnInput("value"), "other": OwnInput("other")}
    assert grow.nodes["round1"].links == {"a": NodeLink("round0", "o"), "other": OwnInput("other")}
    rest = grow.nodes["rest"]
    assert rest.type == "control.repeat"
    assert rest.values["count"] == 2
    assert rest.links == {"value": NodeLink(f"round{BLOCK - 1}", "o"), "other": OwnInput("other")}


def test_repeat_zero_times_is_the_value() -> None:
    assert repeat(value="x", node="x.y", port="a", output="o", count=0) == "x"


@pytest.mark.parametrize(
    ("further", "code"),
    [({"constants": [1]}, "bad_constants"), ({"constants": {"a": 1}}, "given_twice"), ({"a": 1}, "given_twice")],
)
def test_wrong_further_inputs(further: dict[str, Any], code: str) -> None:
    with pytest.raises(NodeError) as caught:
        repeat(value=1, node="x.y", port="a", output="o", **further)
    assert caught.value.problem.code == code
    assert caught.value.problem.remedy
