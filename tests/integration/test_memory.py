"""Memory in a running engine: which models stay, who waits for whom, and what happens when there is not enough."""

from __future__ import annotations

import asyncio
import mmap
import threading
import time
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
import torch
from safetensors.torch import save_file

from graph_engine import Encoder, Needs, NodeContext, node
from graph_engine.engine import Engine
from graph_engine.errors import NotFoundError
from graph_engine.graph.registry import Registry
from graph_engine.models.catalog import Catalog, Family
from graph_engine.models.spec import ModelSpec, WeightFile
from graph_engine.record import RunRecord
from graph_engine.settings import Settings

pytestmark = pytest.mark.asyncio

USED: list[str] = []
TOGETHER: dict[str, int] = {"now": 0, "most": 0}
FAILURES: dict[str, int] = {}
_LOCK = threading.Lock()


def _spec(context: NodeContext, name: str) -> ModelSpec:
    return ModelSpec("chain", {}, (WeightFile.of(context.models_dir / f"{name}.safetensors"),), extras={"name": name})


@node(id="m.load")
def load(context: NodeContext, name: str) -> Encoder:
    return _spec(context, name)


class Two(NamedTuple):
    left: Encoder
    right: Encoder


@node(id="m.load_two")
def load_two(context: NodeContext, first: str, second: str) -> Two:
    return Two(_spec(context, first), _spec(context, second))


@node(id="m.use", needs=Needs(device=True))
def use(context: NodeContext, model: Encoder, before: float = 0.0, salt: int = 0) -> float:
    USED.append(model.extras["name"])
    return float(context.model(model)(torch.ones(1, 64)).sum()) + before


@node(id="m.use_aside")
def use_aside(context: NodeContext, model: Encoder) -> float:
    """In a thread of the pool, beside the device's."""
    with torch.no_grad():
        return float(context.model(model)(torch.ones(1, 64)).sum())


@node(id="m.use_two", needs=Needs(device=True))
def use_two(context: NodeContext, first: Encoder, second: Encoder, before: float = 0.0) -> float:
    for model in (first, second):
        USED.append(model.extras["name"])
        context.model(model)
    return before


@node(id="m.work", needs=Needs(working_bytes=lambda literals: literals["bytes"]))
def work(context: NodeContext, bytes: int, salt: int, seconds: float = 0.05) -> int:
    with _LOCK:
        TOGETHER["now"] += bytes
        TOGETHER["most"] = max(TOGETHER.values())
    context.wait(seconds)
    with _LOCK:
        TOGETHER["now"] -= bytes
    return salt


@node(id="m.burst")
def burst(context: NodeContext, failures: int, name: str) -> int:
    with _LOCK:
        FAILURES[name] = FAILURES.get(name, 0) + 1
        if FAILURES[name] <= failures:
            raise MemoryError(f"could not get {name}")
    return FAILURES[name]


@node(id="m.greedy")
def greedy(context: NodeContext, name: str, reserved: int) -> int:
    """Fails unless so many bytes are kept for it."""
    with _LOCK:
        FAILURES[name] = FAILURES.get(name, 0) + 1
    if context._reserved < reserved:  # type: ignore[attr-defined]
        raise MemoryError("could not get the buffer")
    return FAILURES[name]


@node(id="m.large")
def large(kind: str) -> int:
    """More than any machine has, asked for in each way that there is."""
    if kind == "python":
        return len(bytearray(1 << 60))
    if kind == "torch":
        return torch.empty(1 << 60, dtype=torch.uint8).numel()
    return len(mmap.mmap(-1, 1 << 60))


REGISTRY = Registry()
for function in (load, load_two, use, use_aside, use_two, work, burst, greedy, large):
    REGISTRY.add(function.node_type)  # type: ignore[attr-defined]


def chain() -> torch.nn.Module:
    return torch.nn.Sequential(*(torch.nn.Linear(64, 64) for _ in range(8)))


BYTES = 8 * 4 * (64 * 64 + 64)
HEADER = 4_000


async def opened(folder: Path, budget: int) -> Engine:
    settings = Settings(data_dir=folder, devices=("cpu",), device_bytes=(("cpu", budget),), grace_s=0.3)
    engine = await Engine.open(settings, registry=REGISTRY, catalog=Catalog([Family("chain", lambda config: chain())]))
    for index, name in enumerate("abcd"):
        torch.manual_seed(index)
        save_file(chain().state_dict(), settings.models_path / f"{name}.safetensors")
    USED.clear()
    FAILURES.clear()
    TOGETHER.update(now=0, most=0)
    return engine


@pytest_asyncio.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    """Room for two models."""
    engine = await opened(tmp_path, 2 * BYTES + HEADER)
    yield engine
    await engine.close()


async def run(engine: Engine, nodes: dict[str, Any]) -> RunRecord:
    record = await engine.submit({"format": "anyloom", "version": 1, "nodes": nodes})
    return await engine.wait(record.id, 60)


def step(type: str, links: dict[str, str] | None = None, **values: Any) -> dict[str, Any]:
    return {"type": f"m.{type}", "values": values, "links": links or {}}


def in_turn(names: str, salt: int) -> dict[str, Any]:
    """Uses of models, one after the other."""
    nodes = {f"load_{name}": step("load", name=name) for name in dict.fromkeys(names)}
    for index, name in enumerate(names):
        links = {"model": f"load_{name}.encoder"} | ({"before": f"use{index - 1}.float"} if index else {})
        nodes[f"use{index}"] = step("use", links, salt=salt)
    return nodes


def fewest_loads(names: str, places: int) -> int:
    """Over all ways to choose what leaves."""

    @cache
    def cost(index: int, held: frozenset[str]) -> int:
        if index == len(names):
            return 0
        if names[index] in held:
            return cost(index + 1, held)
        kept = [held] if len(held) < places else [held - {leaving} for leaving in held]
        return 1 + min(cost(index + 1, rest | {names[index]}) for rest in kept)

    return cost(0, frozenset())


async def test_no_choice_of_what_leaves_needs_fewer_loads(engine: Engine) -> None:
    """Belady's rule on real plans, against every other choice."""
    random = Random(11)
    sequences = ["abcba", "abcabc", "abacabac"] + ["".join(random.choices("abcd", k=9)) for _ in range(9)]
    for salt, names in enumerate(sequences):
        engine.models.clear()
        before = engine.models.loads
        USED.clear()
        record = await run(engine, in_turn(names, salt))
        assert record.status == "succeeded", record.errors
        assert "".join(USED) == names
        assert engine.models.loads - before == fewest_loads(names, 2), names


async def test_of_a_step_with_two_models_each_has_its_own_next_use(engine: Engine) -> None:
    """One node loads both; of them only `b` is used again, so `a` makes room for `c`."""
    nodes = {
        "both": step("load_two", first="a", second="b"),
        "c": step("load", name="c"),
        "first": step("use_two", {"first": "both.left", "second": "both.right"}),
        "use_c": step("use", {"model": "c.encoder", "before": "first.float"}),
        "use_b": step("use", {"model": "both.right", "before": "use_c.float"}),
    }
    record = await run(engine, nodes)
    assert (record.status, USED) == ("succeeded", ["a", "b", "c", "b"])
    assert engine.models.loads == 3


async def test_a_model_larger_than_the_budget_gives_the_same(tmp_path: Path) -> None:
    results = []
    for folder, budget in (("roomy", 10**9), ("narrow", BYTES // 2)):
        engine = await opened(tmp_path / folder, budget)
        record = await run(engine, in_turn("abab", 0))
        assert record.status == "succeeded", record.errors
        results.append(record.result)
        (device,) = engine.models.stats()
        assert device["used_bytes"] <= budget
        assert [("streamed_bytes" in model) for model in device["models"]] == [folder == "narrow"] * len(
            device["models"]
        )
        await engine.close()
    assert results[0] == results[1]


async def test_a_budget_smaller_than_two_blocks_is_refused_with_the_numbers(tmp_path: Path) -> None:
    engine = await opened(tmp_path, 20_000)
    record = await run(engine, in_turn("a", 0))
    (error,) = record.errors
    assert error["code"] == "out_of_memory"
    assert "133,120 bytes" in error["message"] and "33,280 have to be there at once" in error["message"]
    assert "20,000" in error["message"]
    await engine.close()


async def test_jobs_wait_for_the_memory_that_others_use(engine: Engine) -> None:
    budget = 2 * BYTES + HEADER
    nodes = {f"work{n}": step("work", bytes=budget * 2 // 5, salt=n) for n in range(6)}
    record = await run(engine, nodes)
    assert record.status == "succeeded"
    assert TOGETHER["most"] == 2 * (budget * 2 // 5), "two at a time, of six that could run together"
    (device,) = engine.models.stats()
    assert device["reserved_bytes"] == 0


@pytest.mark.parametrize("budget", [BYTES + HEADER, BYTES // 2], ids=["one fits", "none fits"])
async def test_runs_that_each_want_everything_take_turns(tmp_path: Path, budget: int) -> None:
    """Device jobs and jobs of the pool, each with a model that fills the budget: nobody fails, nobody waits for ever."""
    engine = await opened(tmp_path, budget)
    records = [
        await engine.submit({"format": "anyloom", "version": 1, "nodes": in_turn(names, salt) | also})
        for salt, (names, also) in enumerate(
            [
                ("ab", {}),
                ("cd", {"work": step("work", bytes=budget, salt=1)}),
                ("ba", {"work": step("work", bytes=budget // 2, salt=2)}),
                ("dc", {"aside": step("use_aside", {"model": "load_d.encoder"})}),
            ]
        )
    ]
    ended = [await engine.wait(record.id, 60) for record in records]
    assert [(record.status, record.errors) for record in ended] == [("succeeded", [])] * 4
    (device,) = engine.models.stats()
    assert device["used_bytes"] <= budget and device["reserved_bytes"] == 0
    await engine.close()


async def test_models_that_nobody_uses_make_room_for_activations(engine: Engine) -> None:
    await run(engine, in_turn("ab", 0))
    assert len(engine.models.stats()[0]["models"]) == 2
    record = await run(engine, {"work": step("work", bytes=BYTES * 3 // 2, salt=9)})
    assert record.status == "succeeded"
    assert len(engine.models.stats()[0]["models"]) == 0


async def test_a_job_that_needs_more_than_the_device_has_fails_with_the_numbers(engine: Engine) -> None:
    nodes = {"large": step("work", bytes=10**7, salt=0), "small": step("work", bytes=1_000, salt=1)}
    record = await run(engine, nodes)
    assert record.status == "partial"
    (error,) = record.errors
    assert (error["node"], error["code"]) == ("large", "out_of_memory")
    assert "10,000,000 bytes beside its models" in error["message"]
    assert f"{2 * BYTES + HEADER:,}" in error["message"]


async def test_a_job_that_waits_for_memory_can_be_cancelled(engine: Engine) -> None:
    budget = 2 * BYTES + HEADER
    first = await engine.submit(
        {"format": "anyloom", "version": 1, "nodes": {"w": step("work", bytes=budget, salt=1, seconds=30.0)}}
    )
    second = await engine.submit(
        {"format": "anyloom", "version": 1, "nodes": {"w": step("work", bytes=budget, salt=2, seconds=30.0)}}
    )
    until = time.monotonic() + 10
    while not TOGETHER["now"] and time.monotonic() < until:
        await asyncio.sleep(0.01)
    await engine.cancel(second.id)
    assert (await engine.wait(second.id, 10)).status == "cancelled"
    await engine.cancel(first.id)
    assert (await engine.wait(first.id, 10)).status == "cancelled"
    assert (await run(engine, {"w": step("work", bytes=budget, salt=3)})).status == "succeeded", (
        "nothing is left behind"
    )


async def test_what_ran_out_of_memory_is_tried_once_more_with_everything_idle_gone(engine: Engine) -> None:
    await run(engine, in_turn("ab", 0))
    record = await run(engine, {"burst": step("burst", failures=1, name="buffer")})
    assert (record.status, FAILURES["buffer"]) == ("succeeded", 2)
    assert engine.models.stats()[0]["models"] == []


async def test_what_runs_out_of_memory_twice_fails_with_the_numbers(engine: Engine) -> None:
    record = await run(engine, {"burst": step("burst", failures=9, name="tensor")})
    assert (record.status, FAILURES["tensor"]) == ("failed", 2)
    (error,) = record.errors
    assert error["code"] == "out_of_memory"
    assert "could not get tensor" in error["message"]
    budget = 2 * BYTES + HEADER
    assert f"(On cpu: budget {budget:,} bytes, its models 0, kept for its work {budget // 16:,}.)" in error["message"]


async def test_nothing_leaks_over_many_runs(engine: Engine) -> None:
    """Leases, reservations and waiting jobs come back to nothing, whatever the end of a run."""
    for salt in range(25):
        nodes = in_turn("abc"[: 1 + salt % 3], 100 + salt) | {
            "burst": step("burst", failures=2, name=f"n{salt}"),
            "work": step("work", bytes=BYTES, salt=salt, seconds=0.001),
        }
        await run(engine, nodes)
    (device,) = engine.models.stats()
    assert device["reserved_bytes"] == 0
    assert all(model["leases"] == 0 for model in device["models"])
    assert engine._runner._waiting == {}
    assert all(
        not admission.running and not admission.waiting for admission in engine.provision.reservations._devices.values()
    )


async def test_the_timeline_shows_who_waited_for_what(engine: Engine) -> None:
    """Two steps that each want all memory, and two models: waits for memory and for weights, loads, on rows of their own."""
    nodes = {
        "load_a": step("load", name="a"),
        "use": step("use", {"model": "load_a.encoder"}, salt=77),
        "one": step("work", bytes=2 * BYTES, salt=1, seconds=0.1),
        "two": step("work", bytes=2 * BYTES, salt=2, seconds=0.1),
    }
    record = await engine.submit({"format": "anyloom", "version": 1, "nodes": nodes})
    record = await engine.wait(record.id, 60)
    assert record.status == "succeeded", record.errors
    trace = await engine.timeline(record.id)
    stretches = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    names = {event["name"] for event in stretches}
    assert names >= {"use", "one", "two", "load_a", "load chain", "wait for chain"}
    waited = {event["name"]: event["dur"] for event in stretches if event["cat"] == "waiting"}
    assert max(waited.get("one: memory", 0), waited.get("two: memory", 0)) > 90_000
    begins = {
        event["name"]: (event["ts"], event["ts"] + event["dur"]) for event in stretches if event["cat"] == "steps"
    }
    (_, first_ended), (second_began, _) = sorted([begins["one"], begins["two"]])
    assert second_began >= first_ended - 2_000, "the second began when the first was over"
    assert trace["otherData"]["status"] == "succeeded"
    assert engine.usual_s(engine.registry["m.work"], {"bytes": 2 * BYTES}, "cpu") == pytest.approx(0.1, abs=0.09)
    assert await engine.delete([record.id]) == 1
    with pytest.raises(NotFoundError):
        await engine.timeline(record.id)


async def test_what_was_learned_of_running_out_of_memory_outlives_the_engine(tmp_path: Path) -> None:
    budget = 2 * BYTES + HEADER
    for name, expected in (("first", 2), ("second", 1)):
        engine = await opened(tmp_path, budget)
        record = await run(engine, {"greedy": step("greedy", name=name, reserved=budget // 16)})
        assert record.status == "succeeded", record.errors
        assert FAILURES[name] == expected, "the second engine reserves enough at once"
        await engine.close()


@pytest.mark.parametrize("kind", ["python", "torch", "mmap"])
async def test_every_way_in_which_the_host_runs_out_of_memory_is_known(engine: Engine, kind: str) -> None:
    record = await run(engine, {"large": step("large", kind=kind)})
    (error,) = record.errors
    assert error["code"] == "out_of_memory", error
    assert f"On cpu: budget {2 * BYTES + HEADER:,} bytes" in error["message"]
