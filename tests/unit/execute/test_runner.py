"""Where the scheduler's decisions meet threads, disks and an engine that closes in the middle."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from graph_engine import Effect, Needs, NodeContext, node
from graph_engine.engine import Engine
from graph_engine.execute.events import EventLog
from graph_engine.graph.document import parse
from graph_engine.graph.graph import resolve
from graph_engine.graph.plan import make_plan
from graph_engine.graph.registry import Registry
from graph_engine.models.catalog import Catalog
from graph_engine.settings import Settings
from graph_engine.store.artifacts import Artifact
from graph_engine.store.disk_store import DiskStore
from graph_engine.store.memory_store import MemoryStore
from graph_engine.store.vault import Vault
from tests.property import vocabulary
from tests.property.world import World

CALLS: list[str] = []


@node(id="u.patient")
def patient(context: NodeContext) -> int:
    CALLS.append("patient")
    context.wait(20)
    context.check()
    return 1


@node(id="u.write", effect=Effect.EXTERNAL, output=True)
def write(context: NodeContext) -> int:
    """Hears that it should stop, and finishes what it began."""
    CALLS.append("write")
    context.wait(20)
    return 1


@node(id="u.huge")
def huge() -> int:
    return 10**5000


@node(id="u.add", needs=Needs(inline=True), output=True)
def add(a: int) -> int:
    CALLS.append("add")
    return a + 1


REGISTRY = Registry(f.node_type for f in (patient, write, huge, add))  # type: ignore[attr-defined]


def document(**nodes: Any) -> dict[str, Any]:
    return {"format": "anyloom", "version": 1, "nodes": nodes}


async def open_engine(folder: Path) -> Engine:
    settings = Settings(data_dir=folder, grace_s=0.3, max_attempts=100)
    return await Engine.open(settings, registry=REGISTRY, catalog=Catalog())


class SlowDisk(DiskStore):
    def get(self, key: str) -> Artifact | None:
        time.sleep(0.15)
        return super().get(key)


@pytest.mark.asyncio
async def test_a_value_that_comes_from_the_disk_after_the_cancel_is_let_go(tmp_path: Path) -> None:
    nodes = {
        "a": {"type": "p.const", "values": {"value": 3}},
        "b": {"type": "p.add", "links": {"a": "a.int"}},
    }
    workflow = {**document(**nodes), "targets": ["b"]}
    plan = make_plan(resolve(parse(workflow), vocabulary.REGISTRY), lambda name: "")
    disk = SlowDisk(tmp_path, 10**8)
    key = plan.steps[0].key
    disk.put(Artifact.of(key, (3,), seconds=1.0))
    world = World(vocabulary.REGISTRY, "none", random.Random(0))
    world.vault = world.runner.vault = Vault(MemoryStore("none"), disk, 0.0)
    world.results["r"], world.logs["r"] = {}, EventLog()
    world.runner.grace_s = 0.01
    world.executor.abandon = lambda job: None  # type: ignore[method-assign]
    world.runner.submit("r", plan, world.vault.present([key], [key]), world.logs["r"], 0)
    assert not world.executor.waiting, "the value is still being read"
    world.runner.cancel("r")
    await asyncio.sleep(0.03)
    assert world.status == {"r": "cancelled"}, "the grace is over before the disk has answered"
    await asyncio.sleep(0.2)
    await world.settle()
    assert world.vault._held == {}
    world.vault.close()


@pytest.mark.asyncio
async def test_nothing_begins_while_the_engine_closes(tmp_path: Path) -> None:
    """A job that was interrupted by the close is still wanted; it must wait for the next engine."""
    CALLS.clear()
    others = set(threading.enumerate())
    engine = await open_engine(tmp_path)
    record = await engine.submit(document(p={"type": "u.patient"}, q={"type": "u.add", "links": {"a": "p.int"}}))
    while not CALLS:
        await asyncio.sleep(0.005)
    await engine.close()
    await asyncio.sleep(0.05)
    assert CALLS == ["patient"]
    assert not [thread for thread in set(threading.enumerate()) - others if thread.name.startswith("anyloom")]
    again = await open_engine(tmp_path)
    while len(CALLS) < 2:
        await asyncio.sleep(0.005)
    assert not (await again.run(record.id)).ended
    await again.cancel(record.id)
    assert (await again.wait(record.id, 10)).status == "cancelled"
    await again.close()


@pytest.mark.law("P1")
@pytest.mark.asyncio
async def test_a_side_effect_that_ends_while_the_engine_closes_is_not_done_again(tmp_path: Path) -> None:
    CALLS.clear()
    engine = await open_engine(tmp_path)
    record = await engine.submit(document(w={"type": "u.write"}, a={"type": "u.add", "links": {"a": "w.int"}}))
    while not CALLS:
        await asyncio.sleep(0.005)
    await engine.close()
    assert CALLS == ["write"], "its reader begins in the next engine only"
    again = await open_engine(tmp_path)
    ended = await again.wait(record.id, 10)
    assert (ended.status, ended.result) == ("succeeded", {"w": {"int": 1}, "a": {"int": 2}})
    assert CALLS == ["write", "add"]
    await again.close()


@pytest.mark.asyncio
async def test_a_value_that_no_json_holds_ends_its_run_like_any_other(tmp_path: Path) -> None:
    engine = await open_engine(tmp_path)
    record = await engine.submit(document(h={"type": "u.huge"}))
    ended = await engine.wait(record.id, 10)
    assert ended.status == "succeeded"
    assert ended.result["h"]["int"]["kind"] == "INT"
    assert await engine.artifact(ended.result["h"]["int"]["artifact"]) == 10**5000
    await engine.close()


@node(id="u.note", effect=Effect.EXTERNAL, output=True)
def note(context: NodeContext, a: int) -> int:
    return a


NOTES = Registry(f.node_type for f in (note, add))  # type: ignore[attr-defined]


@pytest.mark.parametrize("broken", ["context", "output", "journal", "ended", "left", "_complete", "_run"])
@pytest.mark.asyncio
async def test_a_fault_of_the_engine_fails_its_run_and_no_other(
    tmp_path: Path, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await Engine.open(Settings(data_dir=tmp_path), registry=NOTES, catalog=Catalog())
    told: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(str(context["exception"])))
    hooks: Any = engine._runner.hooks
    scheduler = engine._runner.scheduler
    within = hasattr(scheduler, broken)
    whole = getattr(scheduler if within else hooks, broken)
    faults = iter([True])

    def fault(*arguments: Any, **named: Any) -> Any:
        if next(faults, False):
            raise RuntimeError("a bolt came loose")
        return whole(*arguments, **named)

    if within:
        monkeypatch.setattr(scheduler, broken, fault)
    else:
        engine._runner.hooks = hooks._replace(**{broken: fault})
    workflow = document(n={"type": "u.note", "values": {"a": 1}})
    first = await engine.wait((await engine.submit(workflow)).id, 10)
    assert first.status == "failed"
    [error] = first.errors
    assert "a bolt came loose" in error["message"]
    assert told[0] == "a bolt came loose", "the server's log has it"
    second = await engine.wait((await engine.submit(workflow)).id, 10)
    assert (second.status, second.result) == ("succeeded", {"n": {"int": 1}})
    await engine.close()


class Thief(DiskStore):
    """Whose files are there while somebody plans with them, and gone when they are to be read."""

    stolen: frozenset[str] = frozenset()

    def get(self, key: str) -> Artifact | None:
        if key in self.stolen:
            self.discard(key)
        return super().get(key)


@pytest.mark.asyncio
async def test_a_part_that_vanishes_before_it_is_put_together_with_others_is_made_anew(tmp_path: Path) -> None:
    """Else the whole would have a hole in it, and be kept with that for every later run."""
    nodes = {
        "a": {"type": "p.const", "values": {"value": 3}},
        "g": {"type": "p.spread", "values": {"width": 3}, "links": {"a": "a.int"}},
        "t": {"type": "p.total", "links": {"values": "g.int"}},
        "u": {"type": "p.add", "links": {"a": "t.int"}},
    }
    workflow = {**document(**nodes), "targets": ["u"]}
    plan = make_plan(resolve(parse(workflow), vocabulary.REGISTRY), lambda name: "")
    disk = Thief(tmp_path, 10**8)
    results = []
    for again in (False, True):
        world = World(vocabulary.REGISTRY, "none", random.Random(1))
        world.vault = world.runner.vault = Vault(MemoryStore("none"), disk, 0.0)
        world.results["r"], world.logs["r"] = {}, EventLog()
        if again:
            for step in plan.steps[1:]:
                disk.discard(step.key)
            disk.stolen = frozenset(disk.shapes) - {plan.steps[0].key}
            assert len(disk.stolen) >= 3
        present = world.vault.present([step.key for step in plan.steps])
        world.runner.submit("r", plan, present, world.logs["r"], 0)
        await world.settle()
        results.append(world.results["r"])
        world.check_empty()
        world.vault.close()
    assert results[1] == results[0]
    assert world.runner._torn == {}


@pytest.mark.asyncio
async def test_a_cached_file_that_cannot_be_read_is_computed_again(tmp_path: Path) -> None:
    CALLS.clear()
    settings = Settings(data_dir=tmp_path, disk_cache_min_s=0.0, cache="none")
    engine = await Engine.open(settings, registry=REGISTRY, catalog=Catalog())
    nodes = {"a": {"type": "u.add", "values": {"a": 1}}}
    record = await engine.submit(document(**nodes))
    assert (await engine.wait(record.id, 10)).status == "succeeded"
    await asyncio.get_running_loop().run_in_executor(engine._vault._thread, lambda: None)
    (file,) = (tmp_path / "cache").rglob("*.artifact")
    file.unlink()
    file.mkdir()  # as good as a bad sector: it is there, and reading it fails
    record = await engine.submit(document(**nodes, b={"type": "u.add", "links": {"a": "a.int"}}))
    ended = await engine.wait(record.id, 10)
    assert (ended.status, ended.result["b"]) == ("succeeded", {"int": 3}), ended.errors
    assert CALLS == ["add", "add", "add"]
    await engine.close()
