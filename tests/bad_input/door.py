"""Ways to bring bad things to a server, and what comes back."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import aiohttp

from tests.protocol.live import LiveServer, workflow
from tests.protocol.test_socket import stalled_client, text_frame, until, watching
from tests.protocol.wire import Wire, wire

Error = dict[str, Any]


class Door:
    """Ways to bring something to the server; each gives the error that comes back."""

    def __init__(self, live: LiveServer, http: aiohttp.ClientSession, socket: Wire) -> None:
        self.live, self.http, self.socket = live, http, socket

    async def post(self, body: bytes) -> Error:
        async with self.http.post(
            "/api/v1/runs?wait_s=20", data=io.BytesIO(body), headers={"Content-Type": "application/json"}
        ) as response:
            answer = await response.json()
        if response.status >= 400:
            found: Error = answer["error"]
            return found
        assert answer["status"] == "failed", answer
        return answer["errors"][0]  # type: ignore[no-any-return]

    async def submit(self, document: Any, **more: Any) -> Error:
        return await self.post(json.dumps({"document": document, **more}).encode())

    async def frame(self, data: str | bytes) -> Error:
        """As a frame of the socket, which stays open."""
        await (self.socket.socket.send_str(data) if isinstance(data, str) else self.socket.socket.send_bytes(data))
        message = await self.socket.receive()
        assert await self.socket.ask("ping")
        error: Error = message["error"]
        return error


Bring = Callable[[Door], Awaitable[Error | None]]


class Row(NamedTuple):
    """`code` is empty where the client is gone and there is nobody to tell."""

    name: str
    bring: Bring
    code: str
    node: str = ""
    port: str = ""
    says: tuple[str, ...] = ()


def document(nodes: dict[str, Any], targets: list[str]) -> Bring:
    return lambda door: door.submit(workflow(nodes, targets))


def load(media: str, file: str) -> Bring:
    return document({"load": (f"media.load_{media}", {"file": file})}, ["load"])


def nested(depth: int) -> Bring:
    text = '{"a":' * depth + "1" + "}" * depth
    return lambda door: door.post(b'{"document": %s}' % text.encode())


async def huge(door: Door) -> Error:
    """50 MB, announced."""
    return await door.post(b'{"document": {"format": "anyloom", "x": "' + b"x" * 50_000_000 + b'"}}')


async def huge_in_pieces(door: Door) -> Error:
    """50 MB that say nothing of their size beforehand."""

    async def pieces() -> Any:
        yield b'{"document": "'
        for _ in range(50):
            yield b"x" * 1_000_000
        yield b'"}'

    async with door.http.post("/api/v1/runs", data=pieces(), headers={"Content-Type": "application/json"}) as response:
        error: Error = (await response.json())["error"]
        return error


async def oversized_frame(door: Door) -> Error:
    return await door.frame('{"op": "submit", "x": "' + "x" * door.live.limits.body_bytes + '"}')


async def broken_msgpack(door: Door) -> Error:
    async with wire(door.live.url, "anyloom.msgpack") as socket:
        return await Door(door.live, door.http, socket).frame(b"\xdd\x7f\xff\xff\xff")


async def stops_reading(door: Door) -> None:
    """It submits, reads nothing, and is dropped; its run was accepted and has an end."""
    previews = {"count": 300, "size_bytes": 200_000, "pause_s": 0.002}
    document = workflow({"p": ("trial.previews", previews)}, ["p"])
    with stalled_client(door.live) as client:
        client.sendall(text_frame({"op": "submit", "id": 1, "document": document, "watch": True}))
        slow = await watching(door.live)
        await until(lambda: slow not in door.live.server.house.sockets)
    [run] = (await door.socket.ask("runs", limit=1))["runs"]
    ended = await asyncio.to_thread(door.live.do, door.live.engine.wait(run["id"], 20))
    assert ended.status == "succeeded"


async def drops_in_the_middle(door: Door) -> None:
    chunks = workflow({"c": ("trial.chunks", {"count": 20, "pause_s": 0.01})}, ["c"])
    async with wire(door.live.url) as socket:
        run = await socket.ask("submit", document=chunks, watch=True)
        await socket.next()
        connection = socket.socket._response.connection
        assert connection is not None
        assert connection.transport is not None
        connection.transport.abort()
    ended = await asyncio.to_thread(door.live.do, door.live.engine.wait(run["id"], 20))
    assert ended.status == "succeeded"
    return None
