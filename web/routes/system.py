"""The state of the server: version, devices, lanes, cache, queue, memory."""

from __future__ import annotations

import platform
import time

from aiohttp import web

from graph_engine.memory.view import resident_bytes
from web.routes.route import API, Call, Reply, Route, json_response
from web.schemas import NUMBER, OBJECT, TEXT, record, ref
from web.state import House, house


def state(home: House) -> dict[str, object]:
    """The engine's state with the server's own under `server`."""
    server = {
        "uptime_s": round(time.monotonic() - home.started, 3),
        "sockets": len(home.sockets),
        "rss_bytes": resident_bytes(),
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "limits": home.limits.to_dict(),
    }
    return {**home.engine.system(), "server": server}


async def system(call: Call) -> web.StreamResponse:
    return json_response(state(house(call.request)))


async def memory(call: Call) -> web.StreamResponse:
    return json_response(house(call.request).engine.memory())


SERVER = record(
    {
        "uptime_s": NUMBER,
        "sockets": NUMBER,
        "rss_bytes": NUMBER,
        "python": TEXT,
        "platform": TEXT,
        "limits": OBJECT,
    }
)
TABLE = (
    Route(
        "GET",
        f"{API}/system",
        system,
        "The state of the server",
        "system",
        {
            200: Reply(
                "the engine's state and the server's", record({"server": SERVER, "memory": ref("Memory")}, more=True)
            )
        },
    ),
    Route(
        "GET",
        f"{API}/memory",
        memory,
        "Which models live where now, and what is on its way (websocket: watch_system)",
        "system",
        {200: Reply("the memory of every device", ref("Memory"))},
    ),
)
