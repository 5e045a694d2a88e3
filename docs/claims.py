"""What the README says Anyloom does, measured: `python -m docs.claims`. Takes about half a minute.

Each claim is one line: what was done, what was seen. A claim that does not hold ends the script with exit code 1.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from graph_engine import AnyloomError, AsyncClient

Json = dict[str, Any]
CLAIMS: list[Callable[[Path], Awaitable[str]]] = []


def claim(function: Callable[[Path], Awaitable[str]]) -> Callable[[Path], Awaitable[str]]:
    CLAIMS.append(function)
    return function


def document(**nodes: Json) -> Json:
    return {"format": "anyloom", "version": 1, "nodes": nodes}


def step(type: str, links: dict[str, str] | None = None, **values: Any) -> Json:
    return {"type": type, "values": values, "links": links or {}}


def blur(name: str, side: int = 1536) -> Json:
    """About a second of work for one thread."""
    picture = step("media.solid_image", width=side, height=side, color="#336699")
    return document(picture=picture, **{name: step("media.blur_image", {"image": "picture.image"}, radius=60.0)})


@asynccontextmanager
async def server(data: Path) -> AsyncIterator[tuple[AsyncClient, asyncio.subprocess.Process]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "web.cli", "serve", "--port", str(port), "--data", str(data),
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with AsyncClient(f"http://127.0.0.1:{port}") as client:
            while True:
                try:
                    await client.hello()
                    break
                except AnyloomError:
                    if process.returncode is not None:
                        raise
                    await asyncio.sleep(0.05)
            yield client, process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@claim
async def branches(data: Path) -> str:
    """Independent branches run side by side."""
    nodes = {f"s{n}": step("control.sleep", value=n, seconds=1.0) for n in range(8)}
    async with server(data) as (client, _):
        began = time.perf_counter()
        result = await client.run(document(**nodes), targets=list(nodes))
        seconds = time.perf_counter() - began
    assert result.ok, result.errors
    assert seconds < 4, seconds
    return f"8 branches that sleep 1 s each: {seconds:.2f} s"


@claim
async def runs(data: Path) -> str:
    """Several runs at a time, interleaved."""

    def chain(first: int) -> Json:
        nodes = {"n0": step("control.sleep", value=first, seconds=0.2)}
        for n in range(1, 5):
            nodes[f"n{n}"] = step("control.sleep", {"value": f"n{n - 1}.value"}, seconds=0.2)
        return document(**nodes)

    async with server(data) as (client, _):
        began = time.perf_counter()
        results = await asyncio.gather(*(client.run(chain(number), targets=["n4"]) for number in range(4)))
        seconds = time.perf_counter() - began
    assert all(result.ok for result in results)
    assert seconds < 4, seconds
    return f"4 runs, each 5 sleeps of 0.2 s one after the other: {seconds:.2f} s for all four"


@claim
async def shared(data: Path) -> str:
    """The same work wanted by two runs at once is done once."""
    async with server(data) as (client, _):
        ids = [await client.submit(blur("b"), targets=["b"], name=name) for name in ("one", "two")]
        events = [[event async for event in client.events(id)] for id in ids]
    running = [event for one in events for event in one if event["type"] == "running" and event["node"] == "b"]
    ms = [event["ms"] for one in events for event in one if event["type"] == "done" and event["node"] == "b"]
    assert any(event.get("shared") for event in running), running
    assert ms[0] == ms[1], ms
    return f"a large blur wanted by two runs: computed once in {ms[0]:.0f} ms, both runs have it"


@claim
async def durable(data: Path) -> str:
    """A run that was answered with an id is finished after kill -9, without the steps that were done."""
    nodes = {"n0": step("control.sleep", value=1, seconds=0.3)}
    for n in range(1, 8):
        nodes[f"n{n}"] = step("control.sleep", {"value": f"n{n - 1}.value"}, seconds=0.3)
    async with server(data) as (client, process):
        id = await client.submit(document(**nodes), targets=["n7"])
        await asyncio.sleep(1.3)
        process.send_signal(signal.SIGKILL)
        await process.wait()
    async with server(data) as (client, _):
        events = [event async for event in client.events(id)]
    again = {event["node"] for event in events if event["type"] == "done"}
    last = events[-1]
    assert last["status"] == "succeeded", last
    assert "n0" not in again, again
    return f"8 sleeps of 0.3 s, kill -9 after 1.3 s, new server: succeeded, {len(again)} steps of 8 were left to do"


@claim
async def cache(data: Path) -> str:
    """Results are found by content in the next process, whatever the nodes are called."""
    ms = []
    for name in ("first", "renamed"):
        async with server(data) as (client, _):
            await client.run(blur(name, 8))  # so that torch is there
            result = await client.run(blur(name), targets=[name])
            assert result.ok
            finished = [event async for event in client.events(result.id)]
            ms.append(finished[-1]["seconds"] * 1e3)
    assert [event["type"] for event in finished if event.get("nodes") == ["renamed"]] == ["cached"], finished
    return f"a large blur: {ms[0]:.0f} ms; in a new server, under another node name: {ms[1]:.0f} ms (cached on disk)"


@claim
async def failure(data: Path) -> str:
    """A failing branch leaves its siblings alone."""
    workflow = document(
        text=step("control.text", value="ok"),
        bad=step("control.fail_if", {"value": "text.text"}, condition=True),
        after=step("media.save_text", {"text": "bad.value"}, name="never"),
        good=step("media.save_text", {"text": "text.text"}, name="good"),
    )
    async with server(data) as (client, _):
        result = await client.run(workflow)
    assert [error["node"] for error in result.errors] == ["bad"], result.errors
    assert (result.status, [file["name"] for file in result.files]) == ("partial", ["good_00001.txt"])
    return f"one of two branches fails: the run is {result.status}, the other's file is there, the error names the node"


@claim
async def lazy(data: Path) -> str:
    """What is not chosen is not computed, and a skipped modality loads no model."""
    async with server(data) as (client, _):
        result = await client.run(
            "image_to_text", {"picture.file": await client.upload("workflows/media/lighthouse.png")}
        )
        models = (await client.system())["models"]
    assert result.ok
    loaded = sum(len(device["models"]) for device in models)
    assert loaded == 3, models
    return f"image_to_text loads {loaded} of the preset's 9 models: no decoder that nobody asked for"


@claim
async def resume(data: Path) -> str:
    """A watcher that lost its connection goes on after the last event it saw."""
    nodes = {f"n{n}": step("control.sleep", value=n, seconds=0.05) for n in range(50)}
    async with server(data) as (client, _):
        id = await client.submit(document(**nodes), targets=list(nodes))
        seen: list[int] = []
        async for event in client.events(id):
            seen.append(event["seq"])
            if len(seen) == 40:
                break
        await client.close()  # the socket is gone; the client opens another
        async for event in client.events(id, after=seen[-1]):
            seen.append(event["seq"])
        whole = [event["seq"] async for event in client.events(id)]
    assert seen == whole
    assert seen == sorted(set(seen))
    return f"{len(whole)} events, connection closed after 40: the other {len(whole) - 40} follow, none lost, none twice"


async def main() -> int:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    failed = 0
    for check in CLAIMS:
        with tempfile.TemporaryDirectory() as folder:
            try:
                seen = await check(Path(folder))
            except AssertionError as error:
                seen, failed = f"DOES NOT HOLD: {error}", failed + 1
        print(f"{(check.__doc__ or '').strip()}\n    {seen}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
