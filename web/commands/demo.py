"""`anyloom demo`: a server, a client and the whole of NExT-GPT, as a new user would meet them; ends by itself."""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
import time
from pathlib import Path

from graph_engine.client import AsyncClient
from graph_engine.errors import AnyloomError
from web.commands.progress import PlainLines

WORKFLOW = "any_to_any"
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
    print("Its preset is 'tiny': the real stages with small random weights, so the answers are noise.\n", flush=True)
    picture = await client.upload(media / "lighthouse.png")
    sound = await client.upload(media / "bell.wav")
    asks = {ask["input"]: f"{ask['node']}.{ask['input']}" for ask in document["asks"]}
    files = [f"{ask['node']}.{ask['input']}" for ask in document["asks"] if ask["input"] == "file"]
    values = {asks["text"]: "This is a lighthouse and the sound of its bell. Show me the place at night."}
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
    for path in await client.save(result, out):
        print(f"wrote {path}  ({path.stat().st_size:,} bytes)", flush=True)
    for error in result.errors:
        print(f"error: {error}", flush=True)
    print(f"\nthe run took {seconds:.1f} s", flush=True)
    return 0 if result.ok else 1
