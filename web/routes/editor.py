"""The files of the built editor, `web/static/editor/`: its page at `/`, the rest under `/static/editor/`.

The build gives files in `assets/` a digest in their names, so they never change; the page itself is asked for anew each
time. Nothing but what lies in that folder is served, and an unknown address is never answered with the page.
"""

from __future__ import annotations

import re
from pathlib import Path

from aiohttp import web

from graph_engine.errors import NotFoundError
from web.paths import leads_inside
from web.routes.route import Call, Reply, Route

EDITOR = Path(__file__).resolve().parent.parent / "static" / "editor"
NAME = re.compile(r"(?:[\w\-]+/){0,4}[\w\-][\w\-.]{0,120}")
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}
HASHED = re.compile(r"assets/.*[-.][\w\-]{8,}\.\w+")
FOREVER, ANEW = "private, max-age=31536000, immutable", "no-cache"


def is_built() -> bool:
    return (EDITOR / "index.html").is_file()


def page() -> web.FileResponse:
    """The editor's page."""
    return web.FileResponse(EDITOR / "index.html", headers={"Content-Type": TYPES[".html"], "Cache-Control": ANEW})


async def file(call: Call) -> web.StreamResponse:
    """A file of the build; one of its `.gz` or `.br` beside it is sent to those who take that."""
    name = call.path("name")
    path = EDITOR / name
    kind = TYPES.get(path.suffix)
    if not NAME.fullmatch(name) or kind is None or not leads_inside(path, EDITOR.resolve()) or not path.is_file():
        raise NotFoundError(
            f"the editor has no file {name[:80]!r}.", remedy="Load the page / again: it may be of another version."
        )
    caching = FOREVER if HASHED.fullmatch(name) else ANEW
    return web.FileResponse(path, headers={"Content-Type": kind, "Cache-Control": caching})


TABLE = (
    Route(
        "GET",
        "/static/editor/{name:.+}",
        file,
        "A file of the editor",
        "page",
        {200: Reply("the file", media_type="*/*")},
        paths={"name": "the file's name in the build"},
    ),
)
