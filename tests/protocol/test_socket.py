"""Frames that are no requests, clients that do not read, connections that end: the socket and the server carry on."""

from __future__ import annotations

import asyncio
import json
import socket as sockets
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import msgpack
import pytest

from tests.protocol.live import LiveServer, two, workflow
from tests.protocol.wire import PROTOCOLS, wire
from web.ws import FRAME_FACTOR, Socket

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("protocol", ["", "graphql-ws"])
async def test_without_a_known_subprotocol_it_is_json(live: LiveServer, protocol: str) -> None:
    async with wire(live.url, protocol) as socket:
        assert socket.socket.protocol is None
        assert (await socket.ask("hello"))["encoding"] == "anyloom.json"


TEXTS: list[tuple[str | bytes, str]] = [
    ("", "bad_json"),
    ("{", "bad_json"),
    ("[1, 2]", "bad_field"),
    ('"op"', "bad_field"),
    ('{"op": NaN}', "not_finite"),
    ("[" * 5000, "too_deep"),
    ("{}", "unknown_op"),
    ('{"op": 5}', "unknown_op"),
    ('{"op": "no such"}', "unknown_op"),
    ('{"op": "__class__"}', "unknown_op"),
    ('{"op": "ping", "id": {}}', "bad_field"),
    (b"\x81\xa2op\xa4ping", "wrong_frame"),
]


@pytest.mark.parametrize(("data", "code"), TEXTS)
async def test_json_frames_that_are_no_request(live: LiveServer, data: str | bytes, code: str) -> None:
    async with wire(live.url, "anyloom.json") as socket:
        await (socket.socket.send_str(data) if isinstance(data, str) else socket.socket.send_bytes(data))
        message = await socket.receive()
        assert (message["op"], message["error"]["code"]) == ("error", code)
        assert message["error"]["remedy"]
        assert await socket.ask("ping")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ("text", "wrong_frame"),
        (b"", "bad_msgpack"),
        (b"\xc1", "bad_msgpack"),
        (b"\xdd\xff\xff\xff\xff", "bad_msgpack"),
        (b"\x91" * 300, "bad_msgpack"),
        (b"\x91" * 3000 + b"\xc0", "too_deep"),
        (msgpack.packb([1]), "bad_field"),
        (msgpack.packb({"op": "ping", "x": b"raw"}), "not_json"),
        (msgpack.packb({"op": float("nan")}), "not_finite"),
    ],
)
async def test_msgpack_frames_that_are_no_request(live: LiveServer, data: str | bytes, code: str) -> None:
    async with wire(live.url, "anyloom.msgpack") as socket:
        await (socket.socket.send_str(data) if isinstance(data, str) else socket.socket.send_bytes(data))
        message = await socket.receive()
        assert (message["op"], message["error"]["code"]) == ("error", code)
        assert await socket.ask("ping")


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({}, ""),
        ({"document": {}, "workflow": "x"}, ""),
        ({"document": []}, "/document"),
        ({"workflow": 5}, "/workflow"),
        ({"document": {}, "values": []}, "/values"),
        ({"document": {}, "targets": "a"}, "/targets"),
        ({"document": {}, "targets": [1]}, "/targets"),
        ({"document": {}, "priority": "high"}, "/priority"),
        ({"document": {}, "priority": True}, "/priority"),
        ({"document": {}, "priority": 10**30}, "/priority"),
        ({"document": {}, "name": 5}, "/name"),
    ],
)
async def test_a_submission_with_a_wrong_field_names_it(live: LiveServer, fields: dict[str, Any], place: str) -> None:
    async with wire(live.url) as socket:
        error = await socket.refused("submit", **fields)
        assert error.get("place", "") == place


async def test_the_limits_of_rfc_6455_close_the_socket_with_their_codes(live: LiveServer) -> None:
    async with wire(live.url) as socket:
        await socket.socket.send_frame(b'{"op": "\xff"}', aiohttp.WSMsgType.TEXT)
        await socket.socket.receive(10)
        assert socket.socket.close_code == 1007
    client = stalled_client(live)
    promise = live.limits.body_bytes * FRAME_FACTOR + 1
    client.sendall(bytes([0x81, 0x80 | 127]) + promise.to_bytes(8, "big") + bytes(4))
    answer = await asyncio.to_thread(client.recv, 100)
    client.close()
    assert (answer[0], int.from_bytes(answer[2:4], "big")) == (0x88, 1009)
    async with wire(live.url) as socket:
        assert await socket.ask("ping")


async def test_a_frame_over_the_limit_gets_an_error_and_the_socket_goes_on(live: LiveServer) -> None:
    async with wire(live.url) as socket:
        await socket.send({"op": "ping", "id": 1, "stuffing": "x" * live.limits.body_bytes})
        message = await socket.receive()
        assert message["error"]["code"] == "too_large"
        assert "limit" in message["error"]["message"]
        assert await socket.ask("ping")


async def test_previews_reach_a_client_that_reads(live: LiveServer) -> None:
    document = workflow({"p": ("trial.previews", {"count": 30, "pause_s": 0.01})}, ["p"])
    found: dict[str, list[bytes]] = {}
    for protocol in PROTOCOLS:
        async with wire(live.url, protocol) as socket:
            run = await socket.ask("submit", document=document, watch=True)
            events = await socket.events(run["id"])
        images = [socket.data(event["image"]) for event in events if event["type"] == "preview"]
        found[protocol] = images
        numbers = [int.from_bytes(image[:4], "big") for image in images]
        assert numbers == sorted(numbers)
        assert len(numbers) > 5
        assert all(len(image) == 1000 for image in images)


async def test_json_and_msgpack_tell_the_same_story(live: LiveServer) -> None:
    run = live.do(live.engine.submit(workflow({"c": ("trial.chunks", {"count": 9}), "f": "trial.fail"}, ["c", "f"])))
    live.do(live.engine.wait(run.id, 10))
    stories = []
    for protocol in PROTOCOLS:
        async with wire(live.url, protocol) as socket:
            await socket.ask("watch", run=run.id)
            stories.append((await socket.events(run.id), await socket.ask("run", run=run.id)))
    assert stories[0] == stories[1]
    assert stories[0][1]["status"] == "partial"


async def until(true: Callable[[], bool]) -> None:
    """Wait for what happens in the server's thread."""
    for _ in range(500):
        if true():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it did not happen in five seconds")


async def watching(live: LiveServer) -> Socket:
    """The server's side of the one client that watches a run."""
    await until(lambda: any(socket.watches for socket in list(live.server.house.sockets)))
    return next(socket for socket in list(live.server.house.sockets) if socket.watches)


def stalled_client(live: LiveServer) -> sockets.socket:
    """A client that has upgraded and then reads nothing, with as little room in between as the system allows."""
    client = sockets.socket()
    client.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", live.port))
    client.sendall(
        f"GET /api/v1/ws HTTP/1.1\r\nHost: 127.0.0.1:{live.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += client.recv(1)
    assert b"101" in head
    return client


def text_frame(message: dict[str, Any]) -> bytes:
    data = json.dumps(message).encode()
    assert 126 <= len(data) < 65536
    return bytes([0x81, 0x80 | 126]) + len(data).to_bytes(2, "big") + bytes(4) + data  # masked with zeros


@pytest.mark.law("P11")
async def test_a_slow_reader_holds_no_memory_and_is_dropped_while_others_go_on(live: LiveServer) -> None:
    """It submits a run with 200 MB of previews and 20 MB of text, and reads none of it."""
    document = workflow(
        {
            "p": ("trial.previews", {"count": 2000, "size_bytes": 100_000, "pause_s": 0.001}),
            "c": ("trial.chunks", {"count": 2000, "pause_s": 0.001}),
        },
        ["p", "c"],
    )
    client = stalled_client(live)
    try:
        client.sendall(text_frame({"op": "submit", "id": 1, "document": document, "watch": True}))
        slow = await watching(live)
        transport = slow._transport
        assert transport is not None
        largest, dropped = 0, time.monotonic() + 15
        async with wire(live.url, "anyloom.msgpack") as other:
            while slow in live.server.house.sockets:
                assert time.monotonic() < dropped, "the slow client is still there"
                largest = max(largest, transport.get_write_buffer_size())
                began = time.perf_counter()
                run = await other.ask("submit", document=two(str(began)), watch=True)
                assert (await other.events(run["id"]))[-1]["status"] == "succeeded"
                assert time.perf_counter() - began < 1.0
                await asyncio.sleep(0.05)
        assert 0 < largest < 1 << 20
        assert not slow.watches
    finally:
        client.close()
    [run] = live.do(live.engine.runs(limit=1, status="running")) or [None]
    if run is not None:
        live.do(live.engine.cancel(run.id))


async def test_a_flood_of_requests_is_read_no_faster_than_it_is_answered(live: LiveServer) -> None:
    async with wire(live.url) as socket:
        for number in range(200):
            await socket.send({"op": "nodes", "id": number})
        most = 0
        for number in range(200):
            most = max([most, *(len(entry._requests) for entry in list(live.server.house.sockets))])
            assert (await socket.receive(20))["ok"], number
    assert most <= live.limits.in_flight


async def test_clients_that_drop_in_the_middle_leave_nothing_behind(live: LiveServer) -> None:
    document = workflow({"c": ("trial.chunks", {"count": 50, "pause_s": 0.01})}, ["c"])
    runs = []
    for _ in range(10):
        async with wire(live.url) as socket:
            runs.append((await socket.ask("submit", document=document, watch=True))["id"])
            await socket.next()
            connection = socket.socket._response.connection
            assert connection is not None
            assert connection.transport is not None
            connection.transport.abort()
    for run in runs:
        assert live.do(live.engine.wait(run, 20)).status == "succeeded"
    await until(lambda: not live.server.house.sockets)
