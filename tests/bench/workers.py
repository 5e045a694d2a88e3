"""What a process per device costs: `python -m tests.bench.workers`.

A job that does nothing, and jobs that take a tensor and give one of the same size, in a thread of the server and in a
process. One line per row: milliseconds per job (the best of many), and what the way there and back adds.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import torch

from graph_engine.execute.executor import Executor, Outputs, Report, ReportTo, Work
from graph_engine.execute.local import LocalExecutor
from graph_engine.execute.worker import Recipe, WorkerExecutor
from graph_engine.execute.worker_models import Fleet
from graph_engine.graph.registry import Registry
from graph_engine.models.catalog import Catalog
from graph_engine.schedule.messages import Job

PACK = Path(__file__).parents[1] / "unit" / "execute" / "worker_pack"
ROWS = (("nothing", 0, 300), ("64 KB", 2**14, 100), ("1 MB", 2**18, 60), ("16 MB", 2**22, 30), ("64 MB", 2**24, 12))


async def seconds_per_job(make: Any, registry: Registry, floats: int, times: int) -> float:
    """The best of single jobs, one after the other, as a chain of steps would be."""
    loop = asyncio.get_running_loop()
    waiting: dict[int, asyncio.Future[Report]] = {}

    def report(job: int, report: Report) -> None:
        loop.call_soon_threadsafe(waiting[job].set_result, report)

    executor: Executor = make(report)
    await executor.open()
    type, inputs = registry["w.plain"], {"a": 1}
    if floats:
        type, inputs = registry["v.values"], {"given": torch.ones(floats), "size": 1}  # type: ignore[dict-item]
    took = []
    for number in range(times + 3):
        job = Job(number, "k", "r", "n", type, {}, {}, "cpu", 1, {}, (), (), frozenset(), False)
        waiting[number] = loop.create_future()
        began = time.perf_counter()
        executor.start(Work(job, inputs, None))
        answer = await waiting[number]
        took.append(time.perf_counter() - began)
        assert isinstance(answer, Outputs), answer
        del answer
        waiting.clear()
    await executor.close()
    return min(took[3:])


async def main() -> None:
    torch.set_num_threads(1)
    registry = Registry.discover([PACK])

    def threads(report: ReportTo) -> Executor:
        return LocalExecutor(("cpu",), 1, report)

    def process(report: ReportTo) -> Executor:
        return WorkerExecutor(("cpu",), 1, report, Recipe((PACK,)), Fleet(Catalog(), {}))

    print(f"{'a job with':>12}  {'thread':>10}  {'process':>10}  {'adds':>10}  there and back")
    for name, floats, times in ROWS:
        here = await seconds_per_job(threads, registry, floats, times)
        there = await seconds_per_job(process, registry, floats, times)
        rate = f"{2 * 4 * floats / (there - here) / 1e9:.1f} GB/s" if floats >= 2**18 else ""
        print(f"{name:>12}  {here * 1e3:8.3f}ms  {there * 1e3:8.3f}ms  {(there - here) * 1e3:8.3f}ms  {rate}")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
