"""The kinds of values: what fits where, and which node turns one into another."""

from __future__ import annotations

import asyncio

from aiohttp import web

from graph_engine.graph.canvas import drawn_kinds
from web.routes.route import API, Call, Reply, Route, json_response
from web.schemas import BOOLEAN, TEXT, listing, record
from web.state import house


async def kinds(call: Call) -> web.StreamResponse:
    return json_response({"kinds": await asyncio.to_thread(drawn_kinds, list(house(call.request).engine.registry))})


KIND = record(
    {
        "name": TEXT,
        "description": TEXT,
        "color": {"type": "string", "description": "#rrggbb, a proposal"},
        "literal": {"type": "boolean", "description": "can be written into a workflow"},
        "model": BOOLEAN,
        "accepts": {"type": "array", "items": TEXT, "description": "outputs of these may be linked to inputs of it"},
        "converters": {
            "type": "array",
            "description": "nodes that make another kind of it and need nothing else, the simplest first",
            "items": record({"to": TEXT, "node": TEXT, "title": TEXT, "input": TEXT, "output": TEXT}),
        },
    }
)
TABLE = (
    Route(
        "GET",
        f"{API}/kinds",
        kinds,
        "Kinds of values: what fits where, and which node turns one into another",
        "nodes",
        {200: Reply("every kind that some port has", listing("kinds", KIND))},
    ),
)
