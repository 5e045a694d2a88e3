"""Connection: the websocket of a client. It opens when it is needed, and again when it broke."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote

from graph_engine.errors import AnyloomError, RequestError

BATCHES_AHEAD = 64
"""Of one run that nobody reads; beyond that the watch is given up, and taken up again when its reader comes back."""
MAX_FRAME_BYTES = 64 << 20


class ServerError(AnyloomError):
    """The server's answer to what it could not do. `entry` is all that it said, `problems` included."""

    code = "server"

    def __init__(self, entry: Mapping[str, Any]) -> None:
        facts = {name: str(entry.get(name, "")) for name in ("remedy", "code", "node", "port", "place")}
        super().__init__(str(entry.get("message", "the server gave no reason.")), **facts)
        self.entry = dict(entry)

    def to_dict(self) -> dict[str, Any]:
        return self.entry


class NoServerError(AnyloomError):
    """Nobody listens there, or the connection broke before the answer came."""

    code = "no_server"


class Watch:
    """What arrived of a run and was not read yet."""

    def __init__(self) -> None:
        self.batches: deque[list[dict[str, Any]]] = deque()
        self.news = asyncio.Event()
        self.error: AnyloomError | None = None
        self.behind = False
        self.ended = False
        """The last event was among what arrived: the server has forgotten the watch."""

    def add(self, batch: list[dict[str, Any]]) -> None:
        self.behind = self.behind or len(self.batches) >= BATCHES_AHEAD
        if not self.behind:
            self.batches.append(batch)
            self.ended = batch[-1]["type"] == "finished"
        self.news.set()

    def fail(self, error: AnyloomError) -> None:
        self.error = error
        self.news.set()

    async def read(self) -> AsyncIterator[dict[str, Any]]:
        """The events; ends when the reader fell behind, raises when the watch broke."""
        while self.batches or not self.behind:
            if self.batches:
                for event in self.batches.popleft():
                    yield event
            elif self.error is not None:
                raise self.error
            else:
                self.news.clear()
                await self.news.wait()


class Connection:
    """Requests with their replies by number, and watches by tag."""

    def __init__(self, url: str, token: str | None, name: str) -> None:
        self.url, self.name = url.rstrip("/"), name
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._session: Any = None
        self._socket: Any = None
        self._reader: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self._numbers = itertools.count(1)
        self._replies: dict[int, asyncio.Queue[dict[str, Any] | AnyloomError]] = {}
        self._watches: dict[str, Watch] = {}

    async def close(self) -> None:
        if self._socket is not None:
            await self._socket.close()
        if self._reader is not None:
            await asyncio.wait({self._reader})
        if self._session is not None:
            await self._session.close()
        self._socket = self._session = self._reader = None

    def http(self) -> Any:
        """The aiohttp session, for what goes over plain HTTP."""
        import aiohttp

        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
            self._session = aiohttp.ClientSession(headers=self._headers, timeout=timeout)
        return self._session

    async def ask(self, op: str, **fields: Any) -> Any:
        """The result of a request. Raises ServerError, NoServerError."""
        async with contextlib.aclosing(self.exchange(op, **fields)) as replies:
            return await anext(replies)

    async def exchange(self, op: str, **fields: Any) -> AsyncGenerator[Any, None]:
        """The results of all replies to one request; the caller knows which is the last."""
        socket = await self._connect()
        number = next(self._numbers)
        replies = self._replies[number] = asyncio.Queue()
        try:
            await _send(socket, {"op": op, "id": number, **fields})
            while True:
                reply = await replies.get()
                if isinstance(reply, AnyloomError):
                    raise reply
                if not reply["ok"]:
                    raise ServerError(reply["error"])
                yield reply["result"]
        except ConnectionError as error:
            raise self.nobody(error) from None
        finally:
            del self._replies[number]

    async def watch(self, run: str, after: int) -> AsyncGenerator[dict[str, Any] | None, None]:
        """None once the server has agreed, then events after number `after`.

        Ends when the reader fell behind; raises NoServerError when the connection broke.
        """
        tag = str(next(self._numbers))
        watch = self._watches[tag] = Watch()
        try:
            await self.ask("watch", run=run, after=after, tag=tag)
            yield None
            async for event in watch.read():
                yield event
        finally:
            del self._watches[tag]
            if self._socket is not None and not self._socket.closed and not watch.ended:
                with contextlib.suppress(ConnectionError):
                    await _send(self._socket, {"op": "unwatch", "id": 0, "run": run, "tag": tag})

    def nobody(self, error: BaseException) -> NoServerError:
        """The error for a connection that failed."""
        reason = str(error) or type(error).__name__
        remedy = "Start one with `anyloom serve`, or give its address."
        return NoServerError(f"no Anyloom server answers at {self.url} ({reason}).", remedy=remedy)

    async def _connect(self) -> Any:
        import aiohttp

        async with self._opening:
            if self._socket is None or self._socket.closed:
                address = f"{self.url}/api/v1/ws?client={quote(self.name)}"
                try:
                    self._socket = await self.http().ws_connect(
                        address, protocols=("anyloom.msgpack",), max_msg_size=MAX_FRAME_BYTES, heartbeat=30
                    )
                except aiohttp.WSServerHandshakeError as error:
                    raise ServerError(_refusal(self.url, error.status)) from None
                except (aiohttp.ClientError, OSError, ValueError) as error:
                    raise self.nobody(error) from None
                self._reader = asyncio.create_task(self._listen(self._socket))
            return self._socket

    async def _listen(self, socket: Any) -> None:
        import msgpack

        try:
            async for message in socket:
                if isinstance(message.data, bytes):
                    self._take(msgpack.unpackb(message.data))
        finally:
            lost = NoServerError(f"the connection to {self.url} was lost.", remedy="See whether the server still runs.")
            for replies in self._replies.values():
                replies.put_nowait(lost)
            for watch in self._watches.values():
                watch.fail(lost)

    def _take(self, message: dict[str, Any]) -> None:
        watch = self._watches.get(message.get("tag", ""))
        if "ok" in message:
            replies = self._replies.get(message["id"])
            if replies is not None:
                replies.put_nowait(message)
        elif watch is not None and message["op"] == "events":
            watch.add(message["events"])
        elif watch is not None:
            watch.fail(ServerError(message["error"]))


async def _send(socket: Any, message: dict[str, Any]) -> None:
    import msgpack

    try:
        frame = msgpack.packb(message)
    except (TypeError, ValueError, OverflowError) as error:
        raise RequestError(
            f"the request cannot be sent: {error}.",
            remedy="Send JSON values: well-formed text, finite numbers, whole ones of at most 64 bits, lists, objects.",
            code="bad_value",
        ) from None
    await socket.send_bytes(frame)


def _refusal(url: str, status: int) -> dict[str, str]:
    if status == 401:
        return {
            "code": "unauthorized",
            "message": f"{url} wants a token.",
            "remedy": "Give the one that `anyloom serve` printed.",
        }
    if status == 403:
        return {
            "code": "foreign_host",
            "message": f"{url} does not go by this name.",
            "remedy": "Start it with --allow-host NAME.",
        }
    return {
        "code": "no_server",
        "message": f"{url} is no Anyloom server (status {status}).",
        "remedy": "Check the address.",
    }
