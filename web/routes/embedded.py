"""The workflow that a picture, sound or film carries: every file that Anyloom writes can be opened as what made it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from aiohttp import web

from graph_engine.errors import NotFoundError
from web.routes.files import FOLDER, locate
from web.routes.route import API, Call, Reply, Route, json_response
from web.schemas import OBJECT
from web.state import house


async def embedded(call: Call) -> web.StreamResponse:
    folders = house(call.request).engine.folders
    path = await asyncio.to_thread(locate, folders, call.path("folder"), call.path("name"))
    return json_response({"document": await asyncio.to_thread(_read, path)})


def _read(path: Path) -> dict[str, Any]:
    from nodes.media import workflow_metadata

    found = workflow_metadata.read_workflow(path)
    if found is None:
        raise NotFoundError(
            f"{path.name!r} carries no workflow.",
            remedy="Files that Anyloom's save nodes wrote do, unless a program in between removed it.",
            code="no_workflow",
        )
    return found


TABLE = (
    Route(
        "GET",
        f"{API}/embedded/{{folder}}/{{name:.+}}",
        embedded,
        "The workflow that a file carries",
        "files",
        {
            200: Reply(
                "it, as it was saved", {"type": "object", "properties": {"document": OBJECT}, "required": ["document"]}
            )
        },
        paths={**FOLDER, "name": "the name, with subfolders"},
    ),
)
