from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from graph_engine.errors import NotFoundError, StoreError
from graph_engine.store import database, group_writer
from graph_engine.store.history import RunRow
from graph_engine.store.queue import RunQueue

ROOT = Path(__file__).parents[3]
Open = Callable[[], RunQueue]


def ask(folder: Path, statement: str) -> list[Any]:
    """By a connection that shares nothing with the queue."""
    with contextlib.closing(sqlite3.connect(folder / database.FILE_NAME, isolation_level=None)) as connection:
        return connection.execute(statement).fetchall()


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens the queue of the test's folder, closing the one opened before."""
    queues: list[RunQueue] = []

    def open_queue() -> RunQueue:
        for queue in queues:
            queue.close()
        queues.append(RunQueue(tmp_path))
        return queues[-1]

    yield open_queue
    for queue in queues:
        queue.close()


@pytest.mark.asyncio
async def test_a_row_comes_back_as_it_was_added(opened: Open) -> None:
    queue = opened()
    row = RunRow(
        "r1", '{"nodes": {}}', "my run", '["save"]', priority=-2, client="c", nodes=3, created=1760000000.1234567
    )
    number = await queue.add(row)
    found = await queue.get("r1")
    assert found is not None
    assert number == 1
    assert found == RunRow(**{**{name: getattr(row, name) for name in RunRow.__slots__}, "number": 1})
    assert await queue.get("r2") is None


@pytest.mark.asyncio
@pytest.mark.parametrize("size", [0, 10, 4096, 4097, 3_000_000])
async def test_documents_of_every_size_come_back(opened: Open, tmp_path: Path, size: int) -> None:
    queue, document = opened(), "ä" * (size // 2) + "x" * (size % 2)
    await queue.add(RunRow("r", document))
    found = await queue.get("r")
    assert found is not None
    assert found.document == document
    ((length, kind),) = ask(tmp_path, "SELECT length(body), typeof(body) FROM documents")
    assert (kind == "blob" and length < size / 10) if size > 4096 else kind == "text"


@pytest.mark.asyncio
async def test_numbers_rise_and_are_never_used_twice(opened: Open) -> None:
    queue = opened()
    numbers = await asyncio.gather(*(queue.add(RunRow(f"r{index}")) for index in range(500)))
    assert numbers == list(range(1, 501))
    rows = await asyncio.gather(*(queue.get(f"r{index}") for index in range(500)))
    assert [row.number for row in rows if row] == numbers  # the answer belongs to the row
    await queue.finish("r499", "failed")
    assert await queue.delete(["r499"]) == 1
    queue = opened()
    assert await queue.add(RunRow("new")) == 501


@pytest.mark.asyncio
async def test_an_id_is_accepted_once(opened: Open) -> None:
    queue = opened()
    results = await asyncio.gather(
        *(queue.add(RunRow(id_, id_ + str(index))) for index, id_ in enumerate(["a", "b", "a", "c", "b"])),
        return_exceptions=True,
    )
    refused = [result for result in results if isinstance(result, StoreError)]
    assert [type(result) for result in results] == [int, int, StoreError, int, StoreError]
    assert all(error.problem.code == "run_exists" for error in refused)
    first = await queue.get("a")
    assert first is not None
    assert first.document == "a0"
    with pytest.raises(StoreError, match="'c' was accepted before"):
        await queue.add(RunRow("c"))


@pytest.mark.asyncio
async def test_a_bad_row_does_not_take_its_batch_along(opened: Open) -> None:
    queue = opened()
    results = await asyncio.gather(
        queue.add(RunRow("a")),
        queue.add(RunRow("bad", name="\ud800")),
        queue.add(RunRow("worse", document="\ud800")),
        queue.add(RunRow("worst", nodes="many")),  # type: ignore[arg-type]
        queue.add(RunRow("huge", priority=2**70)),
        queue.add(RunRow("b")),
        return_exceptions=True,
    )
    assert [getattr(getattr(result, "problem", None), "code", "") for result in results] == [
        "",
        *["queue_record"] * 4,
        "",
    ]
    assert [row.id for row in await queue.unfinished()] == ["a", "b"]


@pytest.mark.asyncio
async def test_the_first_finish_wins(opened: Open) -> None:
    queue = opened()
    await queue.add(RunRow("a"))
    assert await queue.started("a", at=5.0)
    answers = await asyncio.gather(
        queue.finish("a", "succeeded", result='{"x": 1}', at=7.0),
        queue.finish("a", "failed", error="{}"),
        queue.finish("a", "cancelled"),
    )
    assert answers == [True, False, False]
    assert not await queue.finish("a", "failed")
    assert not await queue.started("a")
    row = await queue.get("a")
    assert row is not None
    assert (row.status, row.started, row.finished, row.result, row.error) == ("succeeded", 5.0, 7.0, '{"x": 1}', None)
    assert row.starts == 1


@pytest.mark.asyncio
async def test_a_run_is_added_begun_and_finished_in_one_batch(opened: Open) -> None:
    queue = opened()
    calls = [
        (queue.add(RunRow(f"r{index}")), queue.started(f"r{index}"), queue.finish(f"r{index}", "succeeded"))
        for index in range(300)
    ]
    results = [await asyncio.gather(*call) for call in calls]
    assert results == [[index + 1, True, True] for index in range(300)]


@pytest.mark.asyncio
async def test_unknown_runs_and_statuses(opened: Open) -> None:
    queue = opened()
    with pytest.raises(NotFoundError, match="'ghost'"):
        await queue.finish("ghost", "failed")
    assert not await queue.started("ghost")
    assert not await queue.journal("ghost", "k", b"")
    with pytest.raises(ValueError, match="'done'"):
        queue.finish("ghost", "done")


@pytest.mark.asyncio
async def test_the_journal_keeps_the_first_result_until_the_run_ends(opened: Open) -> None:
    queue = opened()
    await queue.add(RunRow("a"))
    await queue.add(RunRow("b"))
    answers = await asyncio.gather(
        queue.journal("a", "k1", b"one"), queue.journal("a", "k1", b"two"), queue.journal("b", "k1", b"\0" * 100_000)
    )
    assert answers == [True, False, True]
    queue = opened()
    rows = await queue.unfinished()
    assert [row.journal for row in rows] == [{"k1": b"one"}, {"k1": b"\0" * 100_000}]
    await queue.finish("a", "succeeded")
    assert not await queue.journal("a", "k2", b"late")
    assert ask(queue._folder, "SELECT count(*) FROM journal") == [(1,)]


@pytest.mark.asyncio
async def test_recover_counts_boots_and_keeps_the_order(opened: Open) -> None:
    queue = opened()
    for id_ in "dcba":
        await queue.add(RunRow(id_, document=id_ * 3))
    await queue.started("c")
    await queue.finish("b", "succeeded")
    queue = opened()
    await queue.add(RunRow("new"))
    rows = await queue.recover()
    assert [(row.id, row.status, row.boots, row.starts, row.started) for row in rows] == [
        ("d", "queued", 1, 0, None),
        ("c", "queued", 1, 1, None),
        ("a", "queued", 1, 0, None),
    ]
    assert rows[0].document == "ddd"
    assert [row.boots for row in await queue.recover()] == [1, 1, 1]  # once per engine
    assert (await queue.get("new")).boots == 0  # type: ignore[union-attr]
    await opened().recover()
    rows = await opened().recover()
    assert [(row.id, row.boots) for row in rows] == [("d", 3), ("c", 3), ("a", 3), ("new", 2)]


@pytest.mark.asyncio
async def test_history_is_filtered_and_paged(opened: Open) -> None:
    queue = opened()
    for index in range(25):
        await queue.add(RunRow(f"r{index}", document="{}", client=f"c{index % 2}", created=1e9 + index / 7))
    for index in range(10):
        await queue.finish(f"r{index}", "failed" if index % 5 == 0 else "succeeded", at=2e9 + index / 7)
    page = await queue.history(limit=10)
    assert [row.id for row in page] == [f"r{index}" for index in range(24, 14, -1)]
    assert [row.id for row in await queue.history(limit=10, before=page[-1].number)] == [
        f"r{index}" for index in range(14, 4, -1)
    ]
    assert [row.id for row in await queue.history(status="failed")] == ["r5", "r0"]
    assert len(await queue.history(status=["failed", "succeeded"], client="c1")) == 5
    assert await queue.history(limit=0) == []
    assert await queue.history(status=[]) == []
    assert await queue.count() == 25
    assert await queue.count(status="queued") == 15
    assert await queue.count(status="succeeded", client="c0") == 4
    row, listed = await queue.get("r3"), (await queue.history(status="succeeded"))[-3]
    assert row is not None
    assert listed.document == ""
    assert row.document == "{}"
    assert (listed.id, listed.created, listed.started, listed.finished) == (row.id, 1e9 + 3 / 7, None, 2e9 + 3 / 7)


@pytest.mark.asyncio
async def test_delete_and_prune_touch_only_finished_runs(opened: Open, tmp_path: Path) -> None:
    queue = opened()
    for index in range(20):
        await queue.add(RunRow(f"r{index}", document="{}"))
        if index < 15:
            await queue.finish(f"r{index}", "succeeded", at=1000.0 + index)
    assert await queue.delete(["r0", "r19", "ghost"]) == 1
    assert await queue.prune(older_than_s=100, now=1104.0) == 3  # finished before 1004: r1, r2, r3
    assert await queue.prune(keep=5) == 6
    assert {row.id for row in await queue.history()} == {f"r{index}" for index in range(10, 20)}
    assert await queue.prune(keep=0) == 5
    assert await queue.count() == 5
    assert ask(tmp_path, "SELECT count(*) FROM documents") == [(5,)]


@pytest.mark.asyncio
async def test_added_means_durable(opened: Open, tmp_path: Path) -> None:
    """Seen by a connection that shares nothing with the queue, at the moment the future is done."""
    queue = opened()
    for index in range(50):
        await queue.add(RunRow(f"r{index}"))
        assert ask(tmp_path, f"SELECT count(*) FROM runs WHERE id = 'r{index}'") == [(1,)]
    assert queue._writer._connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert queue._writer._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.asyncio
async def test_many_waiters_share_a_commit(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    queue, commits = opened(), list[int]()
    commit = queue._writer._commit
    monkeypatch.setattr(queue._writer, "_commit", lambda batch: (commits.append(len(batch)), commit(batch))[1])
    await asyncio.gather(*(queue.add(RunRow(f"r{index}")) for index in range(1000)))
    assert sum(commits) == 1000
    assert len(commits) < 50


@pytest.mark.asyncio
async def test_an_end_waits_a_moment_for_the_next_run_and_no_longer(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, commits = opened(), list[int]()
    await queue.add(RunRow("first"))
    commit = queue._writer._commit
    monkeypatch.setattr(queue._writer, "_commit", lambda batch: (commits.append(len(batch)), commit(batch))[1])
    monkeypatch.setattr(group_writer, "PATIENCE_S", 30.0)
    ended = queue.finish("first", "succeeded")
    await queue.add(RunRow("second"))
    assert ended.done()
    assert commits == [2]
    monkeypatch.setattr(group_writer, "PATIENCE_S", 0.01)
    assert await asyncio.wait_for(queue.finish("second", "succeeded"), 5), "nobody came"
    monkeypatch.setattr(group_writer, "PATIENCE_S", 30.0)
    await queue.add(RunRow("third"))
    last = queue.finish("third", "succeeded")
    await asyncio.wait_for(asyncio.to_thread(queue.close), 5)
    assert ask(queue._folder, "SELECT status FROM runs WHERE id = 'third'") == [("succeeded",)]
    assert await last


@pytest.mark.asyncio
async def test_the_loop_is_not_blocked_by_reads_or_writes(opened: Open) -> None:
    queue, gaps = opened(), list[float]()

    async def watch() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            gaps.append(time.perf_counter() - before)

    watcher = asyncio.ensure_future(watch())
    await asyncio.gather(*(queue.add(RunRow(f"r{index}", document="x" * 100_000)) for index in range(300)))
    await queue.history(limit=300)
    await queue.unfinished()
    watcher.cancel()
    assert len(gaps) > 5
    assert max(gaps) < 0.25


@pytest.mark.asyncio
async def test_a_write_that_nobody_awaits_is_written_at_close(opened: Open) -> None:
    queue = opened()
    for index in range(200):
        queue.add(RunRow(f"r{index}"))
    assert len(await opened().unfinished()) == 200


@pytest.mark.asyncio
async def test_a_cancelled_waiter_harms_nobody(opened: Open) -> None:
    queue = opened()
    futures = [queue.add(RunRow(f"r{index}")) for index in range(10)]
    futures[3].cancel()
    results = await asyncio.gather(*futures, return_exceptions=True)
    assert [index for index, result in enumerate(results) if isinstance(result, asyncio.CancelledError)] == [3]
    assert await queue.add(RunRow("after")) == 11


@pytest.mark.asyncio
async def test_a_closed_queue_says_so(opened: Open) -> None:
    queue = opened()
    queue.close()
    queue.close()
    for call in (lambda: queue.add(RunRow("a")), lambda: queue.get("a"), lambda: queue.count()):
        with pytest.raises(StoreError, match="closed"):
            await call()


@pytest.mark.asyncio
async def test_a_full_disk_fails_the_batch_and_not_the_queue(opened: Open, tmp_path: Path) -> None:
    queue = opened()
    await queue.add(RunRow("before"))
    connection = queue._writer._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count={pages + 2}")
    random_text = "".join(map(chr, (33 + (index * 7919 + index // 90) % 90 for index in range(4000))))
    futures = [queue.add(RunRow(f"r{index}", random_text)) for index in range(20)]
    results = await asyncio.gather(*futures, return_exceptions=True)
    assert all(isinstance(result, StoreError) and "full" in str(result) for result in results)
    connection.execute(f"PRAGMA max_page_count={2**30}")
    await queue.add(RunRow("after"))
    assert [row.id for row in await queue.unfinished()] == ["before", "after"]


# --- one engine per folder --------------------------------------------------------------------------------------


def test_a_second_engine_is_told_who_has_the_folder(tmp_path: Path) -> None:
    queue = RunQueue(tmp_path)
    with pytest.raises(StoreError, match=f"process {os.getpid()}") as caught:
        RunQueue(tmp_path)
    assert caught.value.problem.code == "store_locked"
    assert caught.value.problem.remedy
    with pytest.raises(StoreError, match="in use"):
        RunQueue.move_aside(tmp_path)
    queue.close()
    RunQueue(tmp_path).close()


def test_another_process_holds_the_lock_until_it_dies(tmp_path: Path) -> None:
    code = (
        "import sys, time; from graph_engine.store.queue import RunQueue; queue = RunQueue(sys.argv[1]);"
        " print(1, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"1\n"
            with pytest.raises(StoreError, match=f"process {child.pid}"):
                RunQueue(tmp_path)
        finally:
            child.kill()
    RunQueue(tmp_path).close()


# --- damage and age ---------------------------------------------------------------------------------------------


def test_a_file_that_is_no_database_is_named_and_kept_until_asked(tmp_path: Path) -> None:
    (tmp_path / database.FILE_NAME).write_bytes(b"not a database at all" * 1000)
    for _ in range(2):
        with pytest.raises(StoreError, match="is damaged") as caught:
            RunQueue(tmp_path)
        assert caught.value.problem.code == "queue_damaged"
        assert f"anyloom reset-queue --data {tmp_path}" in caught.value.problem.remedy
        assert database.FILE_NAME in str(caught.value)
    aside = RunQueue.move_aside(tmp_path)
    assert aside.read_bytes().startswith(b"not a database")
    RunQueue(tmp_path).close()


@pytest.mark.asyncio
async def test_a_torn_database_is_noticed_when_opened(opened: Open, tmp_path: Path) -> None:
    queue = opened()
    await asyncio.gather(*(queue.add(RunRow(f"r{index}", document="y" * 3000)) for index in range(200)))
    queue.close()
    path = tmp_path / database.FILE_NAME
    data = bytearray(path.read_bytes())
    data[4096 * 3 : 4096 * 20] = b"\xff" * (4096 * 17)
    path.write_bytes(data)
    with pytest.raises(StoreError) as caught:
        RunQueue(tmp_path)
    assert caught.value.problem.code == "queue_damaged"


@pytest.mark.asyncio
async def test_a_damaged_document_is_named(opened: Open, tmp_path: Path) -> None:
    queue = opened()
    await queue.add(RunRow("r", document="z" * 10_000))
    ask(tmp_path, "UPDATE documents SET body = x'00ff'")
    with pytest.raises(StoreError, match="damaged"):
        await queue.get("r")
    assert [row.id for row in await queue.history()] == ["r"]


def test_a_newer_schema_is_not_touched(tmp_path: Path) -> None:
    ask(tmp_path, "PRAGMA user_version=99")
    with pytest.raises(StoreError, match="version 99") as caught:
        RunQueue(tmp_path)
    assert caught.value.problem.code == "queue_version"


@pytest.mark.asyncio
async def test_migrations_run_once_and_whole(opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = opened()
    await queue.add(RunRow("old"))
    queue.close()
    step = ("ALTER TABLE runs ADD COLUMN colour TEXT NOT NULL DEFAULT 'red'",)
    monkeypatch.setattr(database, "MIGRATIONS", (*database.MIGRATIONS, (*step, "SELECT no_such_function()")))
    with pytest.raises(StoreError):
        RunQueue(tmp_path)
    monkeypatch.setattr(database, "MIGRATIONS", (*database.MIGRATIONS[:1], step))
    for _ in range(2):  # the failed attempt left no column behind, and the second start adds none again
        queue = opened()
        assert [row.id for row in await queue.unfinished()] == ["old"]
    assert ask(tmp_path, "SELECT colour FROM runs") == [("red",)]
    assert ask(tmp_path, "PRAGMA user_version") == [(2,)]


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        RunQueue(tmp_path / "file" / "data")


@pytest.mark.asyncio
async def test_adds_and_finishes_are_fast(opened: Open) -> None:
    """Measured about 9,000 per second alone on two cores; a tenth of that fails only when group commit is gone."""
    queue = opened()

    async def client(number: int) -> None:
        for index in range(20):
            await queue.add(RunRow(f"{number}-{index}", document=json.dumps({"nodes": {}})))
            assert await queue.finish(f"{number}-{index}", "succeeded", result="{}")

    before = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(50)))
    assert 1000 / (time.perf_counter() - before) > 600
