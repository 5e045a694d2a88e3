"""The engine as a whole, on real threads and a real data folder."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from graph_engine.engine import Engine
from graph_engine.errors import DocumentError, GraphError, NotFoundError, RequestError, StoreError
from graph_engine.models.catalog import Catalog
from graph_engine.record import RunRecord
from graph_engine.settings import Settings
from graph_engine.store.database import FILE_NAME

from .nodes_for_engine import CALLS, REGISTRY

pytestmark = pytest.mark.asyncio


def document(**nodes: Any) -> dict[str, Any]:
    return {"format": "anyloom", "version": 1, "nodes": nodes}


def step(type: str, links: dict[str, str] | None = None, **values: Any) -> dict[str, Any]:
    return {"type": f"e.{type}", "values": values, "links": links or {}}


async def open_engine(folder: Path, **settings: Any) -> Engine:
    return await Engine.open(Settings(data_dir=folder, grace_s=0.3, **settings), registry=REGISTRY, catalog=Catalog())


@pytest_asyncio.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    CALLS.clear()
    engine = await open_engine(tmp_path)
    yield engine
    await engine.close()


async def finish(engine: Engine, workflow: dict[str, Any], **options: Any) -> RunRecord:
    record = await engine.submit(workflow, **options)
    return await engine.wait(record.id, 20)


async def types_of(engine: Engine, run: str, after: int = 0) -> list[tuple[str, str]]:
    return [(event.type, event.node) async for batch in engine.watch(run, after) for event in batch]


async def test_results_stand_in_the_record_and_in_history(engine: Engine) -> None:
    record = await finish(engine, document(a=step("add", a=1, b=2), b=step("add", {"a": "a.int"}, b=10)), name="sum")
    assert (record.status, record.result, record.nodes) == ("succeeded", {"b": {"int": 13}}, 2)
    listed = await engine.runs(limit=5)
    assert [(row.id, row.name, row.status) for row in listed] == [(record.id, "sum", "succeeded")]
    assert (await engine.document(record.id))["nodes"]["a"]["values"] == {"a": 1, "b": 2}


async def test_no_run_ends_before_it_began_when_the_clock_is_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await open_engine(tmp_path) as engine:
        record = await engine.submit(document(w=step("sleep", seconds=0.2)))
        with monkeypatch.context() as back:
            back.setattr(time, "time", lambda now=time.time: now() - 3600)
            await engine.wait(record.id, 20)
        assert record.started is not None
        assert record.finished == record.started
        [*_, last] = [event async for batch in engine.watch(record.id) for event in batch]
        assert last.data["seconds"] == 0.0
    with sqlite3.connect(tmp_path / FILE_NAME) as database:  # as earlier versions wrote it
        database.execute("UPDATE runs SET finished = started - 3600")
    async with await open_engine(tmp_path) as engine:
        [again] = await engine.runs()
        assert again.finished == again.started
        [[last]] = [batch async for batch in engine.watch(record.id)]
        assert last.data["seconds"] == 0.0


@pytest.mark.parametrize("branches", [2, 8])
@pytest.mark.parametrize("kind", ["sleep", "async_sleep"])
async def test_independent_branches_run_side_by_side(engine: Engine, branches: int, kind: str) -> None:
    nodes = {f"s{n}": step(kind, seconds=1.0, value=n) for n in range(branches)}
    began = time.monotonic()
    record = await finish(engine, document(**nodes))
    assert record.status == "succeeded"
    assert time.monotonic() - began < 1.5


async def test_two_runs_interleave(engine: Engine) -> None:
    def chain(first: int) -> dict[str, Any]:
        nodes = {"n0": step("sleep", seconds=0.1, value=first)}
        for n in range(1, 6):
            nodes[f"n{n}"] = step("sleep", {"value": f"n{n - 1}.int"}, seconds=0.1)
        return document(**nodes)

    began = time.monotonic()
    records = [await engine.submit(chain(n)) for n in (1, 2)]
    ended = [await engine.wait(record.id, 20) for record in records]
    assert [record.status for record in ended] == ["succeeded", "succeeded"]
    assert time.monotonic() - began < 1.0  # one after the other would take 1.2 s


async def test_a_device_lane_takes_one_job_at_a_time(engine: Engine) -> None:
    began = time.monotonic()
    nodes = {f"d{n}": step("device_sleep", seconds=0.15, value=n) for n in range(3)}
    assert (await finish(engine, document(**nodes))).status == "succeeded"
    assert time.monotonic() - began >= 0.45


async def test_a_run_is_not_forgotten_before_its_end_is_on_the_disk(tmp_path: Path) -> None:
    """While the disk is busy the queue still says `running`; only the engine knows better, however few events it keeps."""
    engine = await open_engine(tmp_path, keep_events=0)
    record = await engine.submit(document(a=step("sleep", seconds=0.2, value=3)))
    busy = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    busy.execute("BEGIN IMMEDIATE")
    try:
        assert ("finished", "") in await types_of(engine, record.id)
        for asked in (await engine.wait(record.id), await engine.run(record.id), (await engine.runs())[0]):
            assert (asked.status, asked.result) == ("succeeded", {"a": {"int": 3}})
        assert await engine.cancel(record.id) is False
    finally:
        busy.execute("ROLLBACK")
        busy.close()
    until = time.monotonic() + 20
    while record.id in engine._roster.live and time.monotonic() < until:  # and then it is forgotten
        await asyncio.sleep(0.01)
    assert record.id not in engine._roster.live
    assert (await engine.wait(record.id)).status == "succeeded"
    await engine.close()


@pytest.mark.law("P2")
async def test_identical_work_of_two_runs_is_done_once(engine: Engine) -> None:
    workflow = document(a=step("sleep", seconds=0.3, value=77))
    other = document(renamed=step("sleep", seconds=0.3, value=77), b=step("add", {"a": "renamed.int"}, b=1))
    first, second = await engine.submit(workflow), await engine.submit(other)
    assert (await engine.wait(first.id, 5)).result == {"a": {"int": 77}}
    assert (await engine.wait(second.id, 5)).result == {"b": {"int": 78}}
    assert (await finish(engine, workflow)).result == {"a": {"int": 77}}
    assert CALLS["sleep 77"] == 1


@pytest.mark.law("P2")
async def test_a_result_on_disk_serves_the_next_engine(tmp_path: Path) -> None:
    CALLS.clear()
    workflow = document(a=step("sleep", seconds=0.1, value=5))
    for expected in ("done", "cached"):
        engine = await open_engine(tmp_path)
        record = await finish(engine, workflow)
        assert record.result == {"a": {"int": 5}}
        assert any(type == expected for type, _ in await types_of(engine, record.id))
        await engine.close()
    assert CALLS["sleep 5"] == 1


@pytest.mark.law("P6")
async def test_a_failure_leaves_its_siblings_running(engine: Engine) -> None:
    record = await finish(
        engine,
        document(
            bad=step("fail", a=3),
            after=step("add", {"a": "bad.int"}),
            good=step("sleep", seconds=0.2, value=9),
            end=step("add", {"a": "good.int"}, b=1),
        ),
    )
    assert record.status == "partial"
    assert record.result == {"end": {"int": 10}}
    (error,) = record.errors
    assert (error["code"], error["node"], error["remedy"]) == ("no_good", "bad", "Choose another number.")
    assert ("blocked", "after") in await types_of(engine, record.id)


async def test_nothing_but_failures_is_failed(engine: Engine) -> None:
    assert (await finish(engine, document(bad=step("fail", a=3)))).status == "failed"


async def test_a_wrong_value_is_refused_at_the_output_that_made_it(engine: Engine) -> None:
    record = await finish(engine, document(w=step("wrong_image")))
    (error,) = record.errors
    assert (error["code"], error["node"], error["port"]) == ("wrong_output", "w", "text")


async def test_retries_are_counted_and_shown(engine: Engine) -> None:
    record = await finish(engine, document(h=step("hiccup", name="twice", failures=2)))
    assert record.result == {"h": {"int": 3}}
    assert [type for type, _ in await types_of(engine, record.id)].count("retrying") == 2
    assert (await finish(engine, document(h=step("hiccup", name="thrice", failures=3)))).status == "failed"
    assert CALLS["thrice"] == 3


async def test_a_node_that_takes_too_long_fails_with_its_limit(engine: Engine) -> None:
    began = time.monotonic()
    record = await finish(engine, document(s=step("slow_fail")))
    assert record.errors[0]["code"] == "timeout"
    assert time.monotonic() - began < 2


async def test_cancel_ends_a_node_at_its_next_check(engine: Engine) -> None:
    record = await engine.submit(document(w=step("wait", seconds=10.0, value=1), x=step("add", {"a": "w.int"})))
    await asyncio.sleep(0.1)
    began = time.monotonic()
    assert await engine.cancel(record.id)
    assert (await engine.wait(record.id, 5)).status == "cancelled"
    assert time.monotonic() - began < 0.5
    assert not await engine.cancel(record.id)
    with pytest.raises(NotFoundError):
        await engine.cancel("nobody")


async def test_a_stubborn_node_keeps_nobody_waiting(engine: Engine) -> None:
    record = await engine.submit(document(s=step("stubborn", seconds=1.5)))
    await asyncio.sleep(0.1)
    began = time.monotonic()
    await engine.cancel(record.id)
    assert (await engine.wait(record.id, 5)).status == "cancelled"
    assert time.monotonic() - began < 1.0
    assert (await finish(engine, document(a=step("sleep", seconds=0.01, value=2)))).status == "succeeded"


async def test_cancelling_one_of_two_runs_leaves_their_common_work_alone(engine: Engine) -> None:
    workflow = document(w=step("wait", seconds=0.4, value=4))
    first, second = await engine.submit(workflow), await engine.submit(workflow)
    await asyncio.sleep(0.1)
    await engine.cancel(first.id)
    assert (await engine.wait(first.id, 5)).status == "cancelled"
    assert (await engine.wait(second.id, 5)).result == {"w": {"int": 4}}
    assert CALLS["wait 4"] == 1


async def test_priority_goes_first(tmp_path: Path) -> None:
    engine = await open_engine(tmp_path, pool_threads=1)
    log = tmp_path / "order"
    await engine.submit(document(a=step("sleep", seconds=0.2, value=1)))
    await asyncio.sleep(0.05)
    low = await engine.submit(document(a=step("append", path=str(log), line="low")))
    high = await engine.submit(document(a=step("append", path=str(log), line="high")), priority=5)
    for record in (low, high):
        await engine.wait(record.id, 5)
    assert log.read_text().split() == ["high", "low"]
    await engine.close()


async def test_chunks_are_complete_and_previews_are_fresh(engine: Engine) -> None:
    words = " ".join(f"w{n}" for n in range(20))
    record = await engine.submit(document(s=step("stream", words=words)))
    events = [event async for batch in engine.watch(record.id) for event in batch]
    assert [event.data["text"] for event in events if event.type == "chunk"] == words.split()
    assert events[-1].type == "finished"
    numbers = [event.seq for event in events]
    assert numbers == sorted(set(numbers))


async def test_a_watcher_resumes_after_the_last_event_it_saw(engine: Engine) -> None:
    record = await finish(engine, document(a=step("add", a=1), b=step("add", {"a": "a.int"})))
    whole = await types_of(engine, record.id)
    for gap in range(len(whole)):
        assert await types_of(engine, record.id, after=gap) == whole[gap:]


async def test_external_steps_run_again_and_pure_ones_do_not(engine: Engine, tmp_path: Path) -> None:
    log = tmp_path / "lines"
    workflow = document(
        a=step("sleep", seconds=0.01, value=3),
        x=step("append", {"after": "a.int"}, path=str(log), line="x"),
        y=step("append", {"after": "a.int"}, path=str(log), line="x"),
    )
    for _ in range(2):
        assert (await finish(engine, workflow)).status == "succeeded"
    assert log.read_text().split() == ["x"] * 4
    assert CALLS["sleep 3"] == 1


async def test_refusals_name_the_place(engine: Engine) -> None:
    with pytest.raises(GraphError) as caught:
        await engine.submit(document(a=step("add", {"a": "b.int"}, b=1), b=step("add", {"a": "a.int"})))
    assert caught.value.problem.code == "cycle"
    assert "a -> b -> a" in caught.value.message or "b -> a -> b" in caught.value.message
    with pytest.raises(DocumentError):
        await engine.submit("{")
    with pytest.raises(DocumentError):
        await engine.submit(document(a=step("add", a=1)), values={"nobody.a": 2})
    with pytest.raises(RequestError):
        await engine.submit(document(a=step("add", a=1)), priority=10**9)
    assert await engine.runs() == []


async def slow_disk(engine: Engine, monkeypatch: pytest.MonkeyPatch, fail: bool) -> threading.Event:
    """The next commits wait for the event that is returned."""
    gate, commit = threading.Event(), engine._queue._writer._commit

    def wait(batch: list[Any]) -> list[Any]:
        gate.wait(20)
        return [StoreError("the disk is full.") for _ in batch] if fail else commit(batch)

    monkeypatch.setattr(engine._queue._writer, "_commit", wait)
    return gate


async def called(name: str) -> None:
    while name not in CALLS:
        await asyncio.sleep(0.005)


@pytest.mark.law("P1")
async def test_a_run_begins_before_it_is_durable_but_has_no_effect(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lines.txt"
    gate = await slow_disk(engine, monkeypatch, fail=False)
    work = document(
        first=step("append", path=str(path), line="first"),
        slept=step("sleep", seconds=0.0, value=41),
        last=step("append", {"after": "slept.int"}, path=str(path), line="last"),
    )
    submitting = asyncio.create_task(engine.submit(work))
    await asyncio.wait_for(called("sleep 41"), 10)
    await asyncio.sleep(0.1)
    assert not path.exists()
    assert not submitting.done(), "its id is told once the disk has it"
    assert await engine.runs() == []
    gate.set()
    record = await engine.wait((await submitting).id, 20)
    assert (record.status, record.number) == ("succeeded", 1)
    assert sorted(path.read_text().split()) == ["first", "last"]
    async for batch in engine.watch(record.id):
        assert (batch[0].type, batch[0].data) == ("queued", {"number": 1})
        break
    assert [listed.id for listed in await engine.runs()] == [record.id]


async def test_a_run_that_the_disk_refuses_leaves_nothing(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lines.txt"
    gate = await slow_disk(engine, monkeypatch, fail=True)
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    slept = step("sleep", seconds=0.0, value=42)
    work = document(slept=slept, last=step("append", {"after": "slept.int"}, path=str(path), line="last"))
    submitting = asyncio.create_task(engine.submit(work))
    await asyncio.wait_for(called("sleep 42"), 10)
    gate.set()
    with pytest.raises(StoreError, match="full"):
        await submitting
    await asyncio.sleep(0.05)
    assert not path.exists()
    assert await engine.runs() == []
    assert not engine._roster.live
    assert not engine._runner.logs
    assert not engine._runner.scheduler.runs
    assert {context["message"] for context in told} == {"the run queue failed"}


async def test_who_waits_without_an_end_is_told_that_the_engine_closed(tmp_path: Path) -> None:
    engine = await open_engine(tmp_path)
    record = await engine.submit(document(a=step("async_sleep", seconds=60.0, value=1)))
    waiting = [asyncio.create_task(engine.wait(record.id)), asyncio.create_task(engine.wait(record.id, 50))]
    await asyncio.sleep(0.05)
    await engine.close()
    for waiter in waiting:
        with pytest.raises(RequestError, match="goes on when the engine is opened again") as caught:
            await asyncio.wait_for(waiter, 5)
        assert caught.value.problem.code == "closing"
    with pytest.raises(RequestError):
        await asyncio.wait_for(engine.wait(record.id), 5)


async def test_one_engine_per_folder(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        await open_engine(tmp_path)


@pytest.mark.law("P10")
async def test_ten_thousand_nodes_leave_the_loop_free(engine: Engine) -> None:
    """Three different runs: what we block is blocked in each of them, what the machine's other work blocks is not."""
    longest = []
    for salt in range(3):
        nodes = {"n0": step("add", a=salt * 10_000)}
        nodes |= {f"n{n}": step("add", {"a": f"n{n - 1}.int"}, b=1) for n in range(1, 10_000)}
        pauses, running = [0.0], [True]

        async def pulse(pauses: list[float] = pauses, running: list[bool] = running) -> None:
            while running:
                began = time.perf_counter()
                await asyncio.sleep(0)
                pauses[0] = max(pauses[0], time.perf_counter() - began)

        watcher = asyncio.create_task(pulse())
        record = await finish(engine, json.loads(json.dumps(document(**nodes))))
        running.clear()
        await watcher
        assert record.result == {"n9999": {"int": salt * 10_000 + 9999}}
        longest.append(pauses[0])
    assert min(longest) < 0.05, f"the loop was blocked for {[round(pause * 1000) for pause in longest]} ms"


async def test_each_step_is_announced_once(engine: Engine) -> None:
    """Also when a thread may go on with the next step and does not, because the first one took long."""
    nodes = {"n0": step("sleep", seconds=0.02, value=31)}
    for n in range(1, 4):
        nodes[f"n{n}"] = step("sleep", {"value": f"n{n - 1}.int"}, seconds=0.01)
    record = await finish(engine, document(**nodes))
    types = await types_of(engine, record.id)
    for n in range(4):
        assert [type for type, node in types if node == f"n{n}" and type in ("running", "done")] == ["running", "done"]


async def test_clean_stops_do_not_poison_a_run(tmp_path: Path) -> None:
    engine = await open_engine(tmp_path)
    record = await engine.submit(document(w=step("wait", seconds=0.6, value=1)))
    for _ in range(4):
        await asyncio.sleep(0.1)
        await engine.close()
        engine = await open_engine(tmp_path)
    assert (await engine.wait(record.id, 10)).status == "succeeded"
    await engine.close()


@pytest.mark.law("P1")
async def test_a_run_that_waited_while_the_server_died_is_not_to_blame(tmp_path: Path) -> None:
    """Three deaths are counted against the run that was at work, not against those behind it in the queue."""
    engine = await open_engine(tmp_path, pool_threads=1)
    work = [await engine.submit(document(w=step("stubborn", seconds=0.4)))]
    work += [await engine.submit(document(s=step("sleep", seconds=0.0, value=500 + n))) for n in range(3)]
    for _ in range(3):
        await asyncio.sleep(0.1)
        died = tmp_path.with_name(f"{tmp_path.name}-{engine.settings.data_dir.name}-next")
        with sqlite3.connect(engine.settings.data_dir / FILE_NAME) as before:
            died.mkdir()
            with sqlite3.connect(died / FILE_NAME) as after:
                before.backup(after)
        before.close()
        after.close()
        await engine.close()
        engine = await open_engine(died, pool_threads=1)
    ended = [await engine.wait(record.id, 10) for record in work]
    assert [(record.status, [error["code"] for error in record.errors]) for record in ended] == [
        ("failed", ["poisoned"]),
        *[("succeeded", [])] * 3,
    ]
    await engine.close()
