"""What an editor lives on: its own files, node types it can draw, kinds it can match."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from tests.protocol.live import LiveServer
from tests.protocol.test_http import take
from tests.protocol.wire import PROTOCOLS, wire
from web.routes import editor

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def http(live: LiveServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"{live.url}/api/v1/") as session:
        yield session


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A build of the editor, with everything around it that must not be served."""
    (tmp_path / "secret.js").write_text("classified")
    folder = tmp_path / "editor"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>the editor</title>")
    (folder / "assets" / "index-BcD3fGh1.js").write_text("run()")
    (folder / "assets" / "plain.js").write_text("run()")
    (folder / ".hidden.js").write_text("classified")
    (folder / "notes.txt").write_text("classified")
    (folder / "out.js").symlink_to(tmp_path / "secret.js")
    monkeypatch.setattr(editor, "EDITOR", folder)
    return folder


async def test_the_editor_is_at_the_front_once_it_is_built(live: LiveServer, built: Path) -> None:
    async with aiohttp.ClientSession(live.url) as session:
        async with session.get("/") as response:
            assert "the editor" in await response.text()
            assert response.headers["Cache-Control"] == "no-cache"
            assert "script-src 'self';" in response.headers["Content-Security-Policy"]
            assert "unsafe" not in response.headers["Content-Security-Policy"]
        async with session.get("/static/editor/assets/index-BcD3fGh1.js") as response:
            assert (await response.text(), response.content_type) == ("run()", "text/javascript")
            assert "immutable" in response.headers["Cache-Control"]
        async with session.get("/static/editor/assets/plain.js") as response:
            assert response.headers["Cache-Control"] == "no-cache"
        async with session.get("/home") as response:
            assert "home.js" in await response.text()


async def test_without_a_build_the_page_of_the_server_is_at_the_front(
    live: LiveServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(editor, "EDITOR", tmp_path / "nothing")
    async with aiohttp.ClientSession(live.url) as session:
        async with session.get("/") as response:
            assert "home.js" in await response.text()
        async with session.get("/static/editor/index.html") as response:
            assert response.status == 404


@pytest.mark.parametrize(
    "name",
    [
        "../secret.js", "%2e%2e/secret.js", "..%2fsecret.js", "out.js", ".hidden.js", "notes.txt", "assets",
        "assets/none.js", "", "a/b/c/d/e/f.js", "%00.js", "workflow/1",
    ],
)  # fmt: skip
async def test_nothing_but_the_build_is_served(live: LiveServer, built: Path, name: str) -> None:
    """An unknown address is an error too, never the page."""
    async with (
        aiohttp.ClientSession(live.url) as session,
        session.get(f"{live.url}/static/editor/{name}") as response,
    ):
        assert response.status == 404
        assert "classified" not in await response.text()


async def test_node_types_have_all_that_is_drawn(http: aiohttp.ClientSession) -> None:
    async with http.get("nodes") as response:
        nodes = {entry["id"]: entry for entry in (await take(response, ("/nodes", "get"), 200))["nodes"]}
    [file, frames] = nodes["media.load_image"]["inputs"]
    assert file["widget"] == {"type": "file", "upload": "image"}
    assert frames["description"].startswith("of an animation")
    async with http.get("nodes/media.solid_image") as response:
        assert (await take(response, ("/nodes/{id}", "get"), 200)) == nodes["media.solid_image"]


async def test_kinds_over_both_doors(live: LiveServer, http: aiohttp.ClientSession) -> None:
    async with http.get("kinds") as response:
        found = (await take(response, ("/kinds", "get"), 200))["kinds"]
    text = next(entry for entry in found if entry["name"] == "STRING")
    assert ("FLOAT", "control.to_number") in [(entry["to"], entry["node"]) for entry in text["converters"]]
    for protocol in PROTOCOLS:
        async with wire(live.url, protocol) as socket:
            assert (await socket.ask("kinds"))["kinds"] == found
