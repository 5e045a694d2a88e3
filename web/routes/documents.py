"""Saved workflows: list, read, write, remove; and the question whether a workflow could run."""

from __future__ import annotations

import asyncio

from aiohttp import web

from web import schemas
from web.routes.route import API, Call, Reply, Route, json_response, read_json
from web.schemas import ref
from web.state import house
from web.submission import Submission

NAME = {"name": "the workflow's name, folders and all: chat/any_to_any"}


async def listing(call: Call) -> web.StreamResponse:
    return json_response({"documents": await asyncio.to_thread(house(call.request).library.entries)})


async def one(call: Call) -> web.StreamResponse:
    return json_response(await asyncio.to_thread(house(call.request).library.load, call.path("name")))


async def save(call: Call) -> web.StreamResponse:
    name = call.path("name")
    new = await asyncio.to_thread(house(call.request).library.save, name, await read_json(call.request))
    return json_response({"name": name}, 201 if new else 200)


async def remove(call: Call) -> web.StreamResponse:
    name = call.path("name")
    await asyncio.to_thread(house(call.request).library.remove, name)
    return json_response({"name": name})


async def validate(call: Call) -> web.StreamResponse:
    submission = Submission.of(await read_json(call.request))
    return json_response(await submission.validate(house(call.request)))


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
        {200: Reply("replaced", SAVED), 201: Reply("new", SAVED)},
        paths=NAME,
        body=ref("Document"),
    ),
    Route(
        "DELETE",
        f"{API}/documents/{{name:.+}}",
        remove,
        "Remove a saved workflow",
        "documents",
        {200: Reply("removed", SAVED)},
        paths=NAME,
    ),
)
