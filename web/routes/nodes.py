"""The node types that can be put on the canvas, and the kinds of what travels between them."""

from __future__ import annotations

import asyncio

from aiohttp import web

from graph_engine.graph.canvas import drawn, drawn_kinds
from web import schemas
from web.routes.route import API, Call, Reply, Route, json_response
from web.schemas import ref
from web.state import house


async def listing(call: Call) -> web.StreamResponse:
    registry = house(call.request).engine.registry
    found = await asyncio.to_thread(lambda: [drawn(type) for type in registry])
    return json_response({"nodes": found, "failures": registry.failures})


async def one(call: Call) -> web.StreamResponse:
    return json_response(drawn(house(call.request).engine.registry[call.path("id")]))


async def kinds(call: Call) -> web.StreamResponse:
    return json_response({"kinds": await asyncio.to_thread(drawn_kinds, list(house(call.request).engine.registry))})


TABLE = (
    Route(
        "GET",
        f"{API}/nodes",
        listing,
        "All node types",
        "nodes",
        {
            200: Reply(
                "every node type; packs that could not be loaded, and why",
                schemas.record(
                    {
                        "nodes": {"type": "array", "items": ref("NodeType")},
                        "failures": {"type": "object", "additionalProperties": schemas.TEXT},
                    }
                ),
            )
        },
    ),
    Route(
        "GET",
        f"{API}/nodes/{{id}}",
        one,
        "One node type",
        "nodes",
        {200: Reply("the node type", ref("NodeType"))},
        paths={"id": "such as media.load_image"},
    ),
    Route(
        "GET",
        f"{API}/kinds",
        kinds,
        "Kinds of values: what fits where, and which node turns one into another",
        "nodes",
        {200: Reply("every kind that some port has", schemas.listing("kinds", ref("Kind")))},
    ),
)
