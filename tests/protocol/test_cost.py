"""What the websocket adds: time and bytes per event."""

from __future__ import annotations

import time

import pytest

from tests.protocol.live import LiveServer, chain
from tests.protocol.wire import PROTOCOLS, wire

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_an_event_costs_little(live: LiveServer, protocol: str) -> None:
    """The whole log of a run that has ended: nothing but reading it, packing and sending."""
    run = live.do(live.engine.submit(chain(5_000, 3 + len(protocol))))
    live.do(live.engine.wait(run.id, 30))
    costs = []
    for _ in range(3):
        async with wire(live.url, protocol) as socket:
            before = live.do(cpu_seconds())
            await socket.ask("watch", run=run.id)
            events = await socket.events(run.id)
            costs.append((live.do(cpu_seconds()) - before) / len(events))
    assert len(events) >= 10_000
    print(f"{protocol}: {min(costs) * 1e6:.1f} µs of the server's time per event")
    assert min(costs) < 10e-6


async def cpu_seconds() -> float:
    """Processor time of the server's thread, which no other program on this machine can lengthen."""
    return time.thread_time()


async def test_traffic_is_linear(live: LiveServer) -> None:
    """At most 2 MB for 1,000 nodes."""
    sizes = []
    for length in (200, 1_000):
        size = 0
        async with wire(live.url) as socket:
            await socket.send({"op": "submit", "id": 1, "document": chain(length, length), "watch": True})
            text = ""
            while '"type":"finished"' not in text:
                text = (await socket.socket.receive(20)).data
                size += len(text)
        sizes.append(size)
    assert sizes[1] < 2_000_000
    assert sizes[1] / sizes[0] == pytest.approx(5, rel=0.3)
