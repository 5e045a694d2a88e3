"""The state of the server: version, devices, lanes, cache, queue, memory."""

from __future__ import annotations

import os
import time
from pathlib import Path

from aiohttp import web

from web.routes.route import API, Call, Reply, Route, json_response
from web.schemas import NUMBER, OBJECT, record
from web.state import House, house


def state(home: House) -> dict[str, object]:
    """The engine's state with the server's own under `server`."""
    server = {
        "uptime_s": round(time.time() - home.started, 3),
        "sockets": len(home.sockets),
        "rss_bytes": _resident_bytes(),
        "limits": home.limits.to_dict(),
    }
    return {**home.engine.system(), "server": server}


def _resident_bytes() -> int:
    """Memory of this process; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return 0


async def system(call: Call) -> web.StreamResponse:
    return json_response(state(house(call.request)))


SERVER = record({"uptime_s": NUMBER, "sockets": NUMBER, "rss_bytes": NUMBER, "limits": OBJECT})
TABLE = (
    Route(
        "GET",
        f"{API}/system",
        system,
        "The state of the server",
        "system",
        {200: Reply("the engine's state and the server's", record({"server": SERVER}, more=True))},
    ),
)
