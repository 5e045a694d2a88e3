"""The events of a run: as a list of what there is, or as a stream of server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from aiohttp import hdrs, web

from graph_engine.execute.events import Event
from web import schemas
from web.frames import JSON
from web.routes.route import API, Call, Parameter, Reply, Route, json_response
from web.state import House, house
from web.watching import pieces

GRACE_S = 0.05
"""A list without `wait_s` waits this long: the log of a run that ended long ago is read from disk."""
QUIET_S = 15.0
"""A stream that has nothing to say sends a comment this often, so that nobody in between hangs up."""


async def events(call: Call) -> web.StreamResponse:
    home = house(call.request)
    if "text/event-stream" in call.request.headers.get(hdrs.ACCEPT, ""):
        return await _stream(call, home)
    found: list[dict[str, Any]] = []
    after, finished = call.query["after"], False
    try:
        async with (
            asyncio.timeout(max(call.query["wait_s"], GRACE_S)),
            aclosing(home.engine.watch(call.path("id"), after)) as cursor,  # type: ignore[type-var]
        ):
            async for batch in cursor:
                found.extend(event.to_dict() for event in batch)
                after, finished = batch[-1].seq, batch[-1].type == "finished"
                if len(found) >= call.query["limit"] or call.query["wait_s"]:
                    break
    except TimeoutError:
        pass
    return json_response({"events": found, "last": after, "finished": finished})


async def _stream(call: Call, home: House) -> web.StreamResponse:
    last = call.request.headers.get("Last-Event-ID", "")
    after = int(last) if last.isascii() and last.isdigit() and len(last) < 16 else call.query["after"]
    run = await home.engine.run(call.path("id"))  # unknown runs are a 404, not an empty stream
    response = web.StreamResponse(
        headers={hdrs.CONTENT_TYPE: "text/event-stream; charset=utf-8", hdrs.CACHE_CONTROL: "no-store"}
    )
    await response.prepare(call.request)
    async with aclosing(home.engine.watch(run.id, after)) as cursor:  # type: ignore[type-var]
        async for batch in _with_pauses(cursor):
            text = b"".join(_server_sent(event) for event in batch) or b": still here\n\n"
            async with asyncio.timeout(home.limits.send_s):
                await response.write(text)
            if home.stopping:
                break
            await asyncio.sleep(home.limits.pace_s)
    return response


def _server_sent(event: Event) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.seq, event.type.encode(), JSON.encode(event.to_dict()))


async def _with_pauses(cursor: AsyncIterator[list[Event]]) -> AsyncIterator[list[Event]]:
    """The batches, and an empty one after each QUIET_S without any."""
    ahead: asyncio.Task[list[Event]] | None = None
    try:
        while True:
            ahead = ahead or asyncio.ensure_future(anext(cursor))
            done, _ = await asyncio.wait({ahead}, timeout=QUIET_S)
            if not done:
                yield []
                continue
            try:
                batch = ahead.result()
            except StopAsyncIteration:
                return
            ahead = None
            for piece in pieces(batch):
                yield piece
    finally:
        if ahead is not None:
            ahead.cancel()
            await asyncio.wait({ahead})


TABLE = (
    Route(
        "GET",
        f"{API}/runs/{{id}}/events",
        events,
        "What happened in a run",
        "runs",
        {
            200: Reply(
                "events after `after`; with Accept: text/event-stream a stream of them, resumed by Last-Event-ID",
                schemas.record(
                    {
                        "events": {"type": "array", "items": schemas.ref("Event")},
                        "last": {**schemas.INTEGER, "description": "the next `after`"},
                        "finished": schemas.BOOLEAN,
                    }
                ),
            )
        },
        (
            Parameter("after", "integer", "only events with a higher number", 0, 0),
            Parameter("wait_s", "number", "if there is none yet, wait this long for the next", 0.0, 0, 60),
            Parameter("limit", "integer", "stop after about this many", 10_000, 1, 100_000),
        ),
        {"id": "the run's id"},
    ),
)
