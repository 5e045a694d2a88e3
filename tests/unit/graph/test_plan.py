"""Content keys: equal work has equal keys whatever its nodes are called, other work has others."""

from __future__ import annotations

import copy
import random
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph_engine import AnyValue, Effect, Widget, node
from graph_engine.graph.document import parse
from graph_engine.graph.graph import resolve
from graph_engine.graph.node import NodeType
from graph_engine.graph.plan import Plan, make_plan
from graph_engine.graph.registry import Registry
from tests.property import vocabulary


@node(id="k.load")
def load(file: Annotated[str, Widget(upload="image")], note: str = "") -> int: ...


@node(id="k.load_all")
def load_all(files: Annotated[list[str], Widget(upload="*")]) -> int: ...


@node(id="k.model", reads=lambda literals: [literals["name"]])
def model(name: AnyValue, size: int = 0) -> int: ...


@node(id="k.number")
def number(value: int = 0) -> int: ...


@node(id="k.scale")
def scale(value: float, by: float = 1, more: int | None = None) -> float: ...


@node(id="k.add")
def add(a: int, b: int = 1) -> int: ...


@node(id="k.log", effect=Effect.EXTERNAL, output=True)
def log(value: AnyValue = 0) -> int: ...


@node(id="k.dice", effect=Effect.SEEDED)
def dice(seed: int) -> int: ...


@node(id="k.gather")
def gather(**values: AnyValue) -> int: ...


TYPES: list[NodeType] = [f.node_type for f in (load, load_all, model, number, scale, add, log, dice, gather)]  # type: ignore[attr-defined]


def step(type: str, links: dict[str, str] | None = None, **values: Any) -> dict[str, Any]:
    return {"type": f"k.{type}", "values": values, "links": links or {}}


def plan(
    nodes: dict[str, Any], targets: list[str] | None = None, files: dict[str, str] | None = None, types: Any = TYPES
) -> Plan:
    document = parse({"format": "anyloom", "version": 1, "nodes": nodes})
    return make_plan(resolve(document, Registry(types), targets), lambda name: (files or {}).get(name, ""))


def key_of(nodes: dict[str, Any], target: str, **options: Any) -> str:
    found = plan(nodes, [target], **options)
    return found.steps[found.targets[0]].key


WORK = {
    "l": step("load", file="cat.png", note="n"),
    "n": step("number", value=2),
    "a": step("add", {"a": "l.int", "b": "n.int"}),
    "end": step("gather", {"x": "a.int", "y": "n.int"}, z=[1, "ü"]),
}


def changed(**edits: Any) -> dict[str, Any]:
    nodes = copy.deepcopy(WORK)
    for path, value in edits.items():
        id, part, port = path.split("__")
        nodes[id][part][port] = value
    return nodes


# --- equal ------------------------------------------------------------------------------------------------------------


def renamed(nodes: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    result = {}
    for id, entry in nodes.items():
        links = {}
        for port, link in entry["links"].items():
            source, _, output = link.partition(".")
            links[port] = f"{names[source]}.{output}"
        result[names[id]] = {**entry, "links": links}
    return result


def test_names_and_orders_do_not_matter() -> None:
    names = {"l": "zz", "n": "aa", "a": "mm", "end": "0"}
    mixed = dict(reversed(renamed(WORK, names).items()))
    for entry in mixed.values():
        entry["values"] = dict(reversed(entry["values"].items()))
        entry["links"] = dict(reversed(entry["links"].items()))
    first, second = plan(WORK), plan(mixed)
    assert sorted(s.key for s in first.steps) == sorted(s.key for s in second.steps)
    assert [first.steps[i].key for i in first.targets] == [second.steps[i].key for i in second.targets]


def test_a_plan_has_a_key_too() -> None:
    names = {"l": "zz", "n": "aa", "a": "mm", "end": "0"}
    assert plan(WORK).key == plan(renamed(WORK, names)).key
    assert plan(WORK).key != plan(changed(n__values__value=3)).key
    assert plan(WORK, ["end"]).key != plan(WORK, ["end", "a"]).key


@pytest.mark.parametrize(
    ("type", "written", "other"),
    [
        ("scale", {"value": 1}, {"value": 1.0}),
        ("scale", {"value": 1}, {"value": 1, "by": 1}),
        ("scale", {"value": 1}, {"value": 1, "by": 1.0}),
        ("number", {}, {"value": 0}),
        ("number", {"value": 3.0}, {"value": 3}),
    ],
)
def test_a_literal_counts_in_the_form_the_node_gets_it(type: str, written: Any, other: Any) -> None:
    assert key_of({"s": step(type, **written)}, "s") == key_of({"s": step(type, **other)}, "s")


def test_title_mode_and_editor_data_are_no_work() -> None:
    nodes = copy.deepcopy(WORK)
    nodes["a"].update(title="t", ui={"x": 1}, mode="active")
    assert key_of(nodes, "end") == key_of(WORK, "end")


def test_one_work_done_twice_in_a_plan_has_one_key() -> None:
    found = plan({"x": step("number", value=1), "y": step("number", value=1), "z": step("number", value=2)})
    keys = {s.node: s.key for s in found.steps}
    assert keys["x"] == keys["y"] != keys["z"]


@settings(max_examples=100, deadline=None)
@given(vocabulary.workflows(), st.randoms(use_true_random=False))
def test_random_names_leave_the_keys_alone(document: dict[str, Any], source: random.Random) -> None:
    ids = list(document["nodes"])
    names = dict(zip(ids, source.sample([f"name{n}" for n in range(100)], len(ids)), strict=True))
    other = {
        **document,
        "nodes": renamed(document["nodes"], names),
        "targets": [names[id] for id in document["targets"]],
    }
    plans = [make_plan(resolve(parse(d), vocabulary.REGISTRY), lambda name: "") for d in (document, other)]
    assert sorted(s.key for s in plans[0].steps) == sorted(s.key for s in plans[1].steps)
    assert plans[0].key == plans[1].key


# --- other ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "edit",
    [
        {"n__values__value": 3},
        {"l__values__file": "dog.png"},
        {"l__values__note": ""},
        {"end__values__z": [1, "u"]},
        {"end__values__more": None},
        {"a__links__b": "l.int"},
        {"end__links__y": "a.int"},
        {"end__links__w": "n.int"},
    ],
    ids=lambda edit: next(iter(edit)),
)
def test_any_change_upstream_is_other_work(edit: dict[str, Any]) -> None:
    assert key_of(changed(**edit), "end") != key_of(WORK, "end")


def test_which_port_a_link_goes_to_matters() -> None:
    nodes = {"x": step("number", value=1), "y": step("number", value=2)}
    assert key_of({**nodes, "a": step("add", {"a": "x.int", "b": "y.int"})}, "a") != key_of(
        {**nodes, "a": step("add", {"a": "y.int", "b": "x.int"})}, "a"
    )


def test_a_change_downstream_or_beside_is_no_change() -> None:
    assert key_of(changed(end__values__z=[]), "a") == key_of(WORK, "a")
    assert key_of(changed(n__values__value=9), "l") == key_of(WORK, "l")


def test_a_changed_file_of_a_list_is_other_work() -> None:
    work = {"l": step("load_all", files=["cat.png", "dog.png"])}
    keys = [key_of(work, "l", files={"cat.png": cat, "dog.png": dog}) for cat, dog in ("12", "12", "13", "32", "21")]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4


def test_a_changed_file_is_other_work() -> None:
    before = key_of(WORK, "end", files={"cat.png": "d1"})
    assert key_of(WORK, "end", files={"cat.png": "d1"}) == before
    assert key_of(WORK, "end", files={"cat.png": "d2"}) != before
    assert key_of(WORK, "end", files={}) != before
    assert key_of(WORK, "n", files={"cat.png": "d2"}) == key_of(WORK, "n", files={"cat.png": "d1"})


def test_a_new_version_of_a_node_is_other_work() -> None:
    later = node(id="k.number", version="1.0.1")(lambda_number).node_type  # type: ignore[attr-defined]
    types = [later if type.id == "k.number" else type for type in TYPES]
    assert key_of(WORK, "end", types=types) != key_of(WORK, "end")
    assert key_of(WORK, "l", types=types) == key_of(WORK, "l")


def lambda_number(value: int = 0) -> int: ...


def test_equal_side_effects_are_told_apart_and_hold_for_one_run() -> None:
    nodes = {
        "n": step("number"),
        "x": step("log", {"value": "n.int"}),
        "y": step("log", {"value": "n.int"}),
        "after": step("add", {"a": "x.int"}),
        "again": step("add", {"a": "y.int"}),
    }
    found = {s.node: s for s in plan(nodes, ["after", "again"]).steps}
    assert found["x"].key != found["y"].key
    assert found["after"].key != found["again"].key
    assert {id: s.local for id, s in found.items()} == {"n": False, "x": True, "y": True, "after": True, "again": True}


def test_a_seed_is_a_literal_like_any_other() -> None:
    assert key_of({"d": step("dice", seed=1)}, "d") != key_of({"d": step("dice", seed=2)}, "d")
    assert not plan({"d": step("dice", seed=1)}).steps[0].local


# --- steps ------------------------------------------------------------------------------------------------------------


def test_readers_are_the_next_uses_in_order() -> None:
    nodes = {
        "n": step("number"),
        "a": step("add", {"a": "n.int", "b": "n.int"}),
        "b": step("add", {"a": "a.int"}),
        "end": step("gather", {"x": "n.int", "y": "b.int", "z": "a.int"}),
    }
    found = plan(nodes)
    assert [s.node for s in found.steps] == ["n", "a", "b", "end"]
    assert [s.position for s in found.steps] == [0, 1, 2, 3]
    assert found.readers == ((1, 3), (2, 3), (3,), ())
    assert found.targets == (3,)


def test_links_are_checked_again_where_the_source_promises_less() -> None:
    nodes = {
        "n": step("number"),
        "exact": step("add", {"a": "n.int"}),
        "widened": step("scale", {"value": "n.int"}),
        "anything": step("gather", {"x": "n.int"}),
    }
    found = {s.node: s.links[0].check for s in plan(nodes, ["exact", "widened", "anything"]).steps if s.links}
    assert found == {"exact": False, "widened": True, "anything": False}


def test_ten_thousand_steps_are_planned_without_recursion() -> None:
    nodes = {"n0": step("number")} | {f"n{n}": step("add", {"a": f"n{n - 1}.int"}) for n in range(1, 10_000)}
    found = plan(nodes)
    assert len({s.key for s in found.steps}) == 10_000
    assert found.readers[0] == (1,)


def test_a_step_whose_file_is_named_by_a_link_holds_for_one_run_only() -> None:
    """Nobody can stamp a file that is not known yet."""
    nodes = {"n": step("number"), "r": step("model", {"name": "n.int"}), "after": step("add", {"a": "r.int"})}
    assert [one.local for one in plan(nodes).steps] == [False, True, True]
    assert not plan({"r": step("model", name="a", size=1)}).steps[0].local
    assert not plan({"n": step("number"), "r": step("model", {"size": "n.int"}, name="a")}).steps[1].local
