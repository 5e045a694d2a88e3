"""What an editor lives on: node types it can draw, kinds it can match."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from graph_engine.client import AsyncClient, ServerError
from tests.protocol.live import LiveServer, chain
from tests.protocol.test_http import take
from tests.protocol.wire import PROTOCOLS, wire

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def http(live: LiveServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"{live.url}/api/v1/") as session:
        yield session


async def test_node_types_have_all_that_is_drawn(http: aiohttp.ClientSession) -> None:
    async with http.get("nodes") as response:
        nodes = {entry["id"]: entry for entry in (await take(response, ("/nodes", "get"), 200))["nodes"]}
    [file, frames] = nodes["media.load_image"]["inputs"]
    assert file["widget"] == {"type": "file", "upload": "image"}
    assert frames["description"].startswith("of an animation")
    async with http.get("nodes/media.solid_image") as response:
        assert (await take(response, ("/nodes/{id}", "get"), 200)) == nodes["media.solid_image"]


async def test_kinds_over_both_doors(live: LiveServer, http: aiohttp.ClientSession) -> None:
    async with http.get("kinds") as response:
        found = (await take(response, ("/kinds", "get"), 200))["kinds"]
    text = next(entry for entry in found if entry["name"] == "STRING")
    assert ("FLOAT", "control.to_number") in [(entry["to"], entry["node"]) for entry in text["converters"]]
    for protocol in PROTOCOLS:
        async with wire(live.url, protocol) as socket:
            assert (await socket.ask("kinds"))["kinds"] == found


async def test_the_timeline_of_a_run(live: LiveServer, http: aiohttp.ClientSession) -> None:
    async with http.post("runs?wait_s=10", json={"document": chain(5, 31), "name": "timed"}) as response:
        run = await response.json()
    async with http.get(f"runs/{run['id']}/timeline") as response:
        trace = await take(response, ("/runs/{id}/timeline", "get"), 200)
    names = [event["name"] for event in trace["traceEvents"] if event["ph"] == "X" and event["cat"] == "steps"]
    assert names == [f"n{number}" for number in range(5)]
    assert trace["otherData"]["name"] == "timed"
    async with AsyncClient(live.url) as client:
        assert await client.timeline(run["id"]) == trace
        with pytest.raises(ServerError):
            await client.timeline("no/body")
    async with http.get("runs/nobody/timeline") as response:
        await take(response, ("/runs/{id}/timeline", "get"), 404)
