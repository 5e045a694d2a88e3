"""The node types that can be put on the canvas."""

from __future__ import annotations

from aiohttp import web

from web import schemas
from web.routes.route import API, Call, Reply, Route, json_response
from web.schemas import ref
from web.state import house


async def listing(call: Call) -> web.StreamResponse:
    registry = house(call.request).engine.registry
    return json_response({"nodes": [type.to_dict() for type in registry], "failures": registry.failures})


async def one(call: Call) -> web.StreamResponse:
    return json_response(house(call.request).engine.registry[call.path("id")].to_dict())


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
)
