"""The front page: what this server has and does. Plain files; their script reads the API like any other client."""

from __future__ import annotations

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


async def page(call: Call) -> web.StreamResponse:
    return web.FileResponse(
        STATIC / "home.html", headers={"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-cache"}
    )


async def static(call: Call) -> web.StreamResponse:
    """By a fixed list, so that no name can lead anywhere else."""
    name = call.path("name")
    if name not in FILES:
        raise NotFoundError(f"there is no page file {name[:80]!r}.", remedy="Open /.")
    return web.FileResponse(STATIC / name, headers={"Content-Type": FILES[name], "Cache-Control": "no-cache"})


TABLE = (
    Route("GET", "/", page, "The front page", "page", {200: Reply("HTML", media_type="text/html")}),
    Route(
        "GET",
        "/static/{name}",
        static,
        "A file of the front page",
        "page",
        {200: Reply("the file", media_type="*/*")},
        paths={"name": "the file's name"},
    ),
)
