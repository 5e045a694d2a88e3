"""Saved workflows: list, read, write, remove; and the question whether a workflow could run."""

from __future__ import annotations

import asyncio

from aiohttp import hdrs, web

from web import schemas
from web.routes.route import API, Call, Parameter, Reply, Route, json_response, read_json
from web.schemas import ref
from web.state import house
from web.submission import Submission

NAME = {"name": "the workflow's name, folders and all: chat/any_to_any"}


async def listing(call: Call) -> web.StreamResponse:
    return json_response({"documents": await asyncio.to_thread(house(call.request).library.entries)})


async def one(call: Call) -> web.StreamResponse:
    raw, etag = await asyncio.to_thread(house(call.request).library.read, call.path("name"))
    return json_response(raw, headers=tag(etag))


async def save(call: Call) -> web.StreamResponse:
    name, library = call.path("name"), house(call.request).library
    raw, expected = await read_json(call.request), known(call.request)
    saved = await asyncio.to_thread(library.save, name, raw, expected)
    return json_response({"name": name}, 201 if saved.new else 200, tag(saved.etag))


async def remove(call: Call) -> web.StreamResponse:
    name = call.path("name")
    await asyncio.to_thread(house(call.request).library.remove, name, known(call.request))
    return json_response({"name": name})


def known(request: web.Request) -> str | None:
    """The content that the writer knows: If-Match with an ETag, or `If-None-Match: *` for none; None: it does not care."""
    if request.headers.get(hdrs.IF_NONE_MATCH, "").strip() == "*":
        return ""
    given = request.headers.get(hdrs.IF_MATCH, "*").strip()
    return None if given == "*" else given.removeprefix("W/").strip('"') or "?"


def tag(etag: str) -> dict[str, str]:
    return {hdrs.ETAG: f'"{etag}"'}


async def versions(call: Call) -> web.StreamResponse:
    library, name, id = house(call.request).library, call.path("name"), call.query["version"]
    if id is not None:
        return json_response(await asyncio.to_thread(library.version, name, id))
    found = await asyncio.to_thread(library.versions, name)
    return json_response({"versions": [version._asdict() for version in found]})


async def restore(call: Call) -> web.StreamResponse:
    library, name, id = house(call.request).library, call.path("name"), call.query["version"] or ""
    saved = await asyncio.to_thread(library.restore, name, id, known(call.request))
    return json_response({"name": name}, headers=tag(saved.etag))


async def validate(call: Call) -> web.StreamResponse:
    submission = Submission.of(await read_json(call.request))
    return json_response(await submission.validate(house(call.request)))


CHANGED = Reply("another content is there than If-Match names; nothing was written", ref("Error"))
VERSION = Parameter("version", "string", "the id of a version")
LISTED = schemas.listing(
    "versions",
    schemas.record(
        {
            "id": schemas.TEXT,
            "replaced": {"type": "number", "description": "unix seconds at which something else took its place"},
            "etag": schemas.TEXT,
            "bytes": schemas.INTEGER,
        }
    ),
)
SAVED = schemas.record({"name": schemas.TEXT})
TABLE = (
    Route(
        "GET",
        f"{API}/documents",
        listing,
        "Saved workflows",
        "documents",
        {200: Reply("what there is", schemas.listing("documents", ref("Workflow")))},
    ),
    Route(
        "POST",
        f"{API}/documents/validate",
        validate,
        "Could this workflow run?",
        "documents",
        {
            200: Reply(
                "it could",
                schemas.record(
                    {"nodes": schemas.INTEGER, "targets": {"type": "array", "items": schemas.TEXT}}, more=True
                ),
            )
        },
        body=ref("Submission"),
    ),
    Route(
        "GET",
        f"{API}/documents/{{name:.+}}",
        one,
        "A saved workflow",
        "documents",
        {200: Reply("it", ref("Document"))},
        paths=NAME,
    ),
    Route(
        "PUT",
        f"{API}/documents/{{name:.+}}",
        save,
        "Save a workflow",
        "documents",
        {200: Reply("replaced", SAVED), 201: Reply("new", SAVED), 412: CHANGED},
        paths=NAME,
        body=ref("Document"),
    ),
    Route(
        "DELETE",
        f"{API}/documents/{{name:.+}}",
        remove,
        "Remove a saved workflow",
        "documents",
        {200: Reply("removed; it stays as a version", SAVED), 412: CHANGED},
        paths=NAME,
    ),
    Route(
        "GET",
        f"{API}/versions/{{name:.+}}",
        versions,
        "What a saved workflow was before, newest first; with `version` one of these",
        "documents",
        {200: Reply("the versions, or the workflow as it was", {"anyOf": [LISTED, ref("Document")]})},
        (VERSION,),
        NAME,
    ),
    Route(
        "POST",
        f"{API}/versions/{{name:.+}}",
        restore,
        "Make a version the present one",
        "documents",
        {200: Reply("restored; what was there is a version now", SAVED), 412: CHANGED},
        (VERSION,),
        NAME,
    ),
)
