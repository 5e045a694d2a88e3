"""The operations of the websocket: `op` -> what it does. Each takes the socket and the request and returns
the result, or None when it has sent its replies itself.

    hello                                                    who the server is, its limits
    ping                                                     its clock
    system                                                   as GET /api/v1/system
    watch_system                                             {watching}; then memory and queue, when they change
    unwatch_system                                           {unwatched}
    workflows                                                saved workflows
    workflow   name                                          one of them
    nodes      [node]                                        node types, or one
    kinds                                                    kinds of values, what fits where, what converts
    validate   document | workflow, [values, targets]        {nodes, targets}
    plan       as validate, [device, budget_bytes]            as POST /api/v1/plan
    submit     document | workflow, [values, targets, priority, name, pins, breakpoints, watch]
                                                             the run; with "watch": true its events
    watch      run, [after, tag]                             the run; then its events after number `after`. A tag tells
                                                             several watches of one run apart and comes with each frame
    unwatch    run, [tag]                                    {unwatched}
    cancel     run                                           {cancelled}
    cancel_all                                               {cancelled}: how many
    queue                                                    runs that have not ended, in their order
    hold       [on]                                          begin no step, or begin them again; {held}
    continue   run, [node]                                   go on at breakpoints; {continued}
    prioritise run, priority                                 {changed}
    history    [status, client, limit, before]               runs that have ended, with the media that they made
    delete     run                                           forget a run that has ended; {deleted}
    clear_history  [status]                                  forget all of them; {deleted}
    run        run                                           the run with its results
    explain    run, [with]                                   why each node was computed
    runs       [status, client, limit, before]               {runs}, newest first
    fetch      artifact, [port] | file: {folder, name}, [offset]     bytes; large ones in several replies, all but the
                                                             last with "more": true
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import graph_engine
from graph_engine.errors import RequestError
from graph_engine.graph.canvas import drawn_kinds
from web import media_types
from web.fields import Request, number, status, tag, text, unframed
from web.queue_operations import QUEUE_OPERATIONS
from web.routes.files import locate
from web.routes.plan import answer as outlook
from web.routes.system import state
from web.submission import Submission
from web.system_feed import SYSTEM

if TYPE_CHECKING:
    from web.ws import Socket

PROTOCOL = 1


async def hello(socket: Socket, request: Request) -> Any:
    if isinstance(request.get("client"), str):
        socket.client = request["client"][:200]
    return {
        "server": "anyloom",
        "version": graph_engine.__version__,
        "protocol": PROTOCOL,
        "client": socket.client,
        "encoding": socket.codec.name,
        "operations": list(OPERATIONS),
        "limits": socket.house.limits.to_dict(),
    }


async def ping(socket: Socket, request: Request) -> Any:
    return {"time": time.time()}


async def system(socket: Socket, request: Request) -> Any:
    return state(socket.house)


async def watch_system(socket: Socket, request: Request) -> Any:
    socket.check_watches()
    await socket.reply(request, {"watching": True})
    socket.watch_system()
    return None


async def unwatch_system(socket: Socket, request: Request) -> Any:
    return {"unwatched": socket.unwatch(SYSTEM)}


async def workflows(socket: Socket, request: Request) -> Any:
    return {"workflows": await asyncio.to_thread(socket.house.library.entries)}


async def workflow(socket: Socket, request: Request) -> Any:
    return await asyncio.to_thread(socket.house.library.load, text(request, "name"))


async def nodes(socket: Socket, request: Request) -> Any:
    registry = socket.house.engine.registry
    if request.get("node") is not None:
        return registry[text(request, "node")].to_dict()
    return {"nodes": [type.to_dict() for type in registry], "failures": registry.failures}


async def kinds(socket: Socket, request: Request) -> Any:
    return {"kinds": await asyncio.to_thread(drawn_kinds, list(socket.house.engine.registry))}


async def validate(socket: Socket, request: Request) -> Any:
    return await Submission.of(unframed(request)).validate(socket.house)


async def plan(socket: Socket, request: Request) -> Any:
    return await outlook(socket.house, unframed(request))


async def submit(socket: Socket, request: Request) -> Any:
    submission = Submission.of(unframed(request), "watch")
    if request.get("watch") is not True:
        return (await submission.submit(socket.house, socket.client)).to_dict()
    socket.check_watches()
    run = await submission.submit(socket.house, socket.client)
    await socket.reply(request, run.to_dict())
    socket.watch(run.id, 0)
    return None


async def watch(socket: Socket, request: Request) -> Any:
    run = await socket.house.engine.run(text(request, "run"))
    after, name = number(request, "after", 0, 1 << 60), tag(request)
    socket.check_watches()
    socket.unwatch(run.id, name)
    await socket.reply(request, run.to_dict())
    socket.watch(run.id, after, name)
    return None


async def unwatch(socket: Socket, request: Request) -> Any:
    return {"unwatched": socket.unwatch(text(request, "run"), tag(request))}


async def cancel(socket: Socket, request: Request) -> Any:
    return {"cancelled": await socket.house.engine.cancel(text(request, "run"))}


async def run(socket: Socket, request: Request) -> Any:
    return (await socket.house.engine.run(text(request, "run"))).to_dict()


async def explain(socket: Socket, request: Request) -> Any:
    other = None if request.get("with") is None else text(request, "with")
    return await socket.house.engine.explain(text(request, "run"), other)


async def runs(socket: Socket, request: Request) -> Any:
    wanted, client = status(request), request.get("client")
    if client is not None:
        client = text(request, "client")
    before = None if request.get("before") is None else number(request, "before", 0, 1 << 60)
    found = await socket.house.engine.runs(
        status=wanted, client=client, limit=number(request, "limit", 50, 1000), before=before
    )
    return {"runs": [entry.to_dict() for entry in found]}


async def fetch(socket: Socket, request: Request) -> Any:
    """Sends its replies itself: piece by piece, each when the client has taken the one before."""
    house = socket.house
    offset = number(request, "offset", 0, 1 << 60)
    facts: dict[str, Any]
    if request.get("artifact") is not None:
        key, port = text(request, "artifact"), number(request, "port", 0, 9999)
        data = await house.engine.artifact_bytes(key, port)
        read = lambda start, size: data[start : start + size]  # noqa: E731
        facts = {"artifact": key, "port": port, "media_type": "application/octet-stream", "bytes": len(data)}
    else:
        wanted = request.get("file")
        if not isinstance(wanted, Mapping):
            raise RequestError(
                "fetch wants an artifact or a file.",
                remedy='Send {"artifact": key} or {"file": {"folder", "name"}}.',
                code="bad_field",
                place="/file",
            )
        folder, name = text(wanted, "folder"), text(wanted, "name")
        path = await asyncio.to_thread(locate, house.engine.folders, folder, name)
        read = _reader(path)
        facts = {
            "folder": folder,
            "name": name,
            "media_type": media_types.media_type(name),
            "bytes": path.stat().st_size,
        }
    while True:
        piece = await asyncio.to_thread(read, offset, house.limits.chunk_bytes)
        more = bool(piece) and offset + len(piece) < facts["bytes"]
        result = {**facts, "offset": offset, "data": piece, "more": more}
        await socket.reply(request, result)
        offset += len(piece)
        if not more:
            return None


def _reader(path: Path) -> Callable[[int, int], bytes]:
    def read(start: int, size: int) -> bytes:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(size)

    return read


OPERATIONS: dict[str, Callable[[Socket, Request], Awaitable[Any]]] = {
    "hello": hello,
    "ping": ping,
    "system": system,
    "watch_system": watch_system,
    "unwatch_system": unwatch_system,
    "workflows": workflows,
    "workflow": workflow,
    "nodes": nodes,
    "kinds": kinds,
    "validate": validate,
    "plan": plan,
    "submit": submit,
    "watch": watch,
    "unwatch": unwatch,
    "cancel": cancel,
    **QUEUE_OPERATIONS,
    "run": run,
    "runs": runs,
    "explain": explain,
    "fetch": fetch,
}
