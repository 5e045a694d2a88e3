"""The model files that lie in the models folder, and what each preset still needs."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from aiohttp import web

from nodes.nextgpt.inventory import inventory
from nodes.nextgpt.preset import PRESETS
from web import schemas
from web.routes.route import API, Call, Reply, Route, json_response
from web.schemas import ref
from web.state import house

SUFFIXES = (".safetensors", ".gguf", ".onnx", ".pt", ".pth", ".bin", ".ckpt")


async def listing(call: Call) -> web.StreamResponse:
    root = house(call.request).engine.settings.models_path
    models, presets = await asyncio.gather(asyncio.to_thread(scan, root), asyncio.to_thread(inventory, PRESETS, root))
    return json_response({"models": models, "presets": presets})


def scan(root: Path) -> list[dict[str, Any]]:
    """Name and size of every weight file; only safetensors are loaded as they are (law P8)."""
    found = []
    for folder, inner, names in os.walk(root, followlinks=False):
        inner[:] = [name for name in inner if not name.startswith(".")]
        for name in names:
            path = Path(folder, name)
            if name.endswith(SUFFIXES) and path.is_file():
                entry = {"name": path.relative_to(root).as_posix(), "bytes": path.stat().st_size}
                found.append({**entry, "loadable": path.suffix == ".safetensors"})
    return sorted(found, key=lambda entry: entry["name"])


LISTING = schemas.record(
    {
        "models": {"type": "array", "items": ref("Model")},
        "presets": {"type": "array", "items": schemas.OBJECT},
    }
)
TABLE = (
    Route(
        "GET",
        f"{API}/models",
        listing,
        "Model files",
        "models",
        {200: Reply("what lies in the models folder, and what each preset needs", LISTING)},
    ),
)
