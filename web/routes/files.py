"""Files in the folders input, output and temp: bring in, list, fetch."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiohttp import BodyPartReader, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from graph_engine.errors import NotFoundError, PathError, RequestError
from graph_engine.store.folders import Folders
from web import inbox, media_types, schemas
from web.paths import leads_inside
from web.routes.route import API, Call, Parameter, Reply, Route, json_response
from web.schemas import ref
from web.state import house

MAX_SCANNED = 100_000


async def upload(call: Call) -> web.StreamResponse:
    home = house(call.request)
    if call.request.content_type != "multipart/form-data":
        raise RequestError(
            "files come as multipart/form-data.", remedy="curl -F file=@cat.png ...", code="unsupported_media_type"
        )
    found: list[dict[str, Any]] = []
    try:
        reader = await call.request.multipart()
        while (part := await reader.next()) is not None:
            if isinstance(part, BodyPartReader) and part.filename is not None:
                found.append(
                    await inbox.receive(home.engine.folders, part.filename, _parts(part), home.limits.upload_bytes)
                )
    except (ValueError, AssertionError, HttpProcessingError, web.HTTPBadRequest) as error:
        why = getattr(error, "message", error)  # aiohttp's own errors quote the header below their message
        raise RequestError(
            f"the upload is no well-formed multipart body: {why}.", remedy="Send it again.", code="bad_multipart"
        ) from None
    if not found:
        raise RequestError(
            "the upload has no file.", remedy="Send a part with a file name: curl -F file=@cat.png", code="no_file"
        )
    return json_response({"files": found}, 201)


async def _parts(part: BodyPartReader) -> AsyncIterator[bytes]:
    while not part.at_eof():  # an upload that breaks off before its boundary is an AssertionError of aiohttp's
        if data := await part.read_chunk(inbox.PART_BYTES):
            yield data


async def fetch(call: Call) -> web.StreamResponse:
    folders = house(call.request).engine.folders
    path = await asyncio.to_thread(locate, folders, call.path("folder"), call.path("name"))
    return web.FileResponse(path, headers=media_types.headers(path.name))


async def thumbnail(call: Call) -> web.StreamResponse:
    home = house(call.request)
    path = await asyncio.to_thread(locate, home.engine.folders, call.path("folder"), call.path("name"))
    data, etag = await home.thumbnails.of(path, call.query["size"])
    headers = {hdrs.ETAG: f'"{etag}"', hdrs.CACHE_CONTROL: "private, no-cache"}
    if call.request.headers.get(hdrs.IF_NONE_MATCH, "").strip().strip('"') == etag:
        return web.Response(status=304, headers=headers)
    return web.Response(body=data, content_type="image/webp", headers=headers)


async def playable(call: Call) -> web.StreamResponse:
    home = house(call.request)
    path = await asyncio.to_thread(locate, home.engine.folders, call.path("folder"), call.path("name"))
    made = await home.playable.of_file(path)
    return web.FileResponse(made, headers=media_types.headers(made.name))


def locate(folders: Folders, folder: str, name: str) -> Path:
    """The file, which is there. Names that start with a dot are unfinished uploads and the like: nobody's business."""
    try:
        path = folders.resolve(folder, name)
        there = path.is_file() and not any(
            part.startswith(".") for part in path.relative_to(folders.roots[folder].resolve()).parts
        )
    except (ValueError, OSError):
        raise PathError(
            f"{ascii(name)[:80]} is no usable file name.", remedy="Give a file name inside the folder."
        ) from None
    if not there:
        raise NotFoundError(
            f"there is no file {name[:200]!r} in {folder}.",
            remedy=f"GET {API}/files/{folder} lists them.",
            code="file_not_found",
        )
    return path


async def listing(call: Call) -> web.StreamResponse:
    folders = house(call.request).engine.folders
    folder = call.path("folder")
    if folder not in folders.roots:
        raise NotFoundError(f"there is no folder {folder[:80]!r}.", remedy=f"Use one of {', '.join(folders.roots)}.")
    return json_response({"files": await asyncio.to_thread(scan, folders, folder, call.query["limit"])})


def scan(folders: Folders, folder: str, limit: int) -> list[dict[str, Any]]:
    """The newest files first, those of subfolders too. Links that lead outside are not there."""
    root = folders.roots[folder].resolve()
    found: list[tuple[float, str, int]] = []
    for place, inner, names in os.walk(root):
        inner[:] = [name for name in inner if not name.startswith(".")]
        for name in names:
            path = Path(place, name)
            if name.startswith(".") or (path.is_symlink() and not leads_inside(path, root)):
                continue
            try:
                facts = path.stat()
            except OSError:
                continue  # removed since, or a link to nothing
            found.append((facts.st_mtime, path.relative_to(root).as_posix(), facts.st_size))
        if len(found) > MAX_SCANNED:
            break
    found.sort(reverse=True)
    return [
        {
            "folder": folder,
            "name": name,
            "media_type": media_types.media_type(name),
            "bytes": size,
            "modified": modified,
        }
        for modified, name, size in found[:limit]
    ]


FOLDER = {"folder": "input, output or temp"}
FILES = schemas.listing("files", ref("File"))
TABLE = (
    Route(
        "POST",
        f"{API}/files",
        upload,
        "Bring files into the input folder",
        "files",
        {201: Reply("they are there", FILES)},
        body={"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}},
        body_type="multipart/form-data",
    ),
    Route(
        "GET",
        f"{API}/files/{{folder}}",
        listing,
        "What a folder holds, newest first",
        "files",
        {200: Reply("files", FILES)},
        (Parameter("limit", "integer", "how many", 1000, 1, 10_000),),
        FOLDER,
    ),
    Route(
        "GET",
        f"{API}/files/{{folder}}/{{name:.+}}",
        fetch,
        "A file; Range is understood",
        "files",
        {200: Reply("its bytes", media_type="*/*"), 206: Reply("a part of it", media_type="*/*")},
        paths={**FOLDER, "name": "the name, with subfolders"},
    ),
    Route(
        "GET",
        f"{API}/thumbnails/{{folder}}/{{name:.+}}",
        thumbnail,
        "A small picture of a picture or film",
        "files",
        {200: Reply("WebP", media_type="image/webp"), 304: Reply("the one that If-None-Match names is right")},
        (Parameter("size", "integer", "the longer side has at most so many pixels", 256, 16, 1024),),
        {**FOLDER, "name": "the name, with subfolders"},
    ),
    Route(
        "GET",
        f"{API}/playable/{{folder}}/{{name:.+}}",
        playable,
        "A picture, sound or film in a form that every browser shows, made when first asked for; Range is understood",
        "files",
        {200: Reply("PNG, AAC or H.264", media_type="*/*"), 206: Reply("a part of it", media_type="*/*")},
        paths={**FOLDER, "name": "the name, with subfolders"},
    ),
)
