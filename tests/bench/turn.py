"""What a whole turn costs: `python -m tests.bench.turn [--check] [--preset tiny]`.

A fresh server answers the shipped workflow any_to_any (picture, sound and sentence in; text, picture, video and sound
out) through the websocket. The first turn pays for importing torch, transformers and diffusers and for making the tiny
weights; the turns after it have another question and seed, so that nothing after the encoders comes out of the cache.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import workflows
from graph_engine.client import AsyncClient
from tests.bench.server import Served

MEDIA = Path(workflows.__file__).parent / "media"
WORKFLOW = "any_to_any"
SECONDS, PEAK_MB = 6.0, 1200.0
TURNS = 5


async def turn(client: AsyncClient, values: dict[str, Any]) -> float:
    began = time.perf_counter()
    result = await client.run(WORKFLOW, values)
    seconds = time.perf_counter() - began
    assert result.status == "succeeded", result
    return seconds


async def main(arguments: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as folder:
        async with Served(Path(folder)) as server, AsyncClient(server.url, name="bench") as client:
            document = await client.workflow(WORKFLOW)
            asks = {ask["input"]: f"{ask['node']}.{ask['input']}" for ask in document["asks"]}
            files = [f"{ask['node']}.{ask['input']}" for ask in document["asks"] if ask["input"] == "file"]
            media = [await client.upload(MEDIA / name) for name in ("lighthouse.png", "bell.wav")]
            loaders = [id for id, node in document["nodes"].items() if node["type"] == "nextgpt.load"]
            speakers = [id for id, node in document["nodes"].items() if node["type"] == "nextgpt.reason"]
            values = dict(zip(files, media, strict=True)) | {f"{id}.preset": arguments.preset for id in loaders}

            def wishes(number: int) -> dict[str, Any]:
                seeds = {f"{id}.seed": number for id in speakers}
                return {**values, **seeds, asks["text"]: f"Show me this place at {number} o'clock."}

            first = await turn(client, wishes(0))
            others = [await turn(client, wishes(1 + number)) for number in range(TURNS)]
            peak = server.peak_mb
    rows = [
        ("first turn, with imports and making the weights", first, "s", None),
        (f"a turn, median of {TURNS}", statistics.median(others), "s", SECONDS),
        ("peak memory of the server", peak, "MB", PEAK_MB),
    ]
    missed = 0
    for what, number, unit, bound in rows:
        held = bound is None or number <= bound
        missed += not held
        promise = "" if bound is None else f"   at most {bound:g}{'' if held else '   MISSED'}"
        print(f"{what:52} {number:8.2f} {unit}{promise}", flush=True)
    return 1 if missed and arguments.check else 0


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 when a bound is missed")
    parser.add_argument("--preset", default="tiny")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(parse())))
