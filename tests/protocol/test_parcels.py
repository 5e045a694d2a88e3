"""A workflow with its files as one file: over HTTP, and for the client library."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from graph_engine.client import AsyncClient, ServerError
from tests.protocol.live import LiveServer, workflow
from tests.protocol.test_http import take

pytestmark = pytest.mark.asyncio
ZIP = {"Content-Type": "application/zip"}
MAKE, OPEN = ("/parcels", "post"), ("/parcels/open", "post")


@pytest_asyncio.fixture
async def http(live: LiveServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"{live.url}/api/v1/") as session:
        yield session


def reading(file: str) -> dict[str, Any]:
    return workflow({"text": ("media.load_text", {"file": file}), "out": ("trial.show", {}, {"value": "text.text"})})


async def test_there_and_back(live: LiveServer, http: aiohttp.ClientSession, tmp_path: Path) -> None:
    source = tmp_path / "词 of a song.txt"
    source.write_text("la la", encoding="utf-8")
    async with AsyncClient(live.url) as client:
        document = reading(await client.upload(source))
        path = await client.share(document, tmp_path / "song.anyloom")
        (live.engine.folders.roots["input"] / source.name).unlink()
        opened = await client.unpack(path)
        assert opened["nodes"] == document["nodes"]
        assert (await client.run(opened)).outputs["out"]["value"] == "la la"
        path.write_bytes(path.read_bytes()[:-30])
        with pytest.raises(ServerError) as refused:
            await client.unpack(path)
        assert refused.value.problem.code == "bad_parcel"
    async with http.post("parcels", json={"document": document, "name": "a/b: c"}) as response:
        assert response.headers["Content-Disposition"] == "attachment; filename*=UTF-8''b_%20c.anyloom"
        with zipfile.ZipFile(io.BytesIO(await response.read())) as archive:
            assert json.loads(archive.read("workflow.json"))["nodes"] == document["nodes"]
    async with http.post("parcels", json={"document": reading("nothing.txt")}) as response:
        assert (await take(response, MAKE, 404))["error"]["node"] == "text"


async def test_what_is_too_large_is_read_no_further(live: LiveServer, http: aiohttp.ClientSession) -> None:
    async def much() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield bytes(1 << 20)

    with contextlib.suppress(aiohttp.ClientConnectionError):  # hung up on while it still sent
        async with http.post("parcels/open", data=much(), headers=ZIP) as response:
            await take(response, OPEN, 413)
    await asyncio.sleep(0.3)  # what was not sent is given up behind aiohttp's back; the loop has to live to see it
    assert not [path for path in live.engine.folders.roots["temp"].iterdir() if path.name.startswith(".parcel")]
