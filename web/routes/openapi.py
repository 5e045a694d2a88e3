"""The OpenAPI document, made from the route table."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from aiohttp import web

import graph_engine
from web.routes.route import API, Call, Reply, Route, json_response
from web.schemas import OBJECT, SCHEMAS, ref

_PATTERN = re.compile(r"\{(\w+):[^}]*\}")


def document(table: Iterable[Route]) -> dict[str, Any]:
    """OpenAPI 3.1 for the routes of `table`."""
    paths: dict[str, dict[str, Any]] = {}
    for route in table:
        paths.setdefault(_PATTERN.sub(r"{\1}", route.path), {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Anyloom",
            "version": graph_engine.__version__,
            "description": "A workflow node-graph backend for any-to-any multimodal AI.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "responses": {"Error": {"description": "what went wrong", "content": _json(ref("Error"))}},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(route: Route) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "description": text, "schema": {"type": "string"}}
        for name, text in route.paths.items()
    ]
    parameters += [parameter.to_dict() for parameter in route.parameters]
    path = _PATTERN.sub(r"{\1}", route.path)
    name = re.sub(r"\W+", "_", f"{route.method.lower()} {path}").strip("_")
    operation: dict[str, Any] = {"operationId": name, "summary": route.summary, "tags": [route.tag]}
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": {route.body_type: {"schema": route.body}}}
    responses = {str(status): _reply(reply) for status, reply in route.replies.items()}
    operation["responses"] = responses | {"default": {"$ref": "#/components/responses/Error"}}
    return operation


def _reply(reply: Reply) -> dict[str, Any]:
    if reply.schema is not None:
        return {"description": reply.description, "content": _json(reply.schema)}
    return {"description": reply.description, "content": {reply.media_type: {}}}


def _json(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


async def openapi(call: Call) -> web.StreamResponse:
    from web.routes import TABLE as WHOLE

    return json_response(document(WHOLE))


TABLE = (
    Route("GET", f"{API}/openapi.json", openapi, "This description", "system", {200: Reply("OpenAPI 3.1", OBJECT)}),
)
