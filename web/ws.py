"""Socket: one websocket client, any number of runs.

Requests are {"op", "id", ...}; `id` is the client's choice and comes back with the reply:
    {"id": 1, "ok": true, "result": ...}                          web/operations.py has the table of ops
    {"id": 1, "ok": false, "error": {code, message, remedy, node?, port?, place?, problems?}}
Requests run side by side, so replies may come in another order; `id` is optional, a reply without one has null.
Pushed, unasked:
    {"op": "events", "run": id, "events": [{"seq", "type", "node"?, ...}, ...]}     with "tag" if the watch had one
    {"op": "system", "system": {...}}                             after `watch_system`, whenever it changed
    {"op": "error", "error": {...}}                               a frame that was no request; with "run" (and "tag"):
                                                                  a watch that broke

A frame that is no request (syntax, wrong frame type, unknown op, msgpack that promises more than it has) gets an error
and the socket stays open; so does one over the size limit. Two things end the connection, as RFC 6455 has it: a frame
over four times the limit (close code 1009, or a reset while the client still sends) and a text frame that is not UTF-8
(1007). A client that reads nothing for `send_s` is dropped; its runs go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from graph_engine import collector
from graph_engine.errors import RequestError
from web.errors import tell
from web.frames import CODECS, JSON, LARGE_BYTES, Codec, too_large
from web.operations import OPERATIONS
from web.state import House
from web.system_feed import SYSTEM
from web.watching import pieces

log = logging.getLogger("anyloom.web")
HEARTBEAT_S = 60.0
FRAME_FACTOR = 4
"""A frame up to this many times the limit is taken off the line and answered with an error, rather than hung up on."""


class Socket:
    """`watches` are cursors in the logs of runs: a client that does not read holds nothing but its places (law P11)."""

    def __init__(self, house: House, client: str = "") -> None:
        self.house = house
        self.client = client[:200]
        self.codec: Codec = JSON
        self.watches: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._requests: set[asyncio.Task[None]] = set()
        self._load_bytes = 0
        self._room = asyncio.Semaphore(house.limits.in_flight)
        self._turn = asyncio.Lock()
        self._transport: asyncio.Transport | None = None
        self.ws = web.WebSocketResponse(
            protocols=tuple(CODECS),
            max_msg_size=house.limits.body_bytes * FRAME_FACTOR,
            heartbeat=HEARTBEAT_S,
            compress=False,
        )

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        await self.ws.prepare(request)
        self.codec = CODECS.get(self.ws.ws_protocol or "", JSON)
        self._transport = request.transport
        self.house.sockets.add(self)
        try:
            async for message in self.ws:
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    # The room bounds the work of one client: it is read no further until a request is done.
                    await self._room.acquire()
                    self._load_bytes += len(message.data)
                    task = asyncio.create_task(self._handle(message.data))
                    self._requests.add(task)
                    task.add_done_callback(self._done)
                    while self._load_bytes > self.house.limits.body_bytes:
                        await asyncio.wait(self._requests, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.house.sockets.discard(self)
            tasks = [*self.watches.values(), *self._requests]
            for task in self.watches.values():
                task.cancel()
            # Requests are not cancelled: a submission that was read is carried out, whether or not anybody waits.
            if tasks:
                await asyncio.wait(tasks, timeout=self.house.limits.send_s)
        return self.ws

    def _done(self, task: asyncio.Task[None]) -> None:
        self._requests.discard(task)
        self._room.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a websocket request broke", exc_info=error)

    async def close(self, code: int = WSCloseCode.GOING_AWAY, message: bytes = b"the server is stopping") -> None:
        """Say goodbye; a client that does not listen is left."""
        with contextlib.suppress(TimeoutError, ConnectionError, RuntimeError):
            async with asyncio.timeout(1.0):
                await self.ws.close(code=code, message=message)

    # --- requests -----------------------------------------------------------------------------------------------

    async def _handle(self, data: str | bytes) -> None:
        id: Any = None
        try:
            request = await self._read(data)
            id = request.get("id")
            if not (id is None or isinstance(id, int | str)):
                id, given = None, id
                raise RequestError(
                    f"an id of type {type(given).__name__} is not taken.",
                    remedy="Use a number or a text.",
                    code="bad_field",
                    place="/id",
                )
            op = request.get("op")
            operation = OPERATIONS.get(op) if isinstance(op, str) else None
            if operation is None:
                raise RequestError(
                    f"there is no operation {str(op)[:80]!r}.",
                    remedy=f"Use one of {', '.join(OPERATIONS)}.",
                    code="unknown_op",
                    place="/op",
                )
            result = await operation(self, request)
            if result is not None:
                await self.reply(request, result)
        except ConnectionError:
            return
        except Exception as error:
            await self._fail(id, error)
        finally:
            self._load_bytes -= len(data)

    async def _read(self, data: str | bytes) -> dict[str, Any]:
        if isinstance(data, str) is self.codec.binary:
            wanted = "binary" if self.codec.binary else "text"
            raise RequestError(
                f"this socket speaks {self.codec.name} in {wanted} frames.",
                remedy=f"Send {wanted} frames.",
                code="wrong_frame",
            )
        if len(data) > self.house.limits.body_bytes:
            raise too_large("the frame", len(data), self.house.limits.body_bytes)
        raw = data.encode() if isinstance(data, str) else data
        if len(raw) <= LARGE_BYTES:
            request = self.codec.decode(raw)
        else:
            request = await asyncio.to_thread(collector.paused, self.codec.decode, raw)
        if not isinstance(request, dict):
            raise RequestError(
                "a request is an object.", remedy='Send {"op": "...", "id": 1}.', code="bad_field", place="/"
            )
        return request

    async def reply(self, request: Mapping[str, Any], result: Any) -> None:
        await self.send({"id": request.get("id"), "ok": True, "result": result})

    async def _fail(self, id: Any, error: BaseException) -> None:
        _, entry = tell(error)
        reply = {"op": "error", "error": entry} if id is None else {"id": id, "ok": False, "error": entry}
        with contextlib.suppress(ConnectionError):
            await self.send(reply)

    # --- events -------------------------------------------------------------------------------------------------

    def check_watches(self) -> None:
        """Raise RequestError when this socket watches as many runs as it may."""
        if len(self.watches) >= self.house.limits.watched:
            limit = self.house.limits.watched
            raise RequestError(
                f"one socket watches at most {limit} runs at a time.", remedy="Unwatch some.", code="too_many"
            )

    def watch(self, run: str, after: int, tag: str = "") -> None:
        """Push the events of `run` after number `after`. A watch of this run and tag that is there already ends."""
        self.unwatch(run, tag)
        task = asyncio.create_task(self._push(run, after, {"run": run, "tag": tag} if tag else {"run": run}))
        key = (run, tag)
        self.watches[key] = task
        task.add_done_callback(lambda task: self.watches.pop(key) if self.watches.get(key) is task else None)

    def unwatch(self, run: str, tag: str = "") -> bool:
        task = self.watches.pop((run, tag), None)
        return task is not None and task.cancel()

    def watch_system(self) -> None:
        """Push the state of memory and queue whenever it changes."""
        self.unwatch(SYSTEM)
        self.watches[SYSTEM, ""] = asyncio.create_task(self._push_system())

    async def _push_system(self) -> None:
        with contextlib.suppress(ConnectionError):
            async with aclosing(self.house.feed.watch()) as states:  # type: ignore[type-var]
                async for state in states:
                    await self.send({"op": "system", "system": state})

    async def _push(self, run: str, after: int, names: dict[str, str]) -> None:
        try:
            async with aclosing(self.house.engine.watch(run, after, self.house.limits.pace_s)) as cursor:  # type: ignore[type-var]
                async for batch in cursor:
                    for piece in pieces(batch):
                        await self.send({"op": "events", **names, "events": [event.to_dict() for event in piece]})
        except ConnectionError:
            return
        except Exception as error:
            with contextlib.suppress(ConnectionError):
                await self.send({"op": "error", **names, "error": tell(error)[1]})

    async def send(self, message: dict[str, Any]) -> None:
        """One frame at a time; whoever waits here waits for the client. Raises ConnectionError once it is gone."""
        async with self._turn:
            data = self.codec.encode(message)
            try:
                async with asyncio.timeout(self.house.limits.send_s):
                    if self.codec.binary:
                        await self.ws.send_bytes(data)
                    else:
                        await self.ws.send_frame(data, WSMsgType.TEXT)
            except TimeoutError:
                log.warning("a client that read nothing for %g s was dropped", self.house.limits.send_s)
                if self._transport is not None:
                    self._transport.abort()
                raise ConnectionResetError("the client does not read") from None
            except RuntimeError as error:  # aiohttp's word for a closed websocket
                raise ConnectionResetError(str(error)) from None
