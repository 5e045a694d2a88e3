"""A websocket client that knows nothing but the protocol: frames out, frames in."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgpack

PROTOCOLS = ("anyloom.json", "anyloom.msgpack")


class Wire:
    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.binary = socket.protocol == "anyloom.msgpack"
        self.number = 0
        self.waiting: list[dict[str, Any]] = []

    async def send(self, message: Any) -> None:
        if self.binary:
            await self.socket.send_bytes(msgpack.packb(message))
        else:
            await self.socket.send_str(json.dumps(message))

    async def receive(self, patience_s: float = 10) -> dict[str, Any]:
        frame = await self.socket.receive(patience_s)
        if frame.type is aiohttp.WSMsgType.BINARY:
            assert self.binary
            found: dict[str, Any] = msgpack.unpackb(frame.data)
        elif frame.type is aiohttp.WSMsgType.TEXT:
            assert not self.binary
            found = json.loads(frame.data)
        else:
            raise ConnectionError(f"closed: {frame.type.name} {self.socket.close_code}")
        return found

    async def reply(self, op: str, **fields: Any) -> dict[str, Any]:
        """The whole reply to one request; what is pushed meanwhile waits."""
        self.number += 1
        await self.send({"op": op, "id": self.number, **fields})
        while True:
            message = await self.receive()
            if message.get("id") == self.number:
                return message
            self.waiting.append(message)

    async def ask(self, op: str, **fields: Any) -> Any:
        reply = await self.reply(op, **fields)
        assert reply["ok"], reply
        return reply["result"]

    async def refused(self, op: str, **fields: Any) -> dict[str, Any]:
        reply = await self.reply(op, **fields)
        assert not reply["ok"], reply
        error: dict[str, Any] = reply["error"]
        assert error["code"]
        assert error["message"]
        return error

    async def next(self) -> dict[str, Any]:
        return self.waiting.pop(0) if self.waiting else await self.receive()

    async def events(self, run: str) -> list[dict[str, Any]]:
        """All events of a run that is watched, to its end; frames of other runs wait."""
        found: list[dict[str, Any]] = []
        others = []
        while not found or found[-1]["type"] != "finished":
            message = await self.next()
            if message.get("run") == run:
                assert message["op"] == "events", message
                found.extend(message["events"])
            else:
                others.append(message)
        self.waiting = others + self.waiting
        return found

    def data(self, value: Any) -> bytes:
        """Bytes as this encoding has them."""
        if self.binary:
            assert isinstance(value, bytes)
            return value
        return base64.b64decode(value)


@asynccontextmanager
async def wire(url: str, protocol: str = "", **more: Any) -> AsyncIterator[Wire]:
    protocols = (protocol,) if protocol else ()
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{url}/api/v1/ws", protocols=protocols, max_msg_size=0, **more) as socket,
    ):
        yield Wire(socket)
        await asyncio.sleep(0)
