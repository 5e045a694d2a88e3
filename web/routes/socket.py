"""The upgrade to the websocket."""

from __future__ import annotations

from aiohttp import web

from web.routes.route import API, Call, Parameter, Reply, Route
from web.state import house
from web.ws import Socket


async def upgrade(call: Call) -> web.StreamResponse:
    return await Socket(house(call.request), call.query["client"]).serve(call.request)


TABLE = (
    Route(
        "GET",
        f"{API}/ws",
        upgrade,
        "Websocket: submit, watch, cancel, fetch (see web/ws.py)",
        "websocket",
        {101: Reply("subprotocols anyloom.json (text frames) and anyloom.msgpack (binary frames)")},
        (
            Parameter("client", "string", "who submits; `GET /runs?client=` finds it again", ""),
            Parameter("token", "string", "the server's token, where no header can be set"),
        ),
    ),
)
