"""A sweep: every combination a run, what they share computed once, and all of them or none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.protocol.live import LiveServer, workflow
from tests.protocol.test_http import take

pytestmark = pytest.mark.asyncio
PLAN, START = ("/sweeps/plan", "post"), ("/sweeps", "post")


@pytest_asyncio.fixture
async def http(live: LiveServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"{live.url}/api/v1/") as session:
        yield session


def sum_of(start: int) -> dict[str, Any]:
    """base -> middle -> end -> shown: an axis at `end` shares the first two."""
    nodes = {
        "base": ("trial.add", {"a": start}),
        "middle": ("trial.add", {"b": 10}, {"a": "base.int"}),
        "end": ("trial.add", {"b": 0}, {"a": "middle.int"}),
        "out": ("trial.show", {}, {"value": "end.int"}),
    }
    return workflow(nodes, title="sums")


async def test_what_runs_share_is_counted_and_computed_once(http: aiohttp.ClientSession) -> None:
    document = sum_of(7000)
    wish = {
        "document": document,
        "axes": [{"input": "middle.b", "values": [1, 2]}, {"input": "end.b", "values": [5, 6, 7]}],
    }
    async with http.post("sweeps/plan", json=wish) as response:
        plan = await take(response, PLAN, 200)
    # base once for six, middle once for three each, end and out in each: 1 + 2 + 6 + 6 of 24
    assert plan == {"runs": 6, "steps": 24, "shared": 9, "cached": 0}
    async with http.post("sweeps?client=grid", json=wish) as response:
        made = await take(response, START, 202)
    assert made["tally"] == plan
    assert [list(cell["values"].values()) for cell in made["cells"]] == [[1, 5], [1, 6], [1, 7], [2, 5], [2, 6], [2, 7]]
    assert made["cells"][1]["run"]["name"] == "sums · b 1, b 6"
    computed = 0
    for cell in made["cells"]:
        async with http.get(f"runs/{cell['run']['id']}?wait_s=10") as response:
            run = await response.json()
        assert run["status"] == "succeeded"
        assert run["client"] == "grid"
        assert run["result"]["out"]["value"] == 7001 + sum(cell["values"].values())
        async with http.get(f"runs/{run['id']}/timeline") as response:
            events = (await response.json())["traceEvents"]
        computed += sum(event.get("cat") == "steps" and event["name"] in ("base", "middle", "end") for event in events)
    assert computed == 9
    async with http.post("sweeps/plan", json=wish) as response:
        # `out` is external and so done in every run; the other nine are there
        assert await take(response, PLAN, 200) == {"runs": 6, "steps": 24, "shared": 9, "cached": 9}


@pytest.mark.parametrize(
    ("axes", "status", "place"),
    [
        (None, 400, "/axes"),
        ([], 400, "/axes"),
        ([{"input": "end.b", "values": [1]}] * 5, 400, "/axes"),
        ([{"input": "end.b", "values": [1]}] * 2, 400, "/axes"),
        ([{"input": "end", "values": [1]}], 400, "/axes/0/input"),
        ([{"input": "end.b", "values": []}], 400, "/axes/0/values"),
        ([{"input": "end.b", "values": [1, 1]}], 400, "/axes/0/values"),
        ([{"input": "end.b", "values": [1], "label": "b"}], 400, "/axes/0/label"),
        ([{"input": "end.b", "values": list(range(300))}], 429, "/axes"),
    ],
)
async def test_what_is_no_sweep(http: aiohttp.ClientSession, axes: Any, status: int, place: str) -> None:
    async with http.post("sweeps/plan", json={"document": sum_of(1), "axes": axes}) as response:
        assert (await response.json())["error"]["place"] == place
        assert response.status == status


async def test_a_field_that_a_sweep_does_not_have(http: aiohttp.ClientSession) -> None:
    wish = {"document": sum_of(1), "axes": [{"input": "end.b", "values": [1]}], "value": {}}
    for route in ("sweeps/plan", "sweeps"):
        async with http.post(route, json=wish) as response:
            error = (await response.json())["error"]
        assert (response.status, error["place"]) == (400, "/value")
        assert "'values'" in error["remedy"]


async def test_all_of_the_runs_or_none(http: aiohttp.ClientSession) -> None:
    """The last value is refused by the field's range: nothing has begun."""
    wish = {"document": sum_of(2), "axes": [{"input": "end.b", "values": [1, 2, 100_001]}], "name": "nothing"}
    async with http.post("sweeps", json=wish) as response:
        error = (await take(response, START, 422))["error"]
    assert error["message"].startswith("with b 100001: ")
    assert (error["node"], error["port"]) == ("end", "b")
    await asyncio.sleep(0.05)
    async with http.get("runs") as response:
        assert not [run for run in (await response.json())["runs"] if run["name"].startswith("nothing")]
