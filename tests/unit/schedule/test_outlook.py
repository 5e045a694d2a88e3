"""What is certain to be used next: in plan order, known by name, and nothing that may still be left out."""

from __future__ import annotations

from typing import Any

import pytest

from graph_engine import AnyValue, Encoder, Needs, Skip, node
from graph_engine.graph.document import parse
from graph_engine.graph.graph import resolve
from graph_engine.graph.plan import make_plan
from graph_engine.graph.registry import Registry
from graph_engine.schedule.messages import Done, Start, Submit
from graph_engine.schedule.outlook import outlook, with_residents_first
from graph_engine.schedule.scheduler import Scheduler

DEVICE = Needs(device=True)


@node(id="o.load")
def load(name: str) -> Encoder:
    return name  # type: ignore[return-value]


@node(id="o.use", needs=DEVICE)
def use(model: Encoder, before: AnyValue = None, needed: str = "") -> float:
    return 0.0


@node(id="o.require", needs=DEVICE)
def require(model: Encoder, value: AnyValue) -> float:
    return 0.0


@node(id="o.maybe", skips=True)
def maybe(value: AnyValue) -> float:
    return Skip()  # type: ignore[return-value]


@node(id="o.choose")
def choose(value: AnyValue) -> Encoder:
    return value  # type: ignore[no-any-return]


REGISTRY = Registry()
for function in (load, use, require, maybe, choose):
    REGISTRY.add(function.node_type)  # type: ignore[attr-defined]


class Lane:
    """A scheduler whose load steps are done, with the first job of the device running."""

    def __init__(self, nodes: dict[str, Any]) -> None:
        document = parse({"format": "anyloom", "version": 1, "nodes": nodes})
        plan = make_plan(resolve(document, REGISTRY), lambda name: "")
        self.scheduler = Scheduler({"pool": 8, "async": 8, "inline": 8}, ("cpu",))
        self.running: dict[str, int] = {}
        self.take(self.scheduler.handle(Submit("run", plan, {})))
        for name in [name for name in self.running if name.startswith("load")]:
            self.done(name)

    def take(self, instructions: list[Any]) -> None:
        for one in instructions:
            if isinstance(one, Start):
                self.running[one.job.node] = one.job.id
                self.running |= {job.node: job.id for job in one.then}

    def done(self, name: str) -> None:
        self.take(self.scheduler.handle(Done(self.running.pop(name), (None,))))

    def outlook(self, name: str) -> list[Any]:
        return outlook(self.scheduler.jobs[self.running[name]].owner)


def step(type: str, links: dict[str, str] | None = None, **values: Any) -> dict[str, Any]:
    return {"type": f"o.{type}", "values": values, "links": links or {}}


def chain(names: str, type: str = "require") -> dict[str, Any]:
    nodes = {f"load_{name}": step("load", name=name) for name in dict.fromkeys(names)}
    for index, name in enumerate(names):
        links = {"model": f"load_{name}.encoder"} | ({"value": f"s{index - 1}.float"} if index else {})
        nodes[f"s{index}"] = step(type if index else "use", links)
    return nodes


def test_uses_come_in_plan_order_with_their_distance() -> None:
    lane = Lane(chain("abcab"))
    found = lane.outlook("s0")
    assert [one.after for one in found] == [1, 2, 3, 4]
    assert [one.again["model"] for one in found] == [4, None, None, None], "b is used once more, three uses later"
    keys = [one.models["model"].key for one in found]
    assert keys[0] == keys[3] and len(set(keys)) == 3
    assert [one.ready for one in found] == [True, False, False, False]
    lane.done("s0")
    assert [one.after for one in lane.outlook("s1")] == [1, 2, 3]


def test_what_hangs_on_what_may_be_left_out_is_not_certain() -> None:
    nodes = chain("ab") | {
        "load_c": step("load", name="c"),
        "gate": step("maybe", {"value": "s0.float"}),
        "after": step("require", {"model": "load_c.encoder", "value": "gate.float"}),
        "then": step("require", {"model": "load_c.encoder", "value": "after.float"}),
    }
    lane = Lane(nodes)
    assert len(lane.outlook("s0")) == 1, "only b"
    lane.done("s0")
    lane.done("gate")
    running = next(name for name in lane.running if name in ("s1", "after"))
    assert len(lane.outlook(running)) == 2, "the gate let it pass"


def test_a_model_that_no_step_has_named_yet_is_not_known() -> None:
    nodes = chain("ab") | {
        "choose": step("choose", {"value": "s0.float"}),
        "chosen": step("require", {"model": "choose.encoder", "value": "s0.float"}),
    }
    lane = Lane(nodes)
    assert len(lane.outlook("s0")) == 1, "only b"
    lane.done("s0")
    lane.done("choose")
    running = next(name for name in lane.running if name in ("s1", "chosen"))
    assert len(lane.outlook(running)) == 1, "now the other one is known"


@pytest.mark.parametrize("here", ["", "c", "d", "cd"])
def test_of_what_is_ready_those_in_memory_come_first(here: str) -> None:
    """As the lane will take them; what is not ready keeps its place behind."""
    nodes = chain("a") | {f"load_{name}": step("load", name=name) for name in "bcde"}
    for name in "bcd":
        nodes[f"use_{name}"] = step("require", {"model": f"load_{name}.encoder", "value": "s0.float"})
    nodes["last"] = step("require", {"model": "load_e.encoder", "value": "use_b.float"})
    lane = Lane(nodes)
    steps = lane.scheduler.runs["run"].groups[0].plan.steps
    names = {step.key: step.node.removeprefix("load_") for step in steps if step.node.startswith("load_")}
    found = lane.outlook("s0")
    ordered = with_residents_first(found, lambda one: names[one.models["model"].key] in here)
    before, after = ([names[one.models["model"].key] for one in uses] for uses in (found, ordered))
    assert sorted(before) == list("bcde")
    assert after == [name for name in before if name in here] + [name for name in before if name not in here]
    assert [one.after for one in ordered] == [1, 2, 3, 4]
