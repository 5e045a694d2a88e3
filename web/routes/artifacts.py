"""Artifacts: the large values of a run's results, by their key."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from aiohttp import web

from graph_engine.errors import NotFoundError, RequestError
from graph_engine.graph.kinds import describe
from web import digest, media_types
from web.routes.route import API, Call, Parameter, Reply, Route, json_response
from web.state import house

KEY = re.compile(r"[\w\-.:]{1,160}")
MAX_NUMBERS = 100_000
"""Larger tensors are not written out as JSON."""


async def artifact(call: Call) -> web.StreamResponse:
    engine = house(call.request).engine
    key, port = call.path("key"), call.path("port")
    if not KEY.fullmatch(key) or not (port.isascii() and port.isdigit() and len(port) < 5):
        raise NotFoundError(
            f"there is no artifact {key[:80]!r}, port {port[:8]!r}.", remedy="Keys stand in a run's result."
        )
    if call.query["format"] == "json":
        value = await engine.artifact(key, int(port))
        return json_response({"value": await asyncio.to_thread(plain, value)})
    if call.query["format"] == "digest":
        value = _item(await engine.artifact(key, int(port)), call.query["item"])
        return json_response({"value": await asyncio.to_thread(digest.digest, value)})
    if call.query["format"] == "media":
        return await _media(call, key, int(port))
    body = await engine.artifact_bytes(key, int(port))
    headers = {"Content-Disposition": "attachment"}
    return web.Response(body=body, content_type="application/octet-stream", headers=headers)


async def _media(call: Call, key: str, port: int) -> web.StreamResponse:
    home, item, index = house(call.request), call.query["item"], call.query["index"]
    value = _item(await home.engine.artifact(key, port), item)
    medium = await asyncio.to_thread(digest.medium_of, value)
    path = await home.playable.of(
        f"{key}\0{port}\0{item}\0{index}",
        digest.SUFFIXES.get(medium, "bin"),
        lambda target: digest.media_of(value, index, target),
    )
    return web.FileResponse(path, headers=media_types.headers(path.name))


def _item(value: Any, item: int) -> Any:
    """Of a list output, what one of the mapped calls gets; -1: the whole."""
    if item < 0:
        return value
    if not isinstance(value, list) or item >= len(value):
        raise NotFoundError(f"there is no item {item}: {describe(value)}.", remedy="Leave ?item away.")
    return value[item]


def plain(value: Any) -> Any:
    """A value as JSON: small tensors as nested lists with their dtype. Raises RequestError for large ones."""
    if hasattr(value, "tolist") and hasattr(value, "shape"):
        count = 1
        for size in value.shape:
            count *= size
        if count > MAX_NUMBERS:
            raise RequestError(
                f"{describe(value)} is too large for JSON.",
                remedy="Fetch it without ?format=json; graph_engine.store.codec reads it.",
                code="too_large",
            )
        return {"dtype": str(value.dtype).removeprefix("torch."), "shape": list(value.shape), "data": value.tolist()}
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if hasattr(value, "to_dict"):
        return value.to_dict()
    return value


TABLE = (
    Route(
        "GET",
        f"{API}/artifacts/{{key}}/{{port}}",
        artifact,
        "A large value",
        "runs",
        {200: Reply("the value as graph_engine.store.codec writes it, or JSON", media_type="application/octet-stream")},
        (
            Parameter(
                "format",
                "string",
                "json: written out, for small values; digest: what it is, its extent and a strip of it, as JSON; "
                "media: a picture, sound or film as PNG, WAV or MP4",
                "binary",
                options=("binary", "json", "digest", "media"),
            ),
            Parameter(
                "item", "integer", "digest and media: one item of a list output; -1: the whole", -1, -1, 1_000_000
            ),
            Parameter("index", "integer", "media: which entry of a batch", 0, 0, 1_000_000),
        ),
        {"key": "the artifact's key, from a run's result", "port": "the index of the output port"},
    ),
)
