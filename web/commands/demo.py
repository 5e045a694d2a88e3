"""`anyloom demo`: a server, a client and the whole of NExT-GPT, as a new user would meet them; ends by itself."""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
import time
from pathlib import Path
from typing import Any

from graph_engine.client import AsyncClient
from graph_engine.errors import AnyloomError
from web.commands.progress import PlainLines

WORKFLOW = "any_to_any"
MESSAGE = (
    "What is in the picture? What do you hear? Draw a large yellow star in the top left corner. "
    "Then: Make a clip: a blue circle grows. Then: Play a loud organ note E, played twice."
)
SHOWN = {"modality": "image", "things": [{"shape": "heart", "colour": "orange"}]}
WISHES: dict[str, dict[str, Any]] = {
    ".png": {
        "modality": "image",
        "things": [{"shape": "star", "colour": "yellow", "size": "large", "place": "top left"}],
    },
    ".mp4": {"modality": "video", "shape": "circle", "colour": "blue", "motion": "grows"},
    ".wav": {"modality": "audio", "note": "E", "timbre": "organ", "beats": "twice", "loudness": "loud"},
}
"""What the answer has to have; see `nodes/nextgpt/training/world/wish.py`."""
READY_S = 60.0


async def demo(arguments: argparse.Namespace) -> int:
    import workflows

    media = Path(workflows.__file__).parent / "media"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    out = Path(arguments.out)
    print(f"starting a server at {url} (data in {out / 'data'})", flush=True)
    began = time.perf_counter()
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "web.cli", "serve", "--port", str(port), "--data", str(out / "data"),
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with AsyncClient(url, name="anyloom demo") as client:
            await _ready(client, server)
            print(f"server ready after {time.perf_counter() - began:.1f} s\n", flush=True)
            return await _play(client, media, out)
    finally:
        if server.returncode is None:
            server.terminate()
        await server.wait()
        print("server stopped", flush=True)


async def _ready(client: AsyncClient, server: asyncio.subprocess.Process) -> None:
    until = time.perf_counter() + READY_S
    while True:
        try:
            await client.hello()
            return
        except AnyloomError:
            if server.returncode is not None or time.perf_counter() > until:
                raise
        await asyncio.sleep(0.05)


async def _play(client: AsyncClient, media: Path, out: Path) -> int:
    saved = {entry["name"]: entry for entry in await client.workflows()}
    print(f"{len(saved)} saved workflows: {', '.join(sorted(saved))}", flush=True)
    document = await client.workflow(WORKFLOW)
    print(f"\n{document['title']}: {document['description']}", flush=True)
    print(
        "Its preset is 'mini': small, trained on a world of shapes, notes and moves (docs/training.md).\n", flush=True
    )
    picture = await client.upload(media / "heart.png")
    sound = await client.upload(media / "violin.wav")
    asks = {ask["input"]: f"{ask['node']}.{ask['input']}" for ask in document["asks"]}
    files = [f"{ask['node']}.{ask['input']}" for ask in document["asks"] if ask["input"] == "file"]
    values = {asks["text"]: MESSAGE}
    values |= dict(zip(files, (picture, sound), strict=False))
    for name, value in values.items():
        print(f"    {name} = {value}", flush=True)
    print(flush=True)
    began = time.perf_counter()
    run = await client.submit(WORKFLOW, values, name="demo")
    with PlainLines(sys.stdout) as shown:
        async for event in client.events(run):
            shown.show(event)
    seconds = time.perf_counter() - began
    result = await client.result(run)
    print(flush=True)
    for node, outputs in result.outputs.items():
        for text in (value for value in outputs.values() if isinstance(value, str)):
            print(f"{node}: {text}\n", flush=True)
    paths = await client.save(result, out)
    for path in paths:
        print(f"wrote {path}  ({path.stat().st_size:,} bytes)", flush=True)
    for error in result.errors:
        print(f"error: {error}", flush=True)
    right = await asyncio.to_thread(_judged, paths, str(result.outputs.get("reply", {}).get("text", "")))
    print(f"\nthe run took {seconds:.1f} s", flush=True)
    if not right:
        print("not all of it is what was asked for; docs/training.md says how far the model has come", flush=True)
    return 0 if result.ok else 1


def _judged(paths: list[Path], text: str) -> bool:
    """Whether the answer is what was asked for, by the rules that judge the model in training too."""
    from nodes.nextgpt.training.judges.file import judge_file
    from nodes.nextgpt.training.judges.verdict import judge

    print(flush=True)
    told = {
        suffix: judge_file(wish, path) for path in paths for suffix, wish in WISHES.items() if path.suffix == suffix
    }
    told["words"] = judge({"modality": "text", "about": SHOWN}, text.split(".")[0])
    for name, verdict in sorted(told.items()):
        facts = ", ".join(f"{fact} {'right' if right else 'WRONG'}" for fact, right in verdict.items())
        print(f"judged {name}: {facts}", flush=True)
    return len(told) == len(WISHES) + 1 and all(all(verdict.values()) for verdict in told.values())
