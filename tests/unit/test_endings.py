"""Endings: what a disk did not take is written once it takes something again, at the latest at the close."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from graph_engine.endings import CUT_AT_LEAST, Endings
from graph_engine.errors import StoreError

pytestmark = pytest.mark.asyncio


class Disk:
    """A queue whose writes are over when the test says so."""

    def __init__(self) -> None:
        self.writes: list[tuple[str, asyncio.Future[bool]]] = []
        self.pruned = 0

    def finish(self, run: str, status: str, **_: Any) -> asyncio.Future[bool]:
        self.writes.append((run, asyncio.get_running_loop().create_future()))
        return self.writes[-1][1]

    def prune(self, keep: int) -> asyncio.Future[int]:
        self.pruned += 1
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        done.set_result(keep)
        return done

    async def answer(self, error: Exception | None = None) -> str:
        """The oldest write ends; returns whose it was."""
        run, write = self.writes.pop(0)
        write.set_result(True) if error is None else write.set_exception(error)
        await asyncio.sleep(0)
        return run


def ended(run: str) -> Any:
    return SimpleNamespace(record=SimpleNamespace(id=run, status="succeeded", result={}, errors=[], finished=1.0))


def made(keep_history: int = 1000) -> tuple[Disk, Endings, list[str]]:
    disk, recorded = Disk(), list[str]()
    roster = SimpleNamespace(recorded=lambda live: recorded.append(live.record.id))
    endings = Endings(cast(Any, disk), cast(Any, roster), keep_history, lambda write: write.add_done_callback(_seen))
    return disk, endings, recorded


def _seen(write: asyncio.Future[Any]) -> None:
    write.exception()


async def test_what_failed_is_written_again_when_the_disk_takes_something() -> None:
    disk, endings, recorded = made()
    endings.write(ended("a"))
    await disk.answer(StoreError("full"))
    assert disk.writes == [] and recorded == []
    endings.write(ended("b"))
    await disk.answer()
    assert recorded == ["b"] and [run for run, _ in disk.writes] == ["a"]
    await disk.answer()
    assert recorded == ["b", "a"]


async def test_what_failed_is_not_lost_when_another_one_is_written_during_the_close() -> None:
    disk, endings, recorded = made()
    endings.write(ended("a"))
    endings.write(ended("b"))
    endings.closing()
    await disk.answer(StoreError("full"))
    await disk.answer()
    assert recorded == ["b"] and disk.writes == []
    closing = asyncio.ensure_future(endings.close())
    await asyncio.sleep(0)
    assert await disk.answer() == "a"
    await closing


async def test_a_disk_that_still_fails_at_the_close_is_no_failure_of_the_close() -> None:
    disk, endings, _ = made()
    for run in "ab":
        endings.write(ended(run))
        await disk.answer(StoreError("full"))
    endings.closing()
    closing = asyncio.ensure_future(endings.close())
    for run in "ab":
        await asyncio.sleep(0)
        assert await disk.answer(StoreError("full")) == run
    await closing


async def test_the_history_is_cut_as_it_grows() -> None:
    disk, endings, _ = made(keep_history=10)
    for number in range(2 * CUT_AT_LEAST + 1):
        endings.write(ended(str(number)))
        await disk.answer()
    assert disk.pruned == 2
