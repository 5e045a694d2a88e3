"""A whole any_to_any turn in processes of two devices, against threads: the same files, and decoders side by side."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from graph_engine.client.asynchronous import AsyncClient
from graph_engine.engine import Engine
from graph_engine.settings import Settings
from nodes.nextgpt.any_to_any import any_to_any
from web.server import Server

pytestmark = [
    pytest.mark.asyncio,
    # diffusers hands torch tensors to numpy in the old way.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

ROOT = Path(__file__).resolve().parents[2]
MEDIA = {"image": "lighthouse.png", "audio": "bell.wav", "video": "waves.mp4"}
EVERYTHING = ("text", "image", "video", "audio")
SMALL = {
    "think.max_new_tokens": 40,
    "decode_image.steps": 4, "decode_image.width": 32, "decode_image.height": 32,
    "decode_video.steps": 4, "decode_video.width": 32, "decode_video.height": 32, "decode_video.frames": 4,
    "decode_audio.steps": 4, "decode_audio.seconds": 0.3,
}  # fmt: skip
DEVICES = ("cpu:0", "cpu:1")


@contextlib.asynccontextmanager
async def in_threads(folder: Path) -> AsyncIterator[str]:
    async with (
        await Engine.open(Settings(data_dir=folder, devices=DEVICES)) as engine,
        Server(engine, port=0) as server,
    ):
        yield server.url


@contextlib.asynccontextmanager
async def in_processes(folder: Path) -> AsyncIterator[str]:
    """As a user starts it."""
    flags = ["serve", "--port", "0", "--data", str(folder), "--workers", "process", "--devices", ",".join(DEVICES)]
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "web.cli", *flags, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert server.stdout is not None
        line = (await asyncio.wait_for(server.stdout.readline(), 60)).decode()
        found = re.search(r"http://\S+?(?=/\s)", line)
        assert found is not None, line
        yield found[0]
    finally:
        server.terminate()
        assert await asyncio.wait_for(server.wait(), 30) == 0


async def turn(url: str, out: Path) -> tuple[dict[str, bytes], list[dict[str, Any]], dict[str, Any]]:
    """Files by name, events, the state of the server."""
    async with AsyncClient(url) as client:
        for name in MEDIA.values():
            await client.upload(ROOT / "workflows" / "media" / name)
        run = await client.submit(any_to_any(EVERYTHING, EVERYTHING), values=SMALL)
        events = [event async for event in client.events(run)]
        result = await client.result(run)
        assert (result.status, result.errors) == ("succeeded", [])
        files = {path.name: path.read_bytes() for path in await client.save(result, out)}
        files["text"] = result.text.encode()
        return files, events, await client.system()


def most_decoders_at_once(events: list[dict[str, Any]]) -> int:
    inside: set[str] = set()
    most = 0
    for event in events:
        if event.get("node", "").startswith("decode_"):
            if event["type"] == "running":
                inside.add(event["node"])
            elif event["type"] == "done":
                inside.discard(event["node"])
        most = max(most, len(inside))
    return most


async def test_processes_give_the_same_files_and_decoders_run_side_by_side(tmp_path: Path) -> None:
    found = {}
    for name, place in (("threads", in_threads), ("processes", in_processes)):
        async with place(tmp_path / name) as url:
            files, events, system = await turn(url, tmp_path / f"{name}-out")
        assert system["devices"] == list(DEVICES)
        holding = {entry["device"]: len(entry["models"]) for entry in system["models"] if entry["device"] in DEVICES}
        assert all(holding[device] for device in DEVICES), f"{name}: both devices had work: {holding}"
        assert most_decoders_at_once(events) == 2, name
        found[name] = files
    assert len(found["threads"]) == 4
    assert found["processes"] == found["threads"]
