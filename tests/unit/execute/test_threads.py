"""The lane of threads, where a moment decides."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from works import job, typed

from graph_engine.execute.executor import Outputs, Report, Work
from graph_engine.execute.threads import ThreadLane


def nap(seconds: float) -> float: ...


class SlowLook(dict[int, int]):
    """Which job each thread is at, told so late that it is true no more."""

    def get(self, key: int, default: Any = None) -> Any:
        found = super().get(key, default)
        time.sleep(0.2)
        return found


@pytest.mark.asyncio
async def test_a_job_that_ends_while_it_is_given_up_leaves_the_lane_alive(tmp_path: Path) -> None:
    """It was counted as gone twice, and the lane took no job ever after."""
    done: list[int] = []

    def serve(work: Work) -> Iterator[tuple[Work, Report]]:
        time.sleep(work.job.literals["seconds"])
        yield work, Outputs((1.0,), 0.0)

    lane = ThreadLane("test", 2, serve, lambda work, report: done.append(work.job.id))
    lane._at_work = SlowLook()
    kind = typed(nap)
    first, second = (Work(job(kind, seconds=seconds), {}, None) for seconds in (0.1, 0.0))
    lane.put(first)
    await asyncio.sleep(0.03)
    lane.abandon(first.job.id)
    await asyncio.sleep(0.1)
    lane.put(second)
    until = time.monotonic() + 5
    while len(done) < 2 and time.monotonic() < until:
        await asyncio.sleep(0.01)
    assert done == [first.job.id, second.job.id]
    assert lane._active == 0
    for thread in lane.dismiss():
        thread.join(5)
