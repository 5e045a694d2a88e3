"""Operations of the websocket on the queue and the history; `operations.py` has them in its table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from graph_engine.errors import RequestError
from web.fields import Request, number, status, text
from web.routes.history import entries
from web.submission import priority_of

if TYPE_CHECKING:
    from web.ws import Socket


async def queue(socket: Socket, request: Request) -> Any:
    return socket.house.engine.queue()


async def hold(socket: Socket, request: Request) -> Any:
    on = request.get("on", True)
    if not isinstance(on, bool):
        raise RequestError('"on" must be true or false.', remedy="Correct it.", code="bad_field", place="/on")
    socket.house.engine.hold(on)
    return {"held": on}


async def cancel_all(socket: Socket, request: Request) -> Any:
    return {"cancelled": await socket.house.engine.cancel_all()}


async def go_on(socket: Socket, request: Request) -> Any:
    node = text(request, "node") if request.get("node") is not None else ""
    return {"continued": await socket.house.engine.go_on(text(request, "run"), node)}


async def prioritise(socket: Socket, request: Request) -> Any:
    priority = priority_of(request, needed=True)
    return {"changed": await socket.house.engine.prioritise(text(request, "run"), priority)}


async def delete(socket: Socket, request: Request) -> Any:
    run = await socket.house.engine.run(text(request, "run"))
    return {"deleted": await socket.house.engine.delete([run.id])}


async def clear_history(socket: Socket, request: Request) -> Any:
    return {"deleted": await socket.house.engine.clear_history(status(request))}


async def history(socket: Socket, request: Request) -> Any:
    before = None if request.get("before") is None else number(request, "before", 0, 1 << 60)
    client = None if request.get("client") is None else text(request, "client")
    limit = max(1, number(request, "limit", 50, 1000))
    return await entries(socket.house, status(request), client, limit, before)


QUEUE_OPERATIONS: dict[str, Callable[[Socket, Request], Awaitable[Any]]] = {
    "cancel_all": cancel_all,
    "queue": queue,
    "hold": hold,
    "continue": go_on,
    "prioritise": prioritise,
    "history": history,
    "delete": delete,
    "clear_history": clear_history,
}
