"""What a process per device costs: `python -m tests.bench.workers`.

A job that does nothing, and jobs that take a tensor and give one of the same size, in a thread of the server and in a
process. One line per row: milliseconds per job (the best of many), and what the way there and back adds.

`--turn`: instead, how long a first turn of any_to_any (`tiny`) takes in processes that have imported nothing, in processes
that had time to import libraries before it, and a further turn; with what the processes hold in memory before and after.

`--first`: instead, the same of a process's first job, with a torch model of one small layer: in CPU time of the process.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors.torch import save_file

from graph_engine.engine import Engine
from graph_engine.execute.executor import Executor, Outputs, Report, ReportTo, Work
from graph_engine.execute.local import LocalExecutor
from graph_engine.execute.worker import Recipe, WorkerExecutor
from graph_engine.execute.worker_models import Fleet
from graph_engine.graph.registry import Registry
from graph_engine.models.catalog import Catalog
from graph_engine.schedule.messages import Job
from graph_engine.settings import Settings
from nodes.nextgpt.any_to_any import any_to_any

PACK = Path(__file__).parents[1] / "unit" / "execute" / "worker_pack"
MEDIA = Path(__file__).parents[2] / "workflows" / "media"
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


SMALL = {
    "think.max_new_tokens": 40, "decode_image.steps": 2, "decode_image.width": 32, "decode_image.height": 32,
    "decode_video.steps": 2, "decode_video.width": 32, "decode_video.height": 32, "decode_video.frames": 4,
    "decode_audio.steps": 2, "decode_audio.seconds": 0.3,
}  # fmt: skip
EVERYTHING = ("text", "image", "video", "audio")
DEVICES = ("cpu:0", "cpu:1")


async def turn(engine: Engine, salt: int) -> float:
    """Seconds of one turn; salt: a seed of its own, so that nothing comes from a cache."""
    began = time.perf_counter()
    values = {**SMALL, "think.seed": salt}
    record = await engine.submit(any_to_any(EVERYTHING, EVERYTHING), values=values)
    record = await engine.wait(record.id)
    assert record.status == "succeeded", record.errors
    return time.perf_counter() - began


async def turns(workers: str, warm_s: float, data: Path) -> tuple[float, float, int]:
    """Seconds of the first turn and of a second one; bytes that the processes hold before the first."""
    settings = Settings(data_dir=data, devices=DEVICES, workers=workers, warm_s=warm_s)  # type: ignore[arg-type]
    settings.input_dir.mkdir(parents=True, exist_ok=True)
    for medium in MEDIA.iterdir():
        shutil.copy(medium, settings.input_dir)
    async with await Engine.open(settings) as engine:
        held = 0
        if isinstance(engine._executor, WorkerExecutor):
            children = [worker.child for worker in engine._executor.workers.values()]
            while warm_s and not all(child is not None and child.warm for child in children):
                await asyncio.sleep(0.05)
            held = sum(psutil.Process(child.process.pid).memory_info().rss for child in children if child is not None)
        return await turn(engine, 1), await turn(engine, 2), held


async def first_turns() -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        await turns("none", 0.0, data / "threads")  # so that this process has imported everything
        rows = {
            "threads": await turns("none", 0.0, data / "again"),
            "process": await turns("process", 0.0, data / "cold"),
            "warmed": await turns("process", 600.0, data / "warm"),
        }
    hot = rows["threads"][0]
    print(f"{'':>8}  {'first turn':>10}  {'of threads':>10}  {'second':>8}  {'held before':>11}")
    for name, (first, second, held) in rows.items():
        print(f"{name:>8}  {first:9.2f}s  {first / hot:10.2f}  {second:7.2f}s  {held / 1e6:8.0f} MB")


async def first_job(warm_s: float, data: Path) -> tuple[float, int]:
    """CPU seconds of a process in its first job; bytes that it holds before."""
    settings = Settings(data_dir=data, devices=("cpu",), workers="process", warm_s=warm_s, custom_nodes=(PACK,))
    settings.models_path.mkdir(parents=True)
    save_file(torch.nn.Linear(64, 64).state_dict(), settings.models_path / "a.safetensors")
    nodes = {
        "load": {"type": "v.load", "values": {"name": "a"}},
        "use": {"type": "v.use", "links": {"model": "load.input_projector"}},
    }
    async with await Engine.open(settings) as engine:
        assert isinstance(engine._executor, WorkerExecutor)
        child = engine._executor.workers["cpu"].child
        assert child is not None
        while warm_s and not child.warm:
            await asyncio.sleep(0.05)
        process = psutil.Process(child.process.pid)
        held, before = process.memory_info().rss, sum(process.cpu_times()[:2])
        record = await engine.submit({"format": "anyloom", "version": 1, "nodes": nodes})
        record = await engine.wait(record.id)
        assert record.status == "succeeded", record.errors
        return sum(process.cpu_times()[:2]) - before, held


async def first_jobs() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, warm_s in (("process", 0.0), ("warmed", 600.0)):
            took, held = await first_job(warm_s, Path(folder) / name)
            print(f"{name:>8}: {took:.2f} s of CPU for the first job; {held / 1e6:.0f} MB held before")


async def main() -> None:
    if "--first" in sys.argv[1:]:
        await first_jobs()
        return
    if "--turn" in sys.argv[1:]:
        await first_turns()
        return
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
