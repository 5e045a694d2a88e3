"""The node types that can be put on the canvas."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiohttp import web

from graph_engine.graph.kinds import Kind
from graph_engine.graph.node import NodeType
from web import schemas
from web.routes.route import API, Call, Reply, Route, json_response
from web.schemas import ref
from web.state import house


async def listing(call: Call) -> web.StreamResponse:
    registry = house(call.request).engine.registry
    return json_response(
        {"nodes": [type.to_dict() for type in registry], "kinds": kinds(registry), "failures": registry.failures}
    )


def kinds(registry: Iterable[NodeType]) -> dict[str, dict[str, Any]]:
    """Every kind that a port has, with what an editor needs to draw it and to say what fits."""
    found: dict[str, Kind] = {}
    for type in registry:
        for port in (*type.inputs, *((type.more,) if type.more else ()), *type.outputs):
            found.setdefault(port.kind.name, port.kind)
    return {
        name: {
            "color": kind.color,
            "description": kind.description,
            "literal": kind.literal,
            "accepts": [other.name for other in found.values() if kind.accepts(other)],
        }
        for name, kind in sorted(found.items())
    }


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
                "every node type; every kind; packs that could not be loaded, and why",
                schemas.record(
                    {
                        "nodes": {"type": "array", "items": ref("NodeType")},
                        "kinds": {"type": "object", "additionalProperties": ref("Kind")},
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
