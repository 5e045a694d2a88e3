"""A document against the node types that exist: what fits, and every way in which it does not."""

from __future__ import annotations

import itertools
import time
from typing import Annotated, Any, NamedTuple, TypeVar

import pytest

from graph_engine import AnyValue, Image, Mask, Widget, node
from graph_engine.errors import GraphError, Problem
from graph_engine.graph.document import parse
from graph_engine.graph.graph import Graph, Link, resolve
from graph_engine.graph.registry import Registry

T = TypeVar("T")


class Both(NamedTuple):
    image: Image
    mask: Mask


@node(id="g.make")
def make(seed: int = 0) -> Image: ...


@node(id="g.pair")
def pair(seed: int = 0) -> Both: ...


@node(id="g.blur")
def blur(image: Image, radius: Annotated[float, Widget(min=0, max=10)] = 1.0, mask: Mask | None = None) -> Image: ...


@node(id="g.number")
def number(value: int = 0) -> int: ...


@node(id="g.add")
def add(a: int, b: int = 1) -> int: ...


@node(id="g.half")
def half(value: float) -> float: ...


@node(id="g.either")
def either(x: T, y: T | None = None) -> T: ...


@node(id="g.pass")
def hand_on(value: AnyValue) -> AnyValue: ...


@node(id="g.join")
def join(separator: str = " ", **texts: str) -> str: ...


@node(id="g.width")
def width(image: Image) -> int: ...


@node(id="g.save", output=True)
def save(image: Image) -> None: ...


REGISTRY = Registry(
    f.node_type  # type: ignore[attr-defined]
    for f in (make, pair, blur, number, add, half, either, hand_on, join, width, save)
)


def step(type: str, links: dict[str, str] | None = None, mode: str = "active", **values: Any) -> dict[str, Any]:
    return {"type": f"g.{type}", "values": values, "links": links or {}, "mode": mode}


def graph(nodes: dict[str, Any], targets: list[str] | None = None, **document: Any) -> Graph:
    return resolve(parse({"format": "anyloom", "version": 1, "nodes": nodes, **document}), REGISTRY, targets)


def refusals(nodes: dict[str, Any], targets: list[str] | None = None) -> list[Problem]:
    with pytest.raises(GraphError) as caught:
        graph(nodes, targets)
    return caught.value.problems


# --- what does not fit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "code", "port", "where", "words"),
    [
        (step("blurr", {"image": "m.image"}), "unknown_node", "", "type", ["'g.blurr'", "'g.blur'"]),
        (step("blur"), "missing_input", "image", "links/image", ["'image'", "IMAGE"]),
        (step("blur", {"image": "m.picture"}), "unknown_port", "image", "links/image", ["'picture'", "image"]),
        (step("blur", {"picture": "m.image", "image": "m.image"}), "unknown_port", "picture", "links/picture",
         ["g.blur has no input 'picture'", "image, radius, mask"]),
        (step("blur", {"image": "m.image"}, size=3), "unknown_port", "size", "values/size", ["no input 'size'"]),
        (step("blur", {"image": "nowhere.image"}), "unknown_link", "image", "links/image", ["'nowhere'"]),
        (step("blur", {"image": "@.image"}), "unknown_link", "image", "links/image", ["'@'"]),
        (step("blur", {"image": "n.int"}), "wrong_kind", "image", "links/image", ["takes IMAGE", "n.int gives INT"]),
        (step("blur", {"image": "m.image", "mask": "m.image"}), "wrong_kind", "mask", "links/mask",
         ["takes MASK", "m.image gives IMAGE"]),
        (step("blur", {"image": "m.image"}, radius="x"), "wrong_value", "radius", "values/radius", ["a number", "'x'"]),
        (step("blur", {"image": "m.image"}, radius=11), "out_of_range", "radius", "values/radius", ["11.0", "0..10"]),
        (step("blur", image=[[1]]), "not_a_literal", "image", "values/image", ["IMAGE"]),
        (step("add", {"a": "h.float"}), "wrong_kind", "a", "links/a", ["takes INT", "gives FLOAT"]),
        (step("either", {"x": "m.image", "y": "n.int"}), "wrong_kind", "y", "links/y", ["takes IMAGE", "n.int gives INT"]),
        (step("join", {"first": "n.int"}), "wrong_kind", "first", "links/first", ["takes STRING", "INT"]),
        (step("join", **{"not a name": "x"}), "unknown_port", "not a name", "values/not a name", ["separator"]),
    ],
)  # fmt: skip
def test_a_node_that_does_not_fit_is_told_with_node_and_port(
    entry: dict[str, Any], code: str, port: str, where: str, words: list[str]
) -> None:
    nodes = {"m": step("make"), "n": step("number"), "h": step("half", value=1), "bad": entry}
    (problem,) = refusals(nodes, ["bad"])
    assert (problem.code, problem.node, problem.port, problem.place) == (code, "bad", port, f"/nodes/bad/{where}")
    for word in words:
        assert word in f"{problem.message} {problem.remedy}"
    assert problem.remedy


def test_every_problem_is_told() -> None:
    nodes = {
        "m": step("make", seed="x"),
        "a": step("blur", {"image": "m.image", "mask": "gone.mask"}, radius=-1),
        "b": step("save"),
    }
    found = {(problem.code, problem.node, problem.port) for problem in refusals(nodes, ["a", "b"])}
    assert found == {
        ("wrong_value", "m", "seed"),
        ("unknown_link", "a", "mask"),
        ("out_of_range", "a", "radius"),
        ("missing_input", "b", "image"),
    }


@pytest.mark.parametrize("length", [1, 2, 50])
def test_a_cycle_is_shown_whole_while_it_is_readable(length: int) -> None:
    nodes = {f"n{n}": step("add", {"a": f"n{(n - 1) % length}.int"}) for n in range(length)}
    nodes["before"] = step("number")
    nodes["n0"]["links"]["b"] = "before.int"
    nodes["after"] = step("add", {"a": "n0.int"})
    (problem,) = refusals(nodes, ["after"])
    assert problem.code == "cycle"
    assert problem.node.startswith("n")
    assert "control.repeat" in problem.remedy
    if length <= 20:
        path = problem.message.partition(": ")[2].rstrip(".").split(" -> ")
        assert path[0] == path[-1] == problem.node
        assert sorted(path[1:]) == sorted(f"n{n}" for n in range(length))
        for source, reader in itertools.pairwise(path):
            assert nodes[reader]["links"]["a"] == f"{source}.int"
    else:
        assert f"{length} nodes" in problem.message
        assert len(problem.message) < 200


def test_a_workflow_that_is_nothing_but_a_cycle_has_no_end_to_begin_at() -> None:
    nodes = {"a": step("add", {"a": "b.int"}), "b": step("add", {"a": "a.int"})}
    assert [problem.code for problem in refusals(nodes)] == ["cycle"]


def test_a_cycle_of_five_thousand_nodes_is_found_in_time() -> None:
    size = 5_000
    nodes = {f"n{n}": step("add", {"a": f"n{(n + 1) % size}.int"}) for n in range(size)}
    began = time.thread_time()
    (problem,) = refusals(nodes, ["n0"])
    assert problem.code == "cycle"
    assert time.thread_time() - began < 5


# --- targets ----------------------------------------------------------------------------------------------------------


TARGETS = {
    "m": step("make"),
    "s": step("save", {"image": "m.image"}),
    "other": step("number"),
    "leaf": step("add", {"a": "other.int"}),
}


@pytest.mark.parametrize(
    ("nodes", "named", "targets", "needed"),
    [
        (TARGETS, None, ("s",), ["m", "s"]),
        ({id: TARGETS[id] for id in ("other", "leaf")}, None, ("leaf",), ["other", "leaf"]),
        (TARGETS, ["leaf", "m", "leaf"], ("leaf", "m"), ["other", "leaf", "m"]),
        (TARGETS, ["other"], ("other",), ["other"]),
    ],
    ids=["output nodes", "unread nodes", "named", "named source"],
)
def test_what_a_workflow_runs_for(
    nodes: dict[str, Any], named: list[str] | None, targets: tuple[str, ...], needed: list[str]
) -> None:
    found = graph(nodes, named)
    assert found.targets == targets
    assert list(found.nodes) == needed


def test_the_document_names_targets_and_the_caller_overrules_them() -> None:
    document = parse({"format": "anyloom", "version": 1, "nodes": TARGETS, "targets": ["leaf"]})
    assert resolve(document, REGISTRY).targets == ("leaf",)
    assert resolve(document, REGISTRY, ["m"]).targets == ("m",)
    with pytest.raises(GraphError) as caught:
        resolve(document, REGISTRY, ["m", "nobody"])
    assert [(problem.code, "'nobody'" in problem.message) for problem in caught.value.problems] == [
        ("unknown_target", True)
    ]


@pytest.mark.parametrize("nodes", [{}, {"m": step("make", mode="muted")}], ids=["empty", "all muted"])
def test_a_workflow_without_anything_to_run_is_refused(nodes: dict[str, Any]) -> None:
    assert [problem.code for problem in refusals(nodes)] == ["no_targets"]


def test_nodes_that_nobody_needs_may_lack_inputs_but_must_exist() -> None:
    half_built = {"draft": step("blur"), "later": step("save", {"image": "draft.image"}, mode="muted")}
    assert list(graph({**TARGETS, **half_built}, ["s"]).nodes) == ["m", "s"]
    assert [p.code for p in refusals({**TARGETS, "draft": step("nothing")}, ["s"])] == ["unknown_node"]
    draft = step("blur", {"image": "gone.image", "pic": "m.image"}, size=1)
    found = refusals({**TARGETS, "draft": draft}, ["s"])
    assert sorted((p.code, p.node, p.port) for p in found) == [
        ("unknown_link", "draft", "image"),
        ("unknown_port", "draft", "pic"),
        ("unknown_port", "draft", "size"),
    ]


# --- what a graph is --------------------------------------------------------------------------------------------------


def test_sources_come_before_readers_and_a_branch_ends_before_the_next() -> None:
    nodes = {
        "s2": step("add", {"a": "b2.int", "b": "top.int"}),
        "s1": step("add", {"a": "b1.int", "b": "top.int"}),
        "b2": step("add", {"a": "top.int"}, b=2),
        "b1": step("add", {"a": "top.int"}, b=1),
        "top": step("number"),
    }
    assert list(graph(nodes, ["s1", "s2"]).nodes) == ["top", "b1", "s1", "b2", "s2"]


def test_links_values_and_defaults_end_in_one_place() -> None:
    nodes = {"p": step("pair"), "b": step("blur", {"image": "p.image", "mask": "p.mask"}, radius=2, image="ignored")}
    found = graph(nodes)
    assert found.nodes["b"].links == {"image": Link("p", 0), "mask": Link("p", 1)}
    assert found.nodes["b"].literals == {"radius": 2.0}
    assert found.nodes["p"].literals == {"seed": 0}
    assert sorted(found.digraph.edges) == [("p", "b")]


def test_further_inputs_are_linked_and_written() -> None:
    found = graph({"j": step("join", {"b": "k.text"}, a="x"), "k": step("join")}, ["j"])
    assert found.nodes["j"].literals == {"separator": " ", "a": "x"}
    assert found.nodes["j"].links == {"b": Link("k", 0)}


def test_numbers_widen_and_do_not_narrow() -> None:
    graph({"n": step("number"), "h": step("half", {"value": "n.int"})})
    assert refusals({"h": step("half", value=1), "a": step("add", {"a": "h.float"})})[0].code == "wrong_kind"


def test_a_tied_kind_travels_through_a_chain() -> None:
    chain = {
        "m": step("make"),
        "e1": step("either", {"x": "m.image"}),
        "e2": step("either", {"x": "e1.value", "y": "e1.value"}),
    }
    graph({**chain, "s": step("save", {"image": "e2.value"})})
    (problem,) = refusals({**chain, "a": step("add", {"a": "e2.value"})})
    assert (problem.code, problem.node) == ("wrong_kind", "a")
    assert "e2.value gives IMAGE" in problem.message


def test_a_tied_kind_that_nobody_says_fits_everywhere() -> None:
    graph({"e": step("either", x=3), "s": step("save", {"image": "e.value"})})
    graph({"p": step("pass", value=3), "e": step("either", {"x": "p.value"}), "a": step("add", {"a": "e.value"})})


def test_a_chain_of_ten_thousand_nodes_needs_no_deep_stack() -> None:
    nodes = {f"n{n}": step("add", {"a": f"n{n - 1}.int"}) for n in range(9_999, 0, -1)}
    nodes["n0"] = step("number")
    assert list(graph(nodes).nodes) == [f"n{n}" for n in range(10_000)]


# --- muted and bypassed -----------------------------------------------------------------------------------------------


def test_what_cannot_run_without_a_muted_node_is_gone_too() -> None:
    nodes = {
        "m": step("make", mode="muted"),
        "b": step("blur", {"image": "m.image"}),
        "s": step("save", {"image": "b.image"}),
        "n": step("number"),
    }
    assert list(graph(nodes).nodes) == ["n"]


def test_an_optional_input_from_a_muted_node_is_as_if_not_linked() -> None:
    nodes = {
        "p": step("pair", mode="muted"),
        "m": step("make"),
        "b": step("blur", {"image": "m.image", "mask": "p.mask"}),
    }
    assert graph(nodes).nodes["b"].links == {"image": Link("m", 0)}


def test_a_bypassed_node_hands_on_what_fits() -> None:
    nodes = {
        "p": step("pair"),
        "b": step("blur", {"mask": "p.mask", "image": "p.image"}, mode="bypassed"),
        "s": step("save", {"image": "b.image"}),
    }
    found = graph(nodes)
    assert list(found.nodes) == ["p", "s"]
    assert found.nodes["s"].links == {"image": Link("p", 0)}


def test_a_chain_of_bypassed_nodes_is_passed_at_once() -> None:
    nodes = {"m": step("make"), "b0": step("blur", {"image": "m.image"}, mode="bypassed")}
    for n in range(1, 5):
        nodes[f"b{n}"] = step("blur", {"image": f"b{n - 1}.image"}, mode="bypassed")
    nodes["s"] = step("save", {"image": "b4.image"})
    assert graph(nodes).nodes["s"].links == {"image": Link("m", 0)}


def test_a_bypass_before_a_muted_node_gives_nothing() -> None:
    nodes = {
        "m": step("make", mode="muted"),
        "b": step("blur", {"image": "m.image"}, mode="bypassed"),
        "s": step("save", {"image": "b.image"}),
        "n": step("number"),
    }
    assert list(graph(nodes).nodes) == ["n"]


def test_a_bypassed_node_without_anything_that_fits_gives_nothing() -> None:
    nodes = {
        "m": step("make"),
        "w": step("width", {"image": "m.image"}, mode="bypassed"),
        "a": step("add", {"a": "w.int"}),
        "n": step("number"),
    }
    assert graph(nodes).targets == ("m", "n")
    source = {"m": step("make", mode="bypassed"), "s": step("save", {"image": "m.image"}), "n": step("number")}
    assert list(graph(source).nodes) == ["n"]


def test_bypassed_nodes_in_a_circle_give_nothing() -> None:
    nodes = {
        "a": step("blur", {"image": "b.image"}, mode="bypassed"),
        "b": step("blur", {"image": "a.image"}, mode="bypassed"),
        "s1": step("save", {"image": "a.image"}),
        "s2": step("save", {"image": "b.image"}),
        "n": step("number"),
    }
    assert list(graph(nodes).nodes) == ["n"]


def test_a_target_that_is_muted_is_left_out_and_one_that_is_not_there_refused() -> None:
    nodes = {"m": step("make", mode="muted"), "n": step("number")}
    assert graph(nodes, ["m", "n"]).targets == ("n",)
    assert refusals(nodes, ["n", "x"])[0].code == "unknown_target"


@pytest.mark.parametrize("mode", ["muted", "bypassed"])
def test_ten_thousand_inactive_nodes_cost_no_more_than_their_number(mode: str) -> None:
    """Readers stand before their sources here, which a loop until nothing changes would answer with n * n steps."""
    size = 10_000
    nodes = {f"n{n}": step("either", {"x": f"n{n - 1}.value"}) for n in range(size - 1, 0, -1)}
    if mode == "bypassed":
        for n in range(1, size):
            nodes[f"n{n}"]["mode"] = "bypassed"
            nodes[f"r{n}"] = step("either", {"x": f"n{n}.value"})
    nodes["n0"] = step("number", mode=mode)
    nodes["left"] = step("number")
    began = time.thread_time()
    assert list(graph(nodes).nodes) == ["left"]
    assert time.thread_time() - began < 5
