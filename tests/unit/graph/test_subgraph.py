"""Subgraphs: writing them out gives the same work as the same nodes written flat, and what is wrong is told where it is."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest

from graph_engine import AnyValue, node
from graph_engine.errors import DocumentError, GraphError, Problem
from graph_engine.graph.document import dump_json, override, parse
from graph_engine.graph.expand import expand
from graph_engine.graph.graph import Graph, resolve
from graph_engine.graph.plan import make_plan
from graph_engine.graph.registry import Registry


@node(id="s.number")
def number(value: int = 0) -> int: ...


@node(id="s.add")
def add(a: int, b: int = 1) -> int: ...


@node(id="s.text")
def text(value: str = "") -> str: ...


@node(id="s.any")
def anything(value: AnyValue) -> str: ...


@node(id="s.show", output=True)
def show(value: int) -> int: ...


REGISTRY = Registry([f.node_type for f in (number, add, text, anything, show)])  # type: ignore[attr-defined]


def step(type: str, links: dict[str, str] | None = None, **values: Any) -> dict[str, Any]:
    return {"type": f"s.{type}", "values": values, "links": links or {}}


def use(name: str, links: dict[str, str] | None = None, mode: str = "active", **values: Any) -> dict[str, Any]:
    return {"type": f"subgraph:{name}", "values": values, "links": links or {}, "mode": mode}


def port(name: str, kind: str = "INT", **more: Any) -> dict[str, Any]:
    return {"name": name, "kind": kind, **more}


TWICE: dict[str, Any] = {
    "title": "Twice",
    "inputs": [port("value"), port("by", default=5)],
    "outputs": [port("sum", link="second.int")],
    "nodes": {
        "first": step("add", {"a": "@.value", "b": "@.by"}),
        "second": step("add", {"a": "first.int"}, b=2),
    },
}


def document(nodes: dict[str, Any], **subgraphs: Any) -> dict[str, Any]:
    return {"format": "anyloom", "version": 2, "subgraphs": subgraphs or {"twice": TWICE}, "nodes": nodes}


ONE = document(
    {"n": step("number", value=1), "i": use("twice", {"value": "n.int"}), "end": step("show", {"value": "i.sum"})}
)


def graph_of(raw: dict[str, Any], targets: list[str] | None = None) -> Graph:
    return resolve(parse(json.dumps(raw)), REGISTRY, targets)


def keys_of(raw: dict[str, Any], targets: list[str] | None = None) -> list[str]:
    return [step.key for step in make_plan(graph_of(raw, targets), str).steps]


def problems(raw: dict[str, Any], targets: list[str] | None = None) -> list[Problem]:
    with pytest.raises((DocumentError, GraphError)) as caught:
        graph_of(raw, targets)
    assert all(problem.message and problem.remedy and problem.place for problem in caught.value.problems)
    return caught.value.problems


def where(raw: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    return [(problem.code, problem.node, problem.port, problem.place) for problem in problems(raw)]


def test_an_instance_becomes_its_nodes_by_path() -> None:
    nodes = graph_of(ONE).nodes
    assert list(nodes) == ["n", "i/first", "i/second", "end"]
    assert nodes["i/first"].literals == {"b": 5} and nodes["i/second"].literals == {"b": 2}
    assert nodes["i/first"].links["a"].node == "n" and nodes["end"].links["value"].node == "i/second"


def test_keys_are_those_of_the_same_nodes_written_flat() -> None:
    flat = {
        "n": step("number", value=1),
        "x": step("add", {"a": "n.int"}, b=5),
        "y": step("add", {"a": "x.int"}, b=2),
        "end": step("show", {"value": "y.int"}),
    }
    assert keys_of(ONE) == keys_of({"format": "anyloom", "version": 1, "nodes": flat})


def random_pair(seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """A random graph written flat, and the same with random parts of it put into nested subgraphs."""
    dice = random.Random(seed)
    names = [f"n{index}" for index in range(dice.randint(3, 14))]
    flat: dict[str, Any] = {}
    for index, name in enumerate(names):
        links = {port: f"{dice.choice(names[:index])}.int" for port in ("a", "b") if index and dice.random() < 0.7}
        flat[name] = step("add", links, **{port: dice.randint(0, 3) for port in ("a", "b") if port not in links})
    whole = {"format": "anyloom", "version": 2, "nodes": flat, "targets": [names[-1]]}
    nested = copy.deepcopy(whole)
    subgraphs: dict[str, Any] = {}
    nodes = nested["nodes"]
    for count in range(dice.randint(1, 3)):  # a later one may take in an instance of an earlier one
        order = list(nodes)
        begin = dice.randrange(len(order))
        taken = order[begin : begin + dice.randint(1, 5)]
        if names[-1] in taken:
            continue
        name, inner = f"g{count}", {id: copy.deepcopy(nodes[id]) for id in taken}
        inputs: dict[str, str] = {}
        for entry in inner.values():
            for key, link in entry["links"].items():
                if link.partition(".")[0] not in inner:
                    entry["links"][key] = f"@.{inputs.setdefault(link, f'in{len(inputs)}')}"
            for key in [key for key in entry["values"] if "in" not in key and dice.random() < 0.3]:
                entry["links"][key] = f"@.w{len(inputs)}"
                inputs[f"={entry['values'][key]} {len(inputs)}"] = f"w{len(inputs)}"
                del entry["values"][key]
        outputs: dict[str, str] = {}
        for id, entry in nodes.items():
            for key, link in entry["links"].items() if id not in inner else ():
                if link.partition(".")[0] in inner:
                    entry["links"][key] = f"{name}.{outputs.setdefault(link, f'out{len(outputs)}')}"
        subgraphs[name] = {
            "inputs": [
                port(exposed, **({"default": int(link[1:].split()[0])} if link[0] == "=" else {}))
                for link, exposed in inputs.items()
            ],
            "outputs": [port(exposed, link=link) for link, exposed in outputs.items()],
            "nodes": inner,
        }
        instance = use(name, {exposed: link for link, exposed in inputs.items() if link[0] != "="})
        rest = {id: entry for id, entry in nodes.items() if id not in inner}
        place = min(begin, len(rest))
        nodes = dict([*list(rest.items())[:place], (name, instance), *list(rest.items())[place:]])
    return whole, {**nested, "nodes": nodes, "subgraphs": subgraphs}


@pytest.mark.parametrize("seed", range(60))
def test_any_grouping_of_any_graph_is_the_same_work(seed: int) -> None:
    flat, nested = random_pair(seed)
    assert sorted(keys_of(nested)) == sorted(keys_of(flat))
    assert keys_of(nested)[-1] == keys_of(flat)[-1]


def test_a_subgraph_in_a_subgraph() -> None:
    outer = {
        "inputs": [port("start"), port("step", default=9)],
        "outputs": [port("sum", link="again.sum")],
        "nodes": {
            "once": use("twice", {"value": "@.start", "by": "@.step"}),
            "again": use("twice", {"value": "once.sum"}, by=3),
        },
    }
    raw = document({"o": use("outer", start=4), "end": step("show", {"value": "o.sum"})}, twice=TWICE, outer=outer)
    nodes = graph_of(raw).nodes
    assert list(nodes) == ["o/once/first", "o/once/second", "o/again/first", "o/again/second", "end"]
    assert nodes["o/once/first"].literals == {"a": 4, "b": 9} and nodes["o/again/first"].literals == {"b": 3}


def test_an_input_may_go_straight_to_an_output() -> None:
    straight = {"inputs": [port("x", default=3)], "outputs": [port("y", link="@.x")], "nodes": {}}
    linked = document(
        {"n": step("number"), "i": use("s", {"x": "n.int"}), "e": step("show", {"value": "i.y"})}, s=straight
    )
    assert graph_of(linked).nodes["e"].links["value"].node == "n"
    assert graph_of(document({"i": use("s"), "e": step("show", {"value": "i.y"})}, s=straight)).nodes["e"].literals == {
        "value": 3
    }


def test_values_within_one_instance() -> None:
    written = override(parse(json.dumps(ONE)), {"i.by": 7, "i/second.b": 8})
    assert written.raw["nodes"]["i"]["values"] == {"by": 7, "second.b": 8}
    for found in (written, parse(json.dumps(written.raw))):  # what is kept of it means the same
        nodes = resolve(found, REGISTRY).nodes
        assert (nodes["i/first"].literals, nodes["i/second"].literals) == ({"b": 7}, {"b": 8})
    linked = override(parse(json.dumps(ONE)), {"i/second.a": 1})
    assert list(resolve(linked, REGISTRY).nodes) == ["i/second", "end"]
    for name in ("i/gone.b", "n/first.b", "gone/first.b", "i/.b"):
        with pytest.raises((DocumentError, GraphError), match="names no input"):
            resolve(override(parse(json.dumps(ONE)), {name: 1}), REGISTRY)


def test_targets_are_instances_or_nodes_in_them() -> None:
    assert list(graph_of(ONE, ["i"]).nodes) == ["n", "i/first", "i/second"]
    assert graph_of(ONE, ["i"]).targets == ("i/second",)
    assert list(graph_of(ONE, ["i/first"]).nodes) == ["n", "i/first"]
    assert list(graph_of({**ONE, "targets": ["i/first"]}).nodes) == ["n", "i/first"]
    saving = {"nodes": {"n": step("number"), "end": step("show", {"value": "n.int"}), "more": step("number", value=3)}}
    assert graph_of(document({"i": use("saving")}, saving=saving), ["i"]).targets == ("i/end",)
    with pytest.raises(GraphError, match="no node of this workflow"):
        graph_of(ONE, ["i/gone"])


def test_what_an_instance_begins_and_ends_with() -> None:
    flat = expand(parse(json.dumps(ONE)))
    assert (flat.entries("i"), flat.feeds("i")) == (["i/first"], ["i/second"])


def test_muted_and_bypassed_instances() -> None:
    raw = copy.deepcopy(ONE)
    raw["nodes"]["i"]["mode"] = "bypassed"
    assert list(graph_of(raw).nodes) == ["n", "end"]
    raw["nodes"]["i"]["mode"] = "muted"
    assert list(graph_of(raw).nodes) == ["n"]
    raw = copy.deepcopy(ONE)
    raw["subgraphs"]["twice"]["nodes"]["second"]["mode"] = "bypassed"
    assert list(graph_of(raw).nodes) == ["n", "i/first", "end"]


def test_a_document_keeps_everything() -> None:
    raw = {**ONE, "publishes": "twice", "strange": 1, "ui": {"zoom": 2}}
    raw["subgraphs"]["twice"] |= {"ui": {"inputs": {"x": 1}}, "later": [1]}
    found = parse(json.dumps(raw))
    assert found.raw == raw and json.loads(dump_json(found.raw)) == raw
    assert found.publishes == "twice" and found.subgraphs["twice"].title == "Twice"
    assert found.subgraphs["twice"].inputs["by"].default == 5


def wrong(change: dict[str, Any] | None = None, **nodes: Any) -> dict[str, Any]:
    raw = copy.deepcopy(ONE)
    raw["subgraphs"]["twice"] |= change or {}
    raw["nodes"] |= nodes
    return raw


TEXT = step("text", value="x")
WRONG: dict[str, tuple[dict[str, Any], tuple[str, str, str, str]]] = {
    "no such definition": (wrong(j=use("gone")), ("unknown_subgraph", "j", "", "/nodes/j/type")),
    "an extra value": (wrong(i=use("twice", {"value": "n.int"}, odd=1)), ("unknown_port", "i", "odd", "/nodes/i/values/odd")),
    "an extra link": (
        wrong(i=use("twice", {"value": "n.int", "odd": "n.int"})),
        ("unknown_port", "i", "odd", "/nodes/i/links/odd"),
    ),
    "no such output": (wrong(end=step("show", {"value": "i.odd"})), ("unknown_port", "end", "value", "/nodes/end/links/value")),
    "past the border": (
        wrong(end=step("show", {"value": "i/first.int"})),
        ("not_exposed", "end", "value", "/nodes/end/links/value"),
    ),
    "nothing comes in": (wrong(i=use("twice")), ("missing_input", "i", "value", "/nodes/i/values/value")),
    "a wrong value": (wrong(i=use("twice", {"value": "n.int"}, by="x")), ("wrong_value", "i", "by", "/nodes/i/values/by")),
    "a wrong default": (
        wrong({"inputs": [port("value"), port("by", default="x")]}),
        ("wrong_value", "i", "by", "/subgraphs/twice/inputs/1/default"),
    ),
    "a wrong kind comes in": (
        wrong(t=TEXT, i=use("twice", {"value": "t.text"})),
        ("wrong_kind", "i", "value", "/nodes/i/links/value"),
    ),
    "a wrong kind goes out": (
        wrong({"outputs": [port("sum", "STRING", link="second.int")]}),
        ("wrong_kind", "i", "sum", "/nodes/i/links/sum"),
    ),
    "a wrong kind within": (
        wrong({"nodes": {**TWICE["nodes"], "t": TEXT, "second": step("add", {"a": "t.text", "b": "first.int"})}}),
        ("wrong_kind", "i/second", "a", "/subgraphs/twice/nodes/second/links/a"),
    ),
    "a kind that only the border refuses": (
        wrong(
            {"inputs": [port("value", "STRING")], "nodes": {"second": step("any", {"value": "@.value"})},
             "outputs": [port("sum", "*", link="second.text")]},
            end=step("any", {"value": "i.sum"}),
        ),
        ("wrong_kind", "i", "value", "/nodes/i/links/value"),
    ),
    "not exposed": (
        wrong({"inputs": [port("by", default=1)]}, i=use("twice")),
        ("not_exposed", "i/first", "a", "/subgraphs/twice/nodes/first/links/a"),
    ),
    "a promoted widget that is not there": (
        wrong({"nodes": {**TWICE["nodes"], "first": step("add", {"a": "@.value", "c": "@.by"})}}),
        ("unknown_port", "i/first", "c", "/subgraphs/twice/nodes/first/links/c"),
    ),
    "an output of nothing": (
        wrong({"outputs": [port("sum", link="gone.int")]}),
        ("unknown_link", "i", "sum", "/subgraphs/twice/outputs/0/link"),
    ),
    "an output without a link": (
        wrong({"outputs": [port("sum")]}),
        ("unknown_link", "end", "value", "/nodes/end/links/value"),
    ),
    "an unknown type within": (
        wrong({"nodes": {**TWICE["nodes"], "x": step("odd")}}),
        ("unknown_node", "i/x", "", "/subgraphs/twice/nodes/x/type"),
    ),
    "a circle through borders": (
        wrong(
            {"inputs": [port("value")], "nodes": {}, "outputs": [port("sum", link="@.value")]},
            i=use("twice", {"value": "i.sum"}),
        ),
        ("cycle", "end", "value", "/nodes/end/links/value"),
    ),
    "itself": (
        wrong({"nodes": {**TWICE["nodes"], "me": use("twice")}}),
        ("recursion", "", "", "/subgraphs/twice/nodes"),
    ),
    "itself through another": (
        document({"i": use("a")}, a={"nodes": {"b": use("b")}}, b={"nodes": {"a": use("a")}}),
        ("recursion", "", "", "/subgraphs/b/nodes"),
    ),
    "an old version": ({**ONE, "version": 1}, ("old_version", "", "", "/version")),
    "no nodes": (document({}, x={}), ("bad_subgraph", "", "", "/subgraphs/x")),
    "a bad name": (document({}, **{"a b": {"nodes": {}}}), ("bad_subgraph", "", "", "/subgraphs/a b")),
    "a bad node": (document({}, x={"nodes": {"n": {}}}), ("no_type", "", "", "/subgraphs/x/nodes/n/type")),
    "a bad port": (
        document({}, x={"nodes": {}, "inputs": [{"name": "a.b"}]}),
        ("bad_port", "", "", "/subgraphs/x/inputs/0"),
    ),
    "a port twice": (
        document({}, x={"nodes": {}, "outputs": [port("a"), port("a")]}),
        ("bad_port", "", "", "/subgraphs/x/outputs/1"),
    ),
    "a port without a kind": (
        document({}, x={"nodes": {}, "inputs": [{"name": "a"}]}),
        ("bad_port", "", "", "/subgraphs/x/inputs/0"),
    ),
    "publishing what is not there": ({**ONE, "publishes": "odd"}, ("unknown_subgraph", "", "", "/publishes")),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_where_it_is(name: str) -> None:
    raw, expected = WRONG[name]
    assert where(raw) == [expected]


def test_very_many_nodes_in_a_few_lines_are_refused() -> None:
    doubling = {f"d{n}": {"nodes": {"a": use(f"d{n + 1}"), "b": use(f"d{n + 1}")}} for n in range(40)}
    raw = document({"i": use("d0")}, **doubling, d40={"nodes": {"n": step("number")}})
    with pytest.raises(DocumentError, match="written out"):
        parse(raw)
    deep = {f"d{n}": {"nodes": {"a": use(f"d{n + 1}")}} for n in range(500)}
    with pytest.raises(DocumentError, match="levels deep"):
        parse(document({"i": use("d0")}, **deep, d500={"nodes": {"n": step("number")}}))


def test_a_long_chain_of_borders_needs_no_deep_stack() -> None:
    straight = {"inputs": [port("x")], "outputs": [port("y", link="@.x")], "nodes": {}}
    nodes: dict[str, Any] = {"n": step("number")}
    for index in range(5_000):
        nodes[f"i{index}"] = use("s", {"x": f"i{index - 1}.y" if index else "n.int"})
    nodes["end"] = step("show", {"value": "i4999.y"})
    assert list(graph_of(document(nodes, s=straight)).nodes) == ["n", "end"]
