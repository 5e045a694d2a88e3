"""The queue: what goes on, in which order, and what a person does to it."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from graph_engine.errors import RequestError
from web.routes.route import API, Call, Reply, Route, json_response, read_json
from web.schemas import BOOLEAN, INTEGER, TEXT, record, ref
from web.state import house
from web.submission import priority_of

ID = {"id": "the run's id"}


async def look(call: Call) -> web.StreamResponse:
    return json_response(house(call.request).engine.queue())


async def hold(call: Call) -> web.StreamResponse:
    house(call.request).engine.hold(True)
    return json_response({"held": True})


async def release(call: Call) -> web.StreamResponse:
    house(call.request).engine.hold(False)
    return json_response({"held": False})


async def cancel(call: Call) -> web.StreamResponse:
    return json_response({"cancelled": await house(call.request).engine.cancel_all()})


async def go_on(call: Call) -> web.StreamResponse:
    body: dict[str, Any] = await read_json(call.request) if call.request.body_exists else {}
    node = body.get("node") or ""
    if not isinstance(node, str):
        raise RequestError('"node" must be a text.', remedy="Name it.", code="bad_field", place="/node")
    return json_response({"continued": await house(call.request).engine.go_on(call.path("id"), node)})


async def prioritise(call: Call) -> web.StreamResponse:
    priority = priority_of(await read_json(call.request), needed=True)
    return json_response({"changed": await house(call.request).engine.prioritise(call.path("id"), priority)})


HELD = Reply("whether no step is begun now", record({"held": BOOLEAN}))
TABLE = (
    Route(
        "GET",
        f"{API}/queue",
        look,
        "Runs that have not ended, in the order in which they are served",
        "queue",
        {200: Reply("the queue", ref("Queue"))},
    ),
    Route("POST", f"{API}/queue/hold", hold, "Begin no step of any run; what runs goes on", "queue", {200: HELD}),
    Route("POST", f"{API}/queue/release", release, "Begin steps again", "queue", {200: HELD}),
    Route(
        "POST",
        f"{API}/queue/cancel",
        cancel,
        "Cancel every run",
        "queue",
        {200: Reply("how many", record({"cancelled": INTEGER}))},
    ),
    Route(
        "POST",
        f"{API}/runs/{{id}}/continue",
        go_on,
        "Let a run go on that waits at a breakpoint",
        "queue",
        {200: Reply("the nodes that it goes on with", record({"continued": {"type": "array", "items": TEXT}}))},
        paths=ID,
        body=record({"node": {"type": "string", "description": "only at this one"}}, more=True) | {"required": []},
    ),
    Route(
        "POST",
        f"{API}/runs/{{id}}/priority",
        prioritise,
        "Change a run's place among others",
        "queue",
        {200: Reply("false when it had ended", record({"changed": BOOLEAN}))},
        paths=ID,
        body=record({"priority": {"type": "integer", "minimum": -1000, "maximum": 1000}}),
    ),
)
