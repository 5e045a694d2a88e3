"""What an engine meets that runs for months: clients that go away, files of any size, disks that fill up, packs that change."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated, Any

import numpy
import pytest

from graph_engine import Effect, Json, NodeContext, Widget, node
from graph_engine.engine import Engine
from graph_engine.errors import StoreError
from graph_engine.graph.registry import Registry
from graph_engine.models.catalog import Catalog
from graph_engine.settings import Settings
from graph_engine.store.group_writer import GroupWriter
from nodes.control.loop import map_items, repeat

pytestmark = pytest.mark.asyncio
CALLS: list[int] = []
ENGINES: list[Engine] = []


@node(id="n.count")
def count(value: int, after: int = 0) -> int:
    CALLS.append(value)
    return value


@node(id="n.sleep")
def sleep(seconds: float, context: NodeContext) -> float:
    context.wait(seconds)
    context.check()
    return seconds


@node(id="n.stubborn")
def stubborn(value: int, salt: int = 0) -> int:
    time.sleep(0.15)
    return value


@node(id="n.size")
def size(file: Annotated[str, Widget(upload="*")], context: NodeContext) -> int:
    return context.input_path(file).stat().st_size


@node(id="n.camera", effect=Effect.EXTERNAL)
def camera(megabytes: int) -> Json:
    CALLS.append(megabytes)
    return numpy.zeros(megabytes << 20, dtype=numpy.uint8)


@node(id="n.round")
def one_round(value: Json) -> Json:
    CALLS.append(len(ENGINES[-1]._vault._held))
    return [value[0] + 1]


@node(id="n.names")
def names(value: str) -> list[str]:
    return [value]


def model(name: str) -> int:
    return len(name)


def registry(reads: Any = lambda literals: []) -> Registry:
    made = node(id="n.model", reads=reads)(model).node_type  # type: ignore[attr-defined]
    return Registry(
        [*(f.node_type for f in (count, sleep, stubborn, size, camera, one_round, names, map_items, repeat)), made]
    )  # type: ignore[attr-defined]


async def open_engine(folder: Path, types: Registry | None = None, **settings: Any) -> Engine:
    return await Engine.open(Settings(data_dir=folder, **settings), registry=types or registry(), catalog=Catalog())


def document(**nodes: dict[str, Any]) -> dict[str, Any]:
    return {"format": "anyloom", "version": 1, "nodes": nodes}


def step(type: str, links: dict[str, str] | None = None, **values: Any) -> dict[str, Any]:
    return {"type": type, "values": values, "links": links or {}}


async def longest_pause(work: asyncio.Task[Any]) -> float:
    """Of the loop, until the work is done."""
    longest = 0.0
    while not work.done():
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        longest = max(longest, time.perf_counter() - began)
    return longest


@pytest.mark.law("P10")
@pytest.mark.parametrize("grown", [False, True])
async def test_a_large_file_is_not_read_on_the_event_loop(tmp_path: Path, grown: bool) -> None:
    """Its content is in the key of the step that names it, in a workflow as in a graph that grows."""
    engine = await open_engine(tmp_path)
    with (engine.settings.input_dir / "film.mp4").open("wb") as film:
        film.truncate(400 << 20)
    work = document(s=step("n.size", file="film.mp4"))
    if grown:
        each = step("control.map", {"items": "n.text"}, node="n.size", port="file", output="int")
        work = document(n=step("n.names", value="film.mp4"), s=each)

    async def run() -> Any:
        record = await engine.submit(work)
        return (await engine.wait(record.id, 30)).result["s"]

    assert not engine.folders.is_quick("film.mp4")
    for _ in range(2):  # the second time it is remembered
        running = asyncio.create_task(run())
        assert await longest_pause(running) < 0.2
        assert next(iter(running.result().values())) == ([400 << 20] if grown else 400 << 20)
        assert engine.folders.is_quick("film.mp4")
    await engine.close()


@pytest.mark.law("P1")
async def test_a_submission_that_nobody_waits_for_any_more_is_carried_out(tmp_path: Path) -> None:
    """A large workflow gives way to others while it begins; its client may leave in just that moment."""
    CALLS.clear()
    engine = await open_engine(tmp_path)
    work = document(**{f"n{number}": step("n.count", value=number) for number in range(2_000)})
    await engine.plan(work)
    left = 0
    for turns in range(8):
        submitting = asyncio.create_task(engine.submit(work))
        while not engine._roster.live:
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        left += submitting.cancel()
        await asyncio.gather(submitting, return_exceptions=True)
        for run in list(engine._roster.live):
            assert (await asyncio.wait_for(engine.wait(run), 10)).status == "succeeded"
            engine._roster.forget(run)
    assert left >= 3, "nobody left in the middle: the test shows nothing"
    await engine.close()


async def test_the_history_is_cut_while_the_engine_runs(tmp_path: Path) -> None:
    engine = await open_engine(tmp_path, keep_history=20)
    for number in range(250):
        record = await engine.submit(document(c=step("n.count", value=number)))
        await engine.wait(record.id)
    until = time.monotonic() + 10
    while await engine._queue.count() > 20 + 100 and time.monotonic() < until:
        await asyncio.sleep(0.01)
    assert await engine._queue.count() <= 20 + 100
    assert (await engine.run(record.id)).status == "succeeded"
    await engine.close()


@pytest.mark.law("P1")
async def test_a_run_that_a_changed_pack_breaks_keeps_no_other_from_being_taken_up(tmp_path: Path) -> None:
    engine = await open_engine(tmp_path, pool_threads=1)
    await engine.submit(document(s=step("n.sleep", seconds=0.3)))
    broken = await engine.submit(document(m=step("n.model", name="unet")))
    good = await engine.submit(document(c=step("n.count", value=7)))
    await engine.close()

    def reads(literals: Any) -> list[str]:
        raise ZeroDivisionError("a bug of the new version")

    engine = await open_engine(tmp_path, registry(reads))
    assert (await engine.wait(good.id, 10)).status == "succeeded"
    record = await engine.wait(broken.id, 10)
    assert record.status == "failed"
    assert "cannot be taken up again: ZeroDivisionError: a bug of the new version" in record.errors[0]["message"]
    await engine.close()


@pytest.mark.law("P1")
@pytest.mark.parametrize("goes_on", [True, False])
async def test_a_run_that_ended_while_the_disk_was_full_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, goes_on: bool
) -> None:
    """Its end is written once there is room: with the end of the next run, at the latest when the engine closes."""
    CALLS.clear()
    engine = await open_engine(tmp_path, disk_cache_bytes=0, cache="none")
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    record = await engine.submit(document(s=step("n.sleep", seconds=0.2), c=step("n.count", value=1)))
    commit = GroupWriter._commit

    def full(writer: GroupWriter, batch: list[Any]) -> list[Any]:
        return [StoreError("the disk is full.") for _ in batch]

    monkeypatch.setattr(GroupWriter, "_commit", full)
    assert (await engine.wait(record.id, 10)).status == "succeeded"
    await asyncio.sleep(0.1)
    monkeypatch.setattr(GroupWriter, "_commit", commit)
    if goes_on:
        other = await engine.submit(document(c=step("n.count", value=2)))
        await engine.wait(other.id, 10)
        until = time.monotonic() + 10
        while (row := await engine._queue.get(record.id)) and row.status != "succeeded" and time.monotonic() < until:
            await asyncio.sleep(0.01)
        assert row is not None
    await engine.close()
    engine = await open_engine(tmp_path, disk_cache_bytes=0, cache="none")
    found = await engine.wait(record.id, 10)
    assert (found.status, found.result) == ("succeeded", {"s": {"float": 0.2}, "c": {"int": 1}})
    assert CALLS.count(1) == 1
    await engine.close()


@pytest.mark.law("P10")
@pytest.mark.parametrize("megabytes", [16, 300])
async def test_a_large_result_of_a_side_effect_is_kept_for_a_restart_and_not_by_the_event_loop(
    tmp_path: Path, megabytes: int
) -> None:
    """In the journal, or beside it where it is larger than a database likes."""
    CALLS.clear()
    engine = await open_engine(tmp_path, pool_threads=2)
    taken = step("n.camera", megabytes=megabytes)
    record = await engine.submit(document(c=taken, s=step("n.sleep", seconds=30.0)))
    waiting = asyncio.create_task(asyncio.sleep(1.5))
    assert await longest_pause(waiting) < 0.2
    assert len(CALLS) == 1
    await engine.close()
    engine = await open_engine(tmp_path, pool_threads=2)
    await asyncio.sleep(0.2)
    assert len(CALLS) == 1, "the effect was repeated"
    await engine.cancel(record.id)
    await engine.close()


async def test_a_long_loop_does_not_hold_the_values_of_its_rounds(tmp_path: Path) -> None:
    CALLS.clear()
    engine = await open_engine(tmp_path, cache="none", disk_cache_bytes=0)
    ENGINES.append(engine)
    repeated = step("control.repeat", node="n.round", port="value", output="json", count=400, value=[0])
    record = await engine.submit(document(r=repeated))
    assert (await engine.wait(record.id, 30)).result == {"r": {"value": [400]}}
    assert len(CALLS) == 400
    assert max(CALLS) <= 4
    await engine.close()


async def test_a_job_that_ends_after_its_run_was_cancelled_holds_nothing(tmp_path: Path) -> None:
    """How long it took is noted by its size, for which its inputs are looked at once more."""
    async with await open_engine(tmp_path, grace_s=5.0) as engine:
        for salt in range(3):
            nodes = {
                "given": {"type": "n.count", "values": {"value": 7}},
                "slow": {"type": "n.stubborn", "values": {"salt": salt}, "links": {"value": "given.int"}},
            }
            record = await engine.submit(document(**nodes))
            await asyncio.sleep(0.06)
            await engine.cancel(record.id)
            await engine.wait(record.id, 10)
            await asyncio.sleep(0.3)
        assert engine.usual_s(engine.registry["n.stubborn"], {}, "cpu") is not None
        assert engine._vault._held == {}
