"""Waiting takes its time and ends at once when the run is cancelled."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from graph_engine.errors import Cancelled
from nodes.control import async_sleep, sleep
from tests.contexts import FolderContext


def test_sleep_waits_and_hands_on(tmp_path: Path) -> None:
    start = time.monotonic()
    assert sleep(FolderContext(tmp_path), 0.05, "x") == "x"
    assert time.monotonic() - start >= 0.05


def test_sleep_ends_when_cancelled(tmp_path: Path) -> None:
    context = FolderContext(tmp_path)
    context.stop_after = 2
    start = time.monotonic()
    with pytest.raises(Cancelled):
        sleep(context, 60.0)
    assert time.monotonic() - start < 1


def test_async_sleeps_overlap_and_need_no_thread(tmp_path: Path) -> None:
    context = FolderContext(tmp_path)

    async def many() -> list[int | None]:
        return await asyncio.gather(*(async_sleep(context, 0.1, number) for number in range(200)))

    start = time.monotonic()
    assert asyncio.run(many()) == list(range(200))
    assert time.monotonic() - start < 1
    assert async_sleep.node_type.lane == "async"
    assert sleep.node_type.lane == "pool"


def test_async_sleep_ends_when_cancelled(tmp_path: Path) -> None:
    context = FolderContext(tmp_path)
    context.stop_after = 1
    with pytest.raises(Cancelled):
        asyncio.run(async_sleep(context, 60.0))
