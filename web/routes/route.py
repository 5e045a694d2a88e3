"""Route: what the router, the handler and the OpenAPI document have to agree on, said once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from graph_engine import collector
from graph_engine.errors import RequestError
from web.frames import JSON, LARGE_BYTES, too_large
from web.state import house

API = "/api/v1"
Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Parameter:
    """One query parameter. `type` is "string", "integer" or "number"; `options` are the words that are allowed."""

    name: str
    type: str
    description: str
    default: Any = None
    low: float | None = None
    high: float | None = None
    options: tuple[str, ...] = ()

    def read(self, text: str | None) -> Any:
        """The value, or RequestError that says what is allowed."""
        if text is None:
            return self.default
        if self.options and text not in self.options:
            raise self._refused(text, f"one of {', '.join(self.options)}")
        if self.type == "string":
            return text
        try:
            value = int(text) if self.type == "integer" else float(text)
        except ValueError:
            raise self._refused(text, "a whole number" if self.type == "integer" else "a number") from None
        low, high = self.low, self.high
        if not ((low is None or value >= low) and (high is None or value <= high)):  # NaN is refused as well
            raise self._refused(text, f"in {'' if low is None else f'{low:g}'}..{'' if high is None else f'{high:g}'}")
        return value

    def _refused(self, text: str, allowed: str) -> RequestError:
        return RequestError(
            f"{self.name}={text[:80]} is not allowed: it must be {allowed}.",
            remedy="Correct the query.",
            code="bad_parameter",
            place=f"?{self.name}",
        )

    def to_dict(self) -> dict[str, Any]:
        """As OpenAPI writes it."""
        schema: dict[str, Any] = {"type": self.type}
        for key, value in (("default", self.default), ("minimum", self.low), ("maximum", self.high)):
            if value is not None:
                schema[key] = value
        if self.options:
            schema["enum"] = list(self.options)
        return {"name": self.name, "in": "query", "description": self.description, "required": False, "schema": schema}


@dataclass(frozen=True)
class Reply:
    """One status that a route answers with. `schema` None: no JSON (see `media_type`)."""

    description: str
    schema: Schema | None = None
    media_type: str = "application/json"


@dataclass(frozen=True)
class Call:
    """A request with its parameters read."""

    request: web.Request
    query: Mapping[str, Any]

    def path(self, name: str) -> str:
        return self.request.match_info[name]


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    handler: Callable[[Call], Awaitable[web.StreamResponse]]
    summary: str
    tag: str
    replies: Mapping[int, Reply]
    parameters: tuple[Parameter, ...] = ()
    paths: Mapping[str, str] = field(default_factory=dict)
    """Path parameters and what they are."""
    body: Schema | None = None
    body_type: str = "application/json"

    def add_to(self, router: web.UrlDispatcher) -> None:
        if self.method == "GET":
            router.add_get(self.path, self._serve)  # and HEAD
        else:
            router.add_route(self.method, self.path, self._serve)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        query = {parameter.name: parameter.read(request.query.get(parameter.name)) for parameter in self.parameters}
        return await self.handler(Call(request, query))


async def read_json(request: web.Request) -> dict[str, Any]:
    """The JSON object in the body. Raises RequestError or DocumentError, never anything else."""
    limits = house(request).limits
    if request.content_type != "application/json":
        raise RequestError(
            "the body must be JSON.", remedy="Send Content-Type: application/json.", code="unsupported_media_type"
        )
    if request.content_length is not None and request.content_length > limits.body_bytes:
        raise too_large("the body", request.content_length, limits.body_bytes)
    try:
        async with asyncio.timeout(limits.body_s):
            data = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise too_large("the body", None, limits.body_bytes) from None
    except TimeoutError:
        raise RequestError("the body did not arrive in time.", remedy="Send it again.", code="body_timeout") from None
    value = (
        JSON.decode(data) if len(data) <= LARGE_BYTES else await asyncio.to_thread(collector.paused, JSON.decode, data)
    )
    if not isinstance(value, dict):
        raise RequestError("the body must be a JSON object.", remedy='Send {"...": ...}.', code="bad_field", place="/")
    return value


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=JSON.encode(value), status=status, content_type="application/json", headers=headers)


PIECE = 200


async def long_response(value: Mapping[str, Any], name: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """As `json_response`, for a value whose list `name` may have many thousand entries: written in a thread, some entries at a
    time, because the writer of JSON keeps the interpreter to itself while it is at it (law P10)."""
    body = await asyncio.to_thread(_long, value, name)
    return web.Response(body=body, content_type="application/json", headers=headers)


def _long(value: Mapping[str, Any], name: str) -> bytes:
    entries = value[name]
    pieces = [JSON.encode(entries[begin : begin + PIECE])[1:-1] for begin in range(0, len(entries), PIECE)]
    rest = JSON.encode({key: entry for key, entry in value.items() if key != name})[1:-1]
    return b"{" + JSON.encode(name) + b":[" + b",".join(pieces) + b"]" + (b"," + rest if rest else b"") + b"}"
