"""What changed between two plans: said exactly when the work is other work."""

from __future__ import annotations

import copy
from typing import Annotated, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graph_engine import Effect, Widget, node
from graph_engine.errors import GraphError
from graph_engine.execute.events import Event
from graph_engine.explanation import Past, explain, outcomes_of
from graph_engine.graph.difference import Change, changes
from graph_engine.graph.document import parse
from graph_engine.graph.graph import resolve
from graph_engine.graph.plan import Plan, make_plan
from graph_engine.graph.registry import Registry
from tests.property import vocabulary


@node(id="d.number")
def number(value: int = 1) -> int:
    return value


@node(id="d.add")
def add(a: int = 0, b: int = 0) -> int:
    return a + b


@node(id="d.read")
def read(file: Annotated[str, Widget(upload="text")]) -> int:
    return 1


@node(id="d.clock", effect=Effect.EXTERNAL)
def clock() -> int:
    return 1


@node(id="d.number", version="2.0.0")
def newer(value: int = 1) -> int:
    return value


def types(*functions: Any) -> Registry:
    return Registry(f.node_type for f in functions)


OLD, NEW = types(number, add, read, clock), types(newer, add, read, clock)


def planned(registry: Registry = OLD, stamp: str = "s", targets: list[str] | None = None, **nodes: Any) -> Plan:
    """name=(type, {port: literal, or "node.int"})"""
    entries = {}
    for name, (type, inputs) in nodes.items():
        links = {port: value for port, value in inputs.items() if isinstance(value, str) and value.endswith(".int")}
        entries[name] = {
            "type": f"d.{type}", "links": links,
            "values": {port: value for port, value in inputs.items() if port not in links},
        }  # fmt: skip
    document = parse({"format": "anyloom", "version": 1, "nodes": entries})
    return make_plan(resolve(document, registry, targets), lambda name: stamp)


BASE: dict[str, Any] = {
    "n": ("number", {"value": 1}),
    "m": ("number", {"value": 9}),
    "s": ("add", {"a": "n.int", "b": 5}),
}


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ({}, []),
        ({"n": ("number", {"value": 2})}, [("upstream", "a", "n", None, None)]),
        ({"s": ("add", {"a": "n.int", "b": 6})}, [("literal", "b", "", 5, 6)]),
        ({"s": ("add", {"a": "m.int", "b": 5})}, [("link", "a", "m", "n.int", "m.int")]),
        ({"s": ("add", {"a": 3, "b": 5})}, [("link", "a", "", "n.int", 3)]),
        ({"s": ("add", {"a": "n.int", "b": "m.int"})}, [("link", "b", "m", 5, "m.int")]),
        ({"s": ("number", {"value": 1})}, [("type", "", "", "d.add", "d.number")]),
    ],
)
def test_one_change_is_named(nodes: dict[str, Any], expected: list[tuple[Any, ...]]) -> None:
    found = changes(planned(**{**BASE, **nodes}), planned(**BASE))["s"]
    assert [tuple(change) for change in found] == expected


def test_new_nodes_versions_and_renamed_sources() -> None:
    found = changes(planned(NEW, **BASE, extra=("number", {"value": 4})), planned(**BASE))
    assert found["extra"] == [Change("new")]
    assert found["n"] == [Change("version", old="1.0.0", new="2.0.0")]
    assert found["s"] == [Change("upstream", "a", "n")]
    renamed = {"other_name": BASE["n"], "m": BASE["m"], "s": ("add", {"a": "other_name.int", "b": 5})}
    assert changes(planned(**renamed), planned(**BASE))["s"] == [], "the same work under another name"


def test_a_file_of_other_content() -> None:
    nodes = {"r": ("read", {"file": "a.txt"})}
    found = changes(planned(stamp="x", **nodes), planned(stamp="y", **nodes), {"a.txt": "x"}, {"a.txt": "y"})
    assert [(change.what, change.new) for change in found["r"]] == [("file", "a.txt")]
    assert changes(planned(**nodes), planned(**nodes), {"a.txt": "x"}, {"a.txt": "x"})["r"] == []


def test_long_literals_are_shown_by_their_beginning() -> None:
    entry = Change("literal", "text", old="x" * 5000, new=3).to_dict()
    assert len(entry["old"]) < 250
    assert entry["old"].endswith("(5,000 characters)")
    assert entry["new"] == 3


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(vocabulary.workflows(), st.randoms(use_true_random=False))
def test_something_changed_exactly_if_the_work_is_other_work(document: dict[str, Any], source: Any) -> None:
    """On random workflows with random edits: no change is said where keys are equal, and some where they are not."""
    edited = copy.deepcopy(document)
    for entry in edited["nodes"].values():
        for name, value in entry.get("values", {}).items():
            if isinstance(value, int) and not isinstance(value, bool) and source.random() < 0.2:
                entry["values"][name] = value + source.choice([0, 1])
        links = list(entry.get("links", {}).items())
        if len(links) > 1 and source.random() < 0.3:
            (one, first), (other, second) = links[:2]
            entry["links"] |= {one: second, other: first}
    registry = vocabulary.REGISTRY
    try:
        now = make_plan(resolve(parse(edited), registry), lambda name: "")
    except GraphError:
        return  # the edit made a cycle, or links that do not fit
    before = make_plan(resolve(parse(document), registry), lambda name: "")
    keys = {step.node: step.key for step in before.steps}
    found = changes(now, before)
    for step in now.steps:
        if step.type.effect is not Effect.EXTERNAL:
            assert bool(found[step.node]) == (step.key != keys.get(step.node)), (step, found[step.node])


# --- with what happened -----------------------------------------------------------------------------------------------------


def past(plan: Plan, **outcomes: str) -> Past:
    return Past(plan, outcomes, {})


def whys(now: Past, before: Past | None) -> dict[str, tuple[str, list[str]]]:
    return {entry["node"]: (entry["outcome"], [why["what"] for why in entry["why"]]) for entry in explain(now, before)}


def test_hits_misses_and_what_nobody_asked_for() -> None:
    before = past(planned(**BASE), n="done", s="done", m="done")
    now = past(planned(**{**BASE, "s": ("add", {"a": "n.int", "b": 6})}), n="cached", s="done", m="cached")
    assert whys(now, before) == {"n": ("cached", []), "s": ("done", ["literal"]), "m": ("cached", [])}
    assert whys(past(planned(**BASE), s="cached", m="cached"), before)["n"] == ("not_needed", [])
    assert whys(past(planned(**BASE), m="cached"), before)["s"] == ("waiting", [])
    assert whys(Past(planned(**BASE), None, None), before)["s"] == ("unknown", ["gone"])


def test_equal_work_that_was_done_again() -> None:
    now = past(planned(**BASE), n="done", s="done", m="done")
    assert whys(now, None)["s"] == ("done", ["first"])
    assert whys(now, past(planned(**BASE), n="done", s="done", m="cached")) == {
        "n": ("done", ["gone"]), "s": ("done", ["gone"]), "m": ("done", ["gone"]),
    }  # fmt: skip
    cancelled = past(planned(**BASE), n="done", s="cancelled")
    assert whys(now, cancelled) == {
        "n": ("done", ["gone"]), "s": ("done", ["unfinished"]), "m": ("done", ["unfinished"]),
    }  # fmt: skip
    assert whys(now, past(planned(**BASE), s="cached", m="cached"))["n"] == ("done", ["gone"])


def test_effects_are_done_every_time_and_so_is_what_follows() -> None:
    nodes = {"c": ("clock", {}), "s": ("add", {"a": "c.int"})}
    plan = planned(**nodes)
    found = explain(past(plan, c="done", s="done"), past(plan, c="done", s="done"))
    assert [(entry["node"], entry["why"]) for entry in found] == [
        ("c", [{"what": "effect"}]),
        ("s", [{"what": "upstream_effect", "node": "c"}]),
    ]


def test_outcomes_are_read_from_events() -> None:
    events = [
        Event(1, "queued", "", {}),
        Event(2, "cached", "", {"nodes": ["a", "b"]}),
        Event(3, "running", "c", {}),
        Event(4, "done", "c", {"ms": 1}),
        Event(5, "failed", "d", {"error": {}}),
    ]
    assert outcomes_of(events) == {"a": "cached", "b": "cached", "c": "done", "d": "failed"}
