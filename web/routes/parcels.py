"""Parcels: a workflow with the files that it reads as one file, made and opened."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from aiohttp import hdrs, web

from web import inbox, parcel, schemas
from web.frames import too_large
from web.routes.route import API, Call, Reply, Route, json_response, read_json
from web.schemas import ref
from web.state import House, house
from web.submission import Submission

BINARY = {"type": "string", "format": "binary"}


async def make(call: Call) -> web.StreamResponse:
    home = house(call.request)
    submission = Submission.of(await read_json(call.request))
    document = await submission.resolve(home)
    name = inbox.safe_name(submission.name or str(document.get("title") or "") or submission.workflow or "workflow")
    with tempfile.TemporaryFile(dir=home.engine.folders.roots["temp"]) as file:
        size = await asyncio.to_thread(_pack, home, document, file)
        response = web.StreamResponse(
            headers={
                hdrs.CONTENT_TYPE: parcel.MEDIA_TYPE,
                hdrs.CONTENT_LENGTH: str(size),
                hdrs.CONTENT_DISPOSITION: f"attachment; filename*=UTF-8''{quote(name + parcel.SUFFIX)}",
            }
        )
        await response.prepare(call.request)
        while part := await asyncio.to_thread(file.read, inbox.PART_BYTES):
            await response.write(part)
        await response.write_eof()
        return response


def _pack(home: House, document: Mapping[str, Any], file: BinaryIO) -> int:
    parcel.pack(document, home.engine.folders, home.engine.registry, file, home.limits.upload_bytes)
    size = file.tell()
    file.seek(0)
    return size


async def open_(call: Call) -> web.StreamResponse:
    home = house(call.request)
    limit, size = home.limits.upload_bytes, 0
    with tempfile.NamedTemporaryFile(dir=home.engine.folders.roots["temp"], prefix=".parcel-") as file:
        async for part in call.request.content.iter_chunked(inbox.PART_BYTES):
            size += len(part)
            if size > limit:
                raise too_large("the archive", None, limit)
            await asyncio.to_thread(file.write, part)
        await asyncio.to_thread(file.flush)
        opened = await asyncio.to_thread(_unpack, home, Path(file.name))
    return json_response(opened._asdict(), 201)


def _unpack(home: House, path: Path) -> parcel.Opened:
    settings = home.engine.settings
    return parcel.unpack(
        path,
        home.engine.folders,
        home.limits.upload_bytes,
        max_bytes=settings.max_document_bytes,
        max_nodes=settings.max_nodes,
    )


TABLE = (
    Route(
        "POST",
        f"{API}/parcels",
        make,
        "A workflow with the files that it reads, as one file",
        "documents",
        {200: Reply("a zip archive", media_type=parcel.MEDIA_TYPE)},
        body=ref("Submission"),
    ),
    Route(
        "POST",
        f"{API}/parcels/open",
        open_,
        "Bring in the files of a shared workflow; the workflow with their names as they are here",
        "documents",
        {
            201: Reply(
                "opened; nothing is saved under a name",
                schemas.record({"document": ref("Document"), "files": {"type": "array", "items": ref("File")}}),
            )
        },
        body=BINARY,
        body_type=parcel.MEDIA_TYPE,
    ),
)
