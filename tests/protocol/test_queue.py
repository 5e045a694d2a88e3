"""Queue, breakpoints, pins and history, over both doors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from graph_engine.client import AsyncClient
from tests.protocol.live import LiveServer, chain, workflow
from tests.protocol.test_http import take
from tests.protocol.wire import PROTOCOLS, wire

pytestmark = pytest.mark.asyncio
WAIT = workflow({"w": ("trial.wait", {"seconds": 30})}, ["w"])


@pytest_asyncio.fixture
async def http(live: LiveServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"{live.url}/api/v1/") as session:
        yield session


async def submit(http: aiohttp.ClientSession, document: Any, wait_s: float = 0, **more: Any) -> dict[str, Any]:
    async with http.post(f"runs?wait_s={wait_s}", json={"document": document, **more}) as response:
        assert response.status in (200, 202), await response.text()
        found: dict[str, Any] = await response.json()
        return found


async def test_breakpoints_and_pins_over_http(http: aiohttp.ClientSession) -> None:
    run = await submit(http, chain(4, 61), breakpoints=["n2"])
    async with asyncio.timeout(5):
        while True:
            async with http.get(f"runs/{run['id']}") as response:
                if (await take(response, ("/runs/{id}", "get"), 200))["paused"] == ["n2"]:
                    break
    async with http.get(f"runs/{run['id']}/events") as response:
        [paused] = [event for event in (await response.json())["events"] if event["type"] == "paused"]
    ref = paused["inputs"]["a"]
    async with http.get(f"artifacts/{ref['artifact']}/{ref['port']}?format=json") as response:
        on_the_wire = (await response.json())["value"]
    async with http.get("queue") as response:
        queue = await take(response, ("/queue", "get"), 200)
    [entry] = [entry for entry in queue["runs"] if entry["id"] == run["id"]]
    assert (entry["paused"], entry["done"], entry["working"]) == (["n2"], 2, [])
    async with http.post(f"runs/{run['id']}/continue", json={"node": "n2"}) as response:
        assert await take(response, ("/runs/{id}/continue", "post"), 200) == {"continued": ["n2"]}
    async with http.get(f"runs/{run['id']}?wait_s=5") as response:
        assert (await response.json())["status"] == "succeeded"
    async with http.post(f"runs/{run['id']}/continue") as response:
        assert await take(response, ("/runs/{id}/continue", "post"), 200) == {"continued": []}
    pinned = await submit(http, chain(4, 61), 5, values={"n0.a": 9000}, pins={"n1": run["id"]}, targets=["n2"])
    assert pinned["result"] == {"n2": {"int": on_the_wire + 1}}, "n1 as it was, whatever n0 would be"
    async with http.post("runs", json={"document": chain(4), "pins": {"n1": "0" * 32}}) as response:
        assert (await take(response, ("/runs", "post"), 404))["error"]["code"] == "pin_gone"


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"pins": ["n1"]}, "/pins"),
        ({"pins": {"n1": 5}}, "/pins"),
        ({"breakpoints": "n1"}, "/breakpoints"),
        ({"breakpoints": ["nobody"]}, "/breakpoints/nobody"),
        ({"breakpoints": [str(number) for number in range(1001)]}, "/pins and breakpoints"),
    ],
)
async def test_wishes_that_are_none(http: aiohttp.ClientSession, fields: dict[str, Any], place: str) -> None:
    async with http.post("runs", json={"document": chain(3), **fields}) as response:
        assert (await take(response, ("/runs", "post"), 400))["error"]["place"] == place


async def test_hold_release_priority_and_cancel_all_over_http(http: aiohttp.ClientSession) -> None:
    async with http.post("queue/hold") as response:
        assert await take(response, ("/queue/hold", "post"), 200) == {"held": True}
    first, second = await submit(http, chain(3, 71)), await submit(http, WAIT)
    async with http.post(f"runs/{second['id']}/priority", json={"priority": 3}) as response:
        assert await take(response, ("/runs/{id}/priority", "post"), 200) == {"changed": True}
    async with http.post(f"runs/{second['id']}/priority", json={}) as response:
        await take(response, ("/runs/{id}/priority", "post"), 400)
    async with http.get("queue") as response:
        queue = await take(response, ("/queue", "get"), 200)
    assert queue["held"]
    assert [entry["id"] for entry in queue["runs"]][:2] == [second["id"], first["id"]]
    async with http.get(f"runs/{first['id']}?wait_s=0.1") as response:
        assert (await response.json())["status"] == "running"
    async with http.post("queue/release") as response:
        assert await take(response, ("/queue/release", "post"), 200) == {"held": False}
    async with http.get(f"runs/{first['id']}?wait_s=5") as response:
        assert (await response.json())["status"] == "succeeded"
    async with http.post("queue/cancel") as response:
        assert (await take(response, ("/queue/cancel", "post"), 200))["cancelled"] >= 1
    async with http.get(f"runs/{second['id']}?wait_s=5") as response:
        assert (await response.json())["status"] == "cancelled"
    async with http.post(f"runs/{second['id']}/priority", json={"priority": 3}) as response:
        assert await take(response, ("/runs/{id}/priority", "post"), 200) == {"changed": False}


async def test_history_shows_media_and_is_forgotten(live: LiveServer, http: aiohttp.ClientSession) -> None:
    picture = workflow(
        {"p": ("media.solid_image", {"width": 8, "height": 8}), "s": ("media.save_image", {}, {"image": "p.image"})},
        ["s"],
    )
    run = await submit(http, picture, 60, name="a picture")
    assert run["status"] == "succeeded", run
    async with http.get("history?limit=5") as response:
        page = await take(response, ("/history", "get"), 200)
    [entry] = [entry for entry in page["history"] if entry["id"] == run["id"]]
    assert (entry["name"], entry["status"], entry["errors"], entry["more_media"]) == ("a picture", "succeeded", 0, 0)
    [file] = entry["media"]
    assert (file["node"], file["folder"], file["media_type"]) == ("s", "output", "image/png")
    async with http.get(f"files/{file['folder']}/{file['name']}") as response:
        assert response.status == 200
    async with http.get(f"history?limit=1&before={run['number'] + 1}") as response:
        page = await take(response, ("/history", "get"), 200)
    assert ([entry["id"] for entry in page["history"]], page["next"]) == ([run["id"]], run["number"])
    for expected in (1, None):
        async with http.delete(f"history/{run['id']}") as response:
            status = 200 if expected else 404
            body = await take(response, ("/history/{id}", "delete"), status)
            assert expected is None or body == {"deleted": expected}
    going = await submit(http, WAIT)
    async with http.delete(f"history/{going['id']}") as response:
        assert await take(response, ("/history/{id}", "delete"), 200) == {"deleted": 0}
    async with http.delete("history?status=partial") as response:
        assert await take(response, ("/history", "delete"), 200) == {"deleted": 0}
    async with http.delete("history") as response:
        assert (await take(response, ("/history", "delete"), 200))["deleted"] >= 0
    async with http.get("runs") as response:
        assert all(entry["status"] == "running" for entry in (await response.json())["runs"])
    async with http.delete(f"runs/{going['id']}") as response:
        assert (await response.json())["cancelled"]


async def test_the_client_library_pauses_and_goes_on(live: LiveServer) -> None:
    async with AsyncClient(live.url) as client:
        run = await client.submit(chain(3, 91), breakpoints=["n1"])
        async for event in client.events(run):
            if event["type"] == "paused":
                assert await client.go_on(run) == ["n1"]
        result = await client.result(run)
        assert result.status == "succeeded"
        again = await client.submit(chain(3, 91), {"n0.a": 500}, pins={"n2": run})
        assert (await client.wait(again)).outputs == result.outputs


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_the_same_over_the_websocket(live: LiveServer, protocol: str) -> None:
    async with wire(live.url, protocol) as socket:
        number = 81 if protocol == PROTOCOLS[0] else 82
        run = await socket.ask("submit", document=chain(3, number), breakpoints=["n1"], watch=True)
        seen: list[dict[str, Any]] = []
        while not seen or seen[-1]["type"] != "paused":
            seen += (await socket.next())["events"]
        assert await socket.ask("continue", run=run["id"]) == {"continued": ["n1"]}
        rest = await socket.events(run["id"])
        assert [event["type"] for event in rest if event.get("node") == "n1"] == ["continued", "running", "done"]
        assert await socket.ask("hold") == {"held": True}
        held = await socket.ask("submit", document=WAIT)
        assert await socket.ask("prioritise", run=held["id"], priority=2) == {"changed": True}
        queue = await socket.ask("queue")
        assert (queue["held"], queue["runs"][0]["id"], queue["runs"][0]["priority"]) == (True, held["id"], 2)
        assert await socket.ask("hold", on=False) == {"held": False}
        assert (await socket.ask("cancel_all"))["cancelled"] >= 1
        entries = (await socket.ask("history", limit=50))["history"]
        assert run["id"] in [entry["id"] for entry in entries]
        assert await socket.ask("delete", run=run["id"]) == {"deleted": 1}
        assert (await socket.refused("delete", run=run["id"]))["code"] == "unknown_run"
        assert (await socket.ask("clear_history", status="succeeded"))["deleted"] >= 0
        for op, fields in (
            ("hold", {"on": 1}),
            ("prioritise", {"run": held["id"]}),
            ("clear_history", {"status": "odd"}),
        ):
            assert (await socket.refused(op, **fields))["code"] == "bad_field"


async def test_why_a_run_computed_what_it_computed(
    live: LiveServer, http: aiohttp.ClientSession, tmp_path: Any
) -> None:
    first = await submit(http, chain(4, 401), 5, name="why")
    again = await submit(http, chain(4, 401), 5, values={"n2.b": 7}, name="why")
    async with http.get(f"runs/{again['id']}/explain") as response:
        found = await take(response, ("/runs/{id}/explain", "get"), 200)
    assert found["compared_with"]["run"] == first["id"]
    entries = {entry["node"]: entry for entry in found["nodes"]}
    assert (entries["n1"]["outcome"], entries["n1"]["cached"], entries["n1"]["why"]) == ("cached", True, [])
    assert entries["n0"]["outcome"] == "not_needed"
    [why] = entries["n2"]["why"]
    assert (why["what"], why["input"], why["new"]) == ("literal", "b", 7)
    assert entries["n3"]["why"] == [{"what": "upstream", "input": "a", "node": "n2"}]
    async with wire(live.url) as socket:
        same = await socket.ask("explain", run=again["id"], **{"with": again["id"]})
        assert {entry["node"]: entry["why"] for entry in same["nodes"]}["n3"] == [{"what": "gone"}]
        assert (await socket.refused("explain", run="nobody"))["code"] == "unknown_run"
    async with http.get(f"runs/{again['id']}/explain?with=nobody") as response:
        await take(response, ("/runs/{id}/explain", "get"), 404)


async def test_a_changed_file_is_the_reason(live: LiveServer, http: aiohttp.ClientSession) -> None:
    path = live.engine.folders.roots["input"] / "why.txt"
    document = workflow(
        {"t": ("media.load_text", {"file": "why.txt"}), "e": ("trial.echo", {}, {"value": "t.text"})}, ["e"]
    )
    whys = []
    for content in ("one", "another"):
        path.write_text(content)
        run = await submit(http, document, 10, name="file")
        assert run["result"]["e"]["value"] == content
        async with http.get(f"runs/{run['id']}/explain") as response:
            nodes = (await take(response, ("/runs/{id}/explain", "get"), 200))["nodes"]
        whys.append({entry["node"]: [why["what"] for why in entry["why"]] for entry in nodes})
    assert whys == [{"t": ["first"], "e": ["first"]}, {"t": ["file"], "e": ["upstream"]}]
