"""In a running engine: the next model of the plan is brought while the present one computes, and nobody is in its way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from graph_engine import Encoder, Needs, NodeContext, Skip, node
from graph_engine.engine import Engine
from graph_engine.graph.registry import Registry
from graph_engine.models.catalog import Catalog, Family
from graph_engine.models.spec import ModelSpec, WeightFile
from graph_engine.record import RunRecord
from graph_engine.settings import Settings

pytestmark = pytest.mark.asyncio

TURN_S = 0.15
BYTES = 4 * (64 * 64 + 64)
ORDER: list[str] = []


@node(id="h.load")
def load(context: NodeContext, name: str) -> Encoder:
    return ModelSpec("slow", {}, (WeightFile.of(context.models_dir / f"{name}.safetensors"),), extras={"name": name})


@node(id="h.use", needs=Needs(device=True))
def use(context: NodeContext, model: Encoder, before: float = 0.0, seconds: float = TURN_S, salt: int = 0) -> float:
    ORDER.append(model.extras["name"])
    module = context.model(model)
    context.wait(seconds)
    context.check()
    return float(module(torch.ones(1, 64)).sum()) + before


@node(id="h.derived", needs=Needs(device=True, models=lambda values: [part_of(values["model"])]))
def derived(context: NodeContext, model: Encoder, before: float = 0.0) -> float:
    return float(context.model(part_of(model))(torch.ones(1, 64)).sum()) + before


def part_of(spec: ModelSpec) -> ModelSpec:
    return ModelSpec("slow", {"part": 1}, spec.files)


@node(id="h.perhaps", needs=Needs(inline=True), skips=True)
def perhaps(value: float, wanted: bool) -> float:
    return value if wanted else Skip("not wanted")  # type: ignore[return-value]


@node(id="h.gated", needs=Needs(device=True))
def gated(context: NodeContext, model: Encoder, value: float) -> float:
    return use(context, model, value)


REGISTRY = Registry()
for function in (load, use, derived, perhaps, gated):
    REGISTRY.add(function.node_type)  # type: ignore[attr-defined]


def slow(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """As if it took so long to read them."""
    time.sleep(TURN_S)
    return dict(tensors)


FAMILY = Family("slow", lambda config: torch.nn.Linear(64, 64), rename=slow)


async def opened(folder: Path, places: float) -> Engine:
    budget = int(places * (BYTES + 400))
    settings = Settings(data_dir=folder, devices=("cpu",), device_bytes=(("cpu", budget),), grace_s=2.0)
    engine = await Engine.open(settings, registry=REGISTRY, catalog=Catalog([FAMILY]))
    for index, name in enumerate("abcde"):
        torch.manual_seed(index)
        save_file(torch.nn.Linear(64, 64).state_dict(), settings.models_path / f"{name}.safetensors")
    ORDER.clear()
    return engine


def step(type: str, links: dict[str, str] | None = None, **values: Any) -> dict[str, Any]:
    return {"type": f"h.{type}", "values": values, "links": links or {}}


def in_turn(names: str, **values: Any) -> dict[str, Any]:
    nodes = {f"load_{name}": step("load", name=name) for name in dict.fromkeys(names)}
    for index, name in enumerate(names):
        links = {"model": f"load_{name}.encoder"} | ({"before": f"use{index - 1}.float"} if index else {})
        nodes[f"use{index}"] = step("use", links, **values)
    return nodes


async def run(engine: Engine, nodes: dict[str, Any]) -> RunRecord:
    record = await engine.submit({"format": "anyloom", "version": 1, "nodes": nodes})
    return await engine.wait(record.id, 60)


def held(engine: Engine) -> set[str]:
    return {model["key"] for device in engine.models.stats() for model in device["models"]}


async def test_loading_and_computing_take_the_longer_of_both_not_their_sum(tmp_path: Path) -> None:
    engine = await opened(tmp_path, 2)
    began = time.monotonic()
    record = await run(engine, in_turn("abcde"))
    seconds = time.monotonic() - began
    await engine.close()
    assert record.status == "succeeded", record.errors
    (stats,) = engine.models.stats()
    assert (engine.models.loads, stats["brought_ahead"], stats["used_ahead"]) == (5, 4, 4)
    assert seconds < 8 * TURN_S, "six turns, where ten would be one thing after the other"


async def test_the_model_that_a_node_makes_of_another_is_the_one_that_comes(tmp_path: Path) -> None:
    engine = await opened(tmp_path, 2)
    nodes = in_turn("a") | {
        "load_b": step("load", name="b"),
        "part": step("derived", {"model": "load_b.encoder", "before": "use0.float"}),
    }
    record = await run(engine, nodes)
    assert record.status == "succeeded", record.errors
    (stats,) = engine.models.stats()
    assert (engine.models.loads, stats["used_ahead"]) == (2, 1)
    await engine.close()


@pytest.mark.parametrize("wanted", [True, False])
async def test_what_may_be_left_out_is_brought_once_it_is_certain(tmp_path: Path, wanted: bool) -> None:
    engine = await opened(tmp_path, 3)
    nodes = in_turn("ab") | {
        "gate": step("perhaps", {"value": "use0.float"}, wanted=wanted),
        "load_c": step("load", name="c"),
        "after": step("gated", {"model": "load_c.encoder", "value": "gate.float"}),
    }
    nodes["use1"]["links"]["before"] = "after.float" if wanted else "use0.float"
    record = await run(engine, nodes)
    assert record.status == "succeeded", record.errors
    assert engine.models.loads == (3 if wanted else 2), "what is not wanted is never loaded"
    await engine.close()


async def test_a_cancelled_run_brings_nothing_more(tmp_path: Path) -> None:
    engine = await opened(tmp_path, 5)
    record = await engine.submit({"format": "anyloom", "version": 1, "nodes": in_turn("abcde", seconds=30.0)})
    while engine.models.loads < 1:
        await asyncio.sleep(0.01)
    await asyncio.sleep(TURN_S / 3)  # b is on its way
    await engine.cancel(record.id)
    assert (await engine.wait(record.id, 20)).status == "cancelled"
    await asyncio.sleep(2 * TURN_S)
    assert engine.models.loads == 1 and len(held(engine)) == 1
    assert engine.models.loading == {}
    assert (await run(engine, in_turn("ab", seconds=0.0))).status == "succeeded"
    await engine.close()


async def test_runs_that_each_want_everything_take_turns_with_what_comes_ahead(tmp_path: Path) -> None:
    engine = await opened(tmp_path, 1.5)
    submitted = [
        await engine.submit({"format": "anyloom", "version": 1, "nodes": in_turn(names, seconds=0.0, salt=salt)})
        for salt, names in enumerate(["abc", "cab", "bca"])
    ]
    ended = [await engine.wait(record.id, 60) for record in submitted]
    assert [record.status for record in ended] == ["succeeded"] * 3
    (stats,) = engine.models.stats()
    assert stats["used_bytes"] <= stats["budget_bytes"] and stats["reserved_bytes"] == 0
    await engine.close()


async def test_of_branches_that_are_ready_those_go_first_whose_model_is_there(tmp_path: Path) -> None:
    """Room for one model; three branches use a, b, a in plan order after a step with a: two loads, not three."""
    engine = await opened(tmp_path, 1)
    nodes = {f"load_{name}": step("load", name=name) for name in "ab"} | {
        "first": step("use", {"model": "load_a.encoder"}, seconds=0.0),
    }
    for index, name in enumerate("bab"):
        nodes[f"branch{index}"] = step("use", {"model": f"load_{name}.encoder", "before": "first.float"}, seconds=0.0)
    record = await run(engine, nodes)
    assert record.status == "succeeded", record.errors
    assert (ORDER, engine.models.loads) == (["a", "a", "b"], 2), "equal work is done once"
    await engine.close()
