"""What Prometheus is told: its own parser reads it, and the numbers are right."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
import torch
from prometheus_client.parser import text_string_to_metric_families
from safetensors.torch import save_file

from tests.protocol.live import LiveServer, chain, two, workflow
from web.pulse import BEAT_S, Pulse

pytestmark = pytest.mark.asyncio
PACK = Path(__file__).parents[1] / "unit" / "execute" / "worker_pack"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server that nobody else gives work to."""
    with LiveServer(tmp_path_factory.mktemp("metrics")) as server:
        yield server


@pytest_asyncio.fixture
async def http(own: LiveServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(own.url) as session:
        yield session


async def look(http: aiohttp.ClientSession) -> Samples:
    async with http.get("/metrics") as response:
        assert response.status == 200
        assert response.content_type == "text/plain"
        text = await response.text()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_no_time_goes_backwards_when_the_clock_is_set_back(
    own: LiveServer, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda now=time.time: now() - 3600)
    assert (await look(http))["anyloom_uptime_seconds", frozenset()] >= 0
    async with http.get("/api/v1/system") as response:
        assert (await response.json())["server"]["uptime_s"] >= 0


def of(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


async def run(http: aiohttp.ClientSession, document: object) -> None:
    async with http.post("/api/v1/runs?wait_s=10", json={"document": document}) as response:
        assert response.status == 200


async def test_runs_steps_and_caches(own: LiveServer, http: aiohttp.ClientSession) -> None:
    before = await look(http)
    await run(http, chain(7, 99))
    await run(http, chain(7, 99))
    await run(http, workflow({"f": "trial.fail", "e": ("trial.echo", {}, {"value": "f.text"})}, ["e"]))
    await run(http, workflow({"w": ("trial.wait", {"seconds": 0.02})}, ["w"]))
    after = await look(http)

    def grew(name: str, **labels: str) -> float:
        return of(after, name, **labels) - of(before, name, **labels)

    assert grew("anyloom_runs_total", status="succeeded") == 3
    assert grew("anyloom_runs_total", status="failed") == 1
    assert grew("anyloom_steps_total", outcome="done") == 8
    assert grew("anyloom_steps_total", outcome="cached") == 1, "only the last of the chain had to be looked up"
    assert (grew("anyloom_steps_total", outcome="failed"), grew("anyloom_steps_total", outcome="blocked")) == (1, 1)
    assert of(after, "anyloom_runs_active") == 0
    assert of(after, "anyloom_tasks", state="running") == 0
    assert of(after, "anyloom_node_seconds_count", type="trial.wait") == 1
    assert of(after, "anyloom_node_seconds_bucket", type="trial.wait", le="0.01") == 0
    assert of(after, "anyloom_node_seconds_bucket", type="trial.wait", le="300") == 1
    assert 0.02 <= of(after, "anyloom_node_seconds_sum", type="trial.wait") < 1
    assert ("anyloom_node_seconds_count", frozenset({("type", "trial.add")})) not in after
    assert of(after, "anyloom_cache_entries", cache="memory") > of(before, "anyloom_cache_entries", cache="memory")
    again = await look(http)
    done = [of(samples, "anyloom_steps_total", outcome="done") for samples in (after, again)]
    assert done[0] == done[1], "looking counts nothing twice"


async def test_devices_and_sockets(own: LiveServer, http: aiohttp.ClientSession) -> None:
    async with http.ws_connect("/api/v1/ws"):
        samples = await look(http)
    assert of(samples, "anyloom_websocket_clients") == 1
    assert of(samples, "anyloom_device_bytes", device="cpu", what="budget") == own.engine.models.budget_of("cpu")
    assert of(samples, "anyloom_device_copied_bytes_total", device="cpu") == 0
    assert of(samples, "anyloom_process_resident_bytes") > 1e6


async def test_counts_outlive_the_events_they_were_counted_from(own: LiveServer, http: aiohttp.ClientSession) -> None:
    before = await look(http)
    await run(http, two("to be deleted"))
    [newest] = await asyncio.to_thread(lambda: own.do(own.engine.runs(limit=1)))
    assert await asyncio.to_thread(lambda: own.do(own.engine.delete([newest.id]))) == 1
    after = await look(http)
    done = [of(samples, "anyloom_steps_total", outcome="done") for samples in (before, after)]
    assert done[1] - done[0] == 2


async def test_two_servers_in_one_process_count_apart(
    own: LiveServer, http: aiohttp.ClientSession, tmp_path_factory: pytest.TempPathFactory
) -> None:
    await run(http, two("mine"))
    with LiveServer(tmp_path_factory.mktemp("other")) as other:
        async with aiohttp.ClientSession(other.url) as session:
            samples = await look(session)
            assert of(samples, "anyloom_runs_total", status="succeeded") == 0


async def test_a_loop_that_was_held_up_is_late() -> None:
    pulse = Pulse()
    pulse.start()
    await asyncio.sleep(0.9 * BEAT_S)
    time.sleep(0.4 * BEAT_S)  # noqa: ASYNC251  (the very thing that is measured)
    await asyncio.sleep(0.01)
    pulse.stop()
    assert pulse.worst_s() == pulse.latest_s >= 0.2 * BEAT_S
    assert pulse.worst_s() == 0.0


async def test_what_was_copied_is_what_the_files_hold(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Two models of one layer, each used twice: by the header of its file, 64 x 64 and 64 numbers of 4 bytes."""
    folder = tmp_path_factory.mktemp("copied")
    server = LiveServer(folder, catalog=None)
    server.settings = replace(server.settings, custom_nodes=(PACK,))
    server.settings.models_path.mkdir(parents=True)
    bytes = 0
    for name in ("a", "b"):
        path = server.settings.models_path / f"{name}.safetensors"
        save_file(torch.nn.Linear(64, 64).state_dict(), path)
        bytes += path.stat().st_size - 8 - int.from_bytes(path.read_bytes()[:8], "little")
    links = {"model": "load.input_projector"}
    with server:
        async with aiohttp.ClientSession(server.url) as session:
            for salt, name in enumerate("abab"):
                nodes = {"load": ("v.load", {"name": name}), "use": ("v.use", {"salt": salt}, links)}
                await run(session, workflow(nodes, ["use"]))
            samples = await look(session)
    assert of(samples, "anyloom_runs_total", status="succeeded") == 4
    assert of(samples, "anyloom_device_copied_bytes_total", device="cpu") == bytes == 2 * 4 * (64 * 64 + 64)
    assert of(samples, "anyloom_device_loads_total", device="cpu") == 2
    assert of(samples, "anyloom_device_evictions_total", device="cpu") == 0
    assert of(samples, "anyloom_device_transfer_bytes", device="cpu") == 0
