"""What a node costs, through the websocket with all events: `python -m tests.bench.scheduling [--check] [--quick]`.

Server and client are two processes on one machine. Each number is the median of three to nine; --check exits 1 when a bound of
the README is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.bench.server import Served, Wire
from tests.bench.shapes import SHAPES, chain

ROWS: list[tuple[str, float, str, float | None]] = []
"""(what, number, unit, bound: at most; negative: at least)"""


def row(what: str, number: float, unit: str, bound: float | None = None) -> None:
    ROWS.append((what, number, unit, bound))
    promise = "" if bound is None else f"   {'at least' if bound < 0 else 'at most'} {abs(bound):g}"
    missed = "" if held(number, bound) else "   MISSED"
    print(f"{what:58} {number:10.1f} {unit}{promise}{missed}", flush=True)


def held(number: float, bound: float | None) -> bool:
    return bound is None or (number >= -bound if bound < 0 else number <= bound)


async def shapes(server: Served, sizes: list[int]) -> None:
    salt = 0
    for lane in ("inline", "pool"):
        for name, make in SHAPES.items():
            for size in sizes:
                times = []
                async with Wire(server.url) as wire:
                    for _ in range({100: 9, 1000: 7}.get(size, 3)):
                        salt += 1
                        wire.received = wire.events = 0
                        seconds, status = await wire.run(make(size, lane, salt))
                        assert status == "succeeded", status
                        assert wire.events >= 2 * size, "every node has its events"
                        times.append(seconds)
                    row(f"{name}, {size:,} nodes, {lane} lane", statistics.median(times) / size * 1e6, "us/node", 150)
                    if size == 1000:
                        row(f"{name}, {size:,} nodes, {lane} lane: websocket traffic", wire.received / 1e6, "MB", 2)


async def resubmission(server: Served) -> None:
    async with Wire(server.url) as wire:
        document = chain(1000, "inline", 10**6)
        await wire.run(document)
        times = [(await wire.run(document))[0] for _ in range(7)]
        row("fully cached resubmission of 1,000 nodes", statistics.median(times) * 1e3, "ms", 30)
        times = []
        for last in range(5):  # one literal changed at the end: all but one node are cached
            document["nodes"]["n999"]["values"]["b"] = 5000 + last
            times.append((await wire.run(document))[0])
        row("resubmission of 1,000 nodes, the last one changed", statistics.median(times) * 1e3, "ms")


async def validation(server: Served) -> None:
    async with Wire(server.url) as wire:
        times = []
        for salt in range(3):
            began = time.perf_counter()
            await wire.send({"op": "validate", "id": 1, "document": chain(10_000, "inline", 2 * 10**6 + salt)})
            await wire.receive()
            times.append(time.perf_counter() - began)
        row("validation of 10,000 nodes", statistics.median(times) * 1e3, "ms", 300)


async def small_runs(server: Served, count: int) -> None:
    """Pipelined two-node runs, each accepted (durably), executed and reported finished."""
    async with Wire(server.url) as wire:
        finished = 0
        flying = asyncio.Semaphore(64)

        async def submit() -> None:
            for number in range(count):
                await flying.acquire()
                document = chain(2, "inline", 3 * 10**6 + number)
                await wire.send({"op": "submit", "id": number, "document": document, "watch": True})

        began = time.perf_counter()
        sender = asyncio.create_task(submit())
        while finished < count:
            message = await wire.receive()
            if message.get("op") == "events" and message["events"][-1]["type"] == "finished":
                finished += 1
                flying.release()
        await sender
        row("two-node runs accepted, executed and kept", count / (time.perf_counter() - began), "runs/s", -400)


async def responsiveness(server: Served) -> None:
    """`GET /api/v1/runs` while a run of 10,000 nodes executes.

    Who asks is a process of its own: in this one it would wait for the decoding of the run's events.
    """
    command = (sys.executable, "-m", "tests.bench.asker", f"{server.url}/api/v1/runs?limit=20")
    asker = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert asker.stdout is not None
    try:
        assert await asyncio.wait_for(asker.stdout.readline(), 30) == b"ready\n"
        async with Wire(server.url) as wire:
            for salt in range(3):
                await wire.run(chain(10_000, "inline", 4 * 10**6 + salt))
        asker.terminate()
        told, _ = await asyncio.wait_for(asker.communicate(), 30)
    finally:
        if asker.returncode is None:
            asker.kill()
    waits = sorted(json.loads(told))
    row(f"GET /api/v1/runs beside a 10,000-node run, median of {len(waits)}", waits[len(waits) // 2] * 1e3, "ms")
    row("GET /api/v1/runs beside a 10,000-node run, p99", waits[int(len(waits) * 0.99)] * 1e3, "ms", 20)


def import_time() -> None:
    code = "import time; t = time.perf_counter(); import graph_engine; print(time.perf_counter() - t)"
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(5)
    ]
    row("import graph_engine", statistics.median(times) * 1e3, "ms", 300)


async def main(arguments: argparse.Namespace) -> int:
    print(f"Python {platform.python_version()}, {platform.machine()}, {platform.system()}\n")
    import_time()
    sizes = [100, 1000] if arguments.quick else [100, 1000, 10_000]
    with tempfile.TemporaryDirectory() as folder:
        async with Served(Path(folder)) as server:
            row("server ready", server.ready_s * 1e3, "ms", 2000)
            await asyncio.sleep(1)
            row("idle memory, before the first model", server.rss_mb, "MB", 150)
            await shapes(server, sizes)
            await resubmission(server)
            await validation(server)
            await small_runs(server, 500 if arguments.quick else 2000)
            await responsiveness(server)
            await asyncio.sleep(1)
            row("memory after the benchmark", server.rss_mb, "MB", 300)
    missed = [what for what, number, _, bound in ROWS if not held(number, bound)]
    print(f"\n{len(ROWS) - len(missed)} of {len(ROWS)} hold" + (f"; missed: {', '.join(missed)}" if missed else ""))
    return 1 if missed and arguments.check else 0


def parse(arguments: list[str] | None = None) -> Any:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 when a bound is missed")
    parser.add_argument("--quick", action="store_true", help="smaller sizes")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(parse())))
