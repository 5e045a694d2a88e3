"""`/metrics`, where Prometheus looks. Behind the same gate as everything: give it the token as its bearer token."""

from __future__ import annotations

import asyncio
import importlib

from aiohttp import hdrs, web

from web.routes.route import Call, Reply, Route
from web.state import house


async def metrics(call: Call) -> web.StreamResponse:
    await asyncio.to_thread(importlib.import_module, "web.metrics")  # the first time, which takes a while
    from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

    from web.metrics import Look

    body = await asyncio.to_thread(generate_latest, Look(house(call.request)))
    return web.Response(
        body=body, headers={hdrs.CONTENT_TYPE: CONTENT_TYPE_PLAIN_0_0_4, hdrs.CACHE_CONTROL: "no-store"}
    )


TABLE = (
    Route(
        "GET",
        "/metrics",
        metrics,
        "Counts and states for Prometheus",
        "system",
        {200: Reply("Prometheus' text format", media_type="text/plain")},
    ),
)
