"""The pages: the editor, as it was built from web/editor, and a plain page that says what this server has and does.

Both are files, read by a browser that talks to the API like any other client. Where the editor was not built, the plain
page is the front page.
"""

from __future__ import annotations

import re
from pathlib import Path

from aiohttp import web

from graph_engine.errors import NotFoundError
from web.routes.route import Call, Reply, Route

STATIC = Path(__file__).resolve().parent.parent / "static"
FILES = {
    "home.css": "text/css; charset=utf-8",
    "home.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
EDITOR = STATIC / "editor"
ASSET = re.compile(r"[\w\-]+(\.[\w\-]+)+")
ASSET_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}


async def page(call: Call) -> web.StreamResponse:
    built = EDITOR / "index.html"
    return _html(built if built.is_file() else STATIC / "home.html")


async def status(call: Call) -> web.StreamResponse:
    return _html(STATIC / "home.html")


def _html(path: Path) -> web.StreamResponse:
    return web.FileResponse(path, headers={"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-cache"})


async def asset(call: Call) -> web.StreamResponse:
    """A part of the editor. Its name has a digest of its content, so a browser may keep it for ever."""
    name = call.path("name")
    path = EDITOR / "assets" / name
    if not ASSET.fullmatch(name) or path.suffix not in ASSET_TYPES or not path.is_file():
        raise NotFoundError(f"there is no part {name[:80]!r} of the editor.", remedy="Reload the page.")
    headers = {"Content-Type": ASSET_TYPES[path.suffix], "Cache-Control": "public, max-age=31536000, immutable"}
    return web.FileResponse(path, headers=headers)


async def static(call: Call) -> web.StreamResponse:
    """By a fixed list, so that no name can lead anywhere else."""
    name = call.path("name")
    if name not in FILES:
        raise NotFoundError(f"there is no page file {name[:80]!r}.", remedy="Open /.")
    return web.FileResponse(STATIC / name, headers={"Content-Type": FILES[name], "Cache-Control": "no-cache"})


TABLE = (
    Route("GET", "/", page, "The editor", "page", {200: Reply("HTML", media_type="text/html")}),
    Route("GET", "/status", status, "The server at a glance", "page", {200: Reply("HTML", media_type="text/html")}),
    Route(
        "GET",
        "/assets/{name}",
        asset,
        "A part of the editor",
        "page",
        {200: Reply("the file", media_type="*/*")},
        paths={"name": "the part's name"},
    ),
    Route(
        "GET",
        "/static/{name}",
        static,
        "A file of the status page",
        "page",
        {200: Reply("the file", media_type="*/*")},
        paths={"name": "the file's name"},
    ),
)
