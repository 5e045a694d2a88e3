"""The scheduler against the recursive reference interpreter, on random graphs and in any order of completion."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graph_engine.graph.outcome import Skip
from graph_engine.schedule.messages import Continue

from . import reference, vocabulary
from .world import World

RELAXED = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def same(expected: Any, results: dict[str, Any], target: str) -> bool:
    if expected is reference.FAIL:
        return target not in results
    found = results.get(target, "absent")
    if isinstance(expected, Skip):
        return isinstance(found, Skip)
    if isinstance(expected, reference.Listed):
        return isinstance(found, list) and [_hole(one) for one in expected] == [_hole(one) for one in found]
    return found == expected


def _hole(value: Any) -> Any:
    return "hole" if isinstance(value, Skip) else value


def expected_status(expected: dict[str, Any], events: list[Any]) -> str:
    good = sum(value is not reference.FAIL for value in expected.values())
    failed = any(event.type == "failed" for event in events)
    if good == len(expected):
        return "partial" if failed else "succeeded"
    return "partial" if good else "failed"


@RELAXED
@given(vocabulary.workflows(), st.integers(0, 2**32), st.sampled_from(["none", "bytes:1MB"]))
def test_one_run_means_what_the_reference_means(document: dict[str, Any], seed: int, cache: str) -> None:
    async def scenario() -> None:
        world = World(vocabulary.REGISTRY, cache, random.Random(seed))
        world.submit("r", document)
        await world.settle()
        expected = reference.run(document, vocabulary.REGISTRY)
        for target, value in expected.items():
            assert same(value, world.results["r"], target), (target, value, world.results["r"], world.events("r"))
        assert world.status["r"] == expected_status(expected, world.events("r"))
        world.check_empty()

    asyncio.run(scenario())


@pytest.mark.law("P2")
@RELAXED
@given(st.lists(vocabulary.workflows(8), min_size=2, max_size=4), st.integers(0, 2**32), st.booleans())
def test_several_runs_share_work_and_keep_their_results(
    documents: list[dict[str, Any]], seed: int, forgetful: bool
) -> None:
    async def scenario() -> None:
        source = random.Random(seed)
        world = World(vocabulary.REGISTRY, "bytes:1MB", source, forgetful)
        documents.append(documents[0])
        for number, document in enumerate(documents):
            world.submit(f"r{number}", document, priority=source.choice([0, 0, 5]))
            for _ in range(source.randrange(4)):
                await world.turn()
        await world.settle()
        for number, document in enumerate(documents):
            for target, value in reference.run(document, vocabulary.REGISTRY).items():
                assert same(value, world.results[f"r{number}"], target)
        world.check_empty()
        if not forgetful and not any(event.type == "failed" for run in world.logs for event in world.events(run)):
            # A step that asks for lazy inputs or grows is called again to go on; everything else once in all runs.
            again = {"p.pick", "p.ask", "p.count", "p.spread", "p.hand_on", "p.constant_growth"}
            if not any(node["type"] in again for document in documents for node in document["nodes"].values()):
                assert max(world.calls.values(), default=0) <= 1

    asyncio.run(scenario())


@RELAXED
@given(vocabulary.workflows(), vocabulary.workflows(8), st.integers(0, 2**32), st.integers(0, 12))
def test_cancel_at_any_moment_ends_that_run_and_no_other(
    document: dict[str, Any], other: dict[str, Any], seed: int, turns: int
) -> None:
    async def scenario() -> None:
        world = World(vocabulary.REGISTRY, "none", random.Random(seed))
        world.submit("r", document)
        world.submit("other", other)
        for _ in range(turns):
            await world.turn()
        ended_before = "r" in world.status
        world.runner.cancel("r")
        world.runner.cancel("r")
        await world.settle()
        if not ended_before:
            assert world.status["r"] == "cancelled"
        for target, value in reference.run(other, vocabulary.REGISTRY).items():
            assert same(value, world.results["other"], target)
        world.check_empty()

    asyncio.run(scenario())


@RELAXED
@given(
    vocabulary.workflows(), vocabulary.workflows(8), st.integers(0, 2**32), st.sets(st.integers(0, 12)), st.booleans()
)
def test_breakpoints_change_when_a_node_runs_and_nothing_else(
    document: dict[str, Any], other: dict[str, Any], seed: int, chosen: set[int], cancel: bool
) -> None:
    """A run pauses before each chosen node that it comes to; other runs go on; let go, it means what it always means."""

    async def scenario() -> None:
        source = random.Random(seed)
        world = World(vocabulary.REGISTRY, source.choice(["none", "bytes:1MB"]), source)
        nodes = list(document["nodes"])
        breakpoints = frozenset(nodes[number] for number in chosen if number < len(nodes))
        world.submit("r", document, breakpoints=breakpoints)
        world.submit("other", other)
        await world.settle()
        while "r" not in world.status:
            paused = list(world.scheduler.runs["r"].paused)
            assert paused, "it stands still at breakpoints only"
            assert set(paused) <= breakpoints
            assert "other" in world.status
            began = {event.node.partition("#")[0] for event in world.events("r") if event.type == "running"}
            assert not began & set(paused)
            if cancel and source.random() < 0.5:
                world.runner.cancel("r")
            else:
                world.runner.tell(Continue("r", source.choice([*paused, ""])))
            await world.settle()
        for target, value in reference.run(other, vocabulary.REGISTRY).items():
            assert same(value, world.results["other"], target)
        if world.status["r"] != "cancelled":
            for target, value in reference.run(document, vocabulary.REGISTRY).items():
                assert same(value, world.results["r"], target)
        world.check_empty()

    asyncio.run(scenario())


def test_what_vanished_from_the_cache_is_computed_again() -> None:
    """A run that was planned on cached results finds them gone when it needs them."""
    document: dict[str, Any] = {
        "format": "anyloom",
        "version": 1,
        "nodes": {
            "c": {"type": "p.const", "values": {"value": 4}},
            "n": {"type": "p.numbers", "links": {"count": "c.int"}, "values": {"start": 3}},
            "g": {"type": "p.count", "links": {"a": "c.int"}, "values": {"depth": 2}},
            "m": {"type": "p.add", "links": {"a": "n.int", "b": "g.int"}},
        },
        "targets": ["m"],
    }
    later = {
        **document,
        "nodes": {**document["nodes"], "t": {"type": "p.total", "links": {"values": "m.int"}}},
        "targets": ["t"],
    }

    async def scenario() -> None:
        world = World(vocabulary.REGISTRY, "bytes:1MB", random.Random(1))
        world.submit("first", document)
        await world.settle()
        world.submit("second", later)  # planned on the cached m
        world.vault.memory.clear()
        await world.settle()
        assert world.results["second"] == {"t": reference.run(later, vocabulary.REGISTRY)["t"]}
        world.check_empty()

    asyncio.run(scenario())


def test_a_mapped_step_that_asks_for_an_empty_list_gets_nothing_from_it() -> None:
    nodes = {
        "three": {"type": "p.numbers", "values": {"count": 3}},
        "none": {"type": "p.numbers", "values": {"count": 0}},
        "asks": {"type": "p.ask", "links": {"a": "three.int", "x": "none.int"}},
        "picks": {"type": "p.pick", "links": {"flag": "three.int", "x": "none.int", "y": "three.int"}},
    }
    document = {"format": "anyloom", "version": 1, "nodes": nodes, "targets": ["asks", "picks"]}

    async def scenario() -> None:
        world = World(vocabulary.REGISTRY, "none", random.Random(0))
        world.submit("r", document)
        await world.settle()
        assert world.results["r"]["asks"] == [0, 1, 2]
        assert [_hole(one) for one in world.results["r"]["picks"]] == [0, "hole", 2]
        for target, value in reference.run(document, vocabulary.REGISTRY).items():
            assert same(value, world.results["r"], target)
        world.check_empty()

    asyncio.run(scenario())
