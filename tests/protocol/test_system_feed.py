"""The live state of memory and queue, over both doors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.protocol.live import LiveServer, workflow
from tests.protocol.test_http import conforms, take
from tests.protocol.wire import PROTOCOLS, wire
from web.system_feed import PACE_S, SystemFeed

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def http(live: LiveServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"{live.url}/api/v1/") as session:
        yield session


async def test_memory_of_every_device(live: LiveServer, http: aiohttp.ClientSession) -> None:
    async with http.get("memory") as response:
        memory = await take(response, ("/memory", "get"), 200)
    assert [entry["device"] for entry in memory["devices"]] == live.engine.system()["devices"]
    [cpu] = memory["devices"]
    assert cpu["budget_bytes"] == live.engine.models.budget_of("cpu")
    assert 0 < cpu["free_bytes"] <= cpu["total_bytes"]
    assert memory["process_bytes"] > 1_000_000
    async with http.get("system") as response:
        system = await take(response, ("/system", "get"), 200)
    assert system["memory"]["devices"][0]["budget_bytes"] == cpu["budget_bytes"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_watcher_is_told_at_once_and_when_something_changes(live: LiveServer, protocol: str) -> None:
    document = workflow({"w": ("trial.wait", {"seconds": 30})}, ["w"])
    async with wire(live.url, protocol) as socket:
        assert await socket.ask("watch_system") == {"watching": True}
        first = await socket.next()
        assert first["op"] == "system"
        conforms(("/memory", "get"), 200, {k: v for k, v in first["system"].items() if k not in ("runs", "tasks")})
        began = time.monotonic()
        run = await socket.ask("submit", document=document)
        while (await socket.next())["system"]["tasks"]["running"] == 0:
            assert time.monotonic() - began < 3
        await socket.ask("cancel", run=run["id"])
        while (await socket.next())["system"]["runs"]["active"]:
            assert time.monotonic() - began < 6
        assert await socket.ask("unwatch_system") == {"unwatched": True}
        assert await socket.ask("unwatch_system") == {"unwatched": False}


async def test_the_feed_of_a_socket_that_went_away_ends(live: LiveServer) -> None:
    async with wire(live.url) as socket:
        await socket.ask("watch_system")
        await socket.next()
    for _ in range(100):
        if not live.server.house.sockets:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the socket is still there")


@pytest.mark.law("P11")
async def test_a_hundred_watchers_cost_one_look_and_a_slow_one_gets_the_latest() -> None:
    looks = 0

    def look() -> dict[str, Any]:
        nonlocal looks
        looks += 1
        return {"time": time.time(), "number": looks, "devices": [{"free_bytes": looks, "used_bytes": 7}]}

    feed = SystemFeed(look)

    async def read(count: int, pause_s: float) -> list[int]:
        found: list[int] = []
        async with aclosing(feed.watch()) as states:  # type: ignore[type-var]
            async for state in states:
                found.append(state["number"])
                if len(found) == count:
                    return found
                await asyncio.sleep(pause_s)
        return found

    began = time.monotonic()
    *quick, slow = await asyncio.gather(*(read(4, 0.0) for _ in range(100)), read(2, 3 * PACE_S))
    assert all(found[0] == 1 and found[-1] <= looks for found in quick)
    assert looks <= (time.monotonic() - began) / PACE_S + 2
    assert slow[1] >= 3, "what came meanwhile was passed over, not kept"


async def test_what_is_no_news_is_not_told() -> None:
    ticks = 0

    def look() -> dict[str, Any]:
        nonlocal ticks
        ticks += 1
        return {"time": ticks, "process_bytes": ticks, "devices": [{"free_bytes": ticks, "used_bytes": 7}]}

    feed, told = SystemFeed(look), 0

    async def read() -> None:
        nonlocal told
        async with aclosing(feed.watch()) as states:  # type: ignore[type-var]
            async for _ in states:
                told += 1

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(read(), 4.5 * PACE_S)
    assert (told, ticks >= 3) == (1, True)
