"""Waiting: for tests, benchmarks and services that want a pause."""

from __future__ import annotations

import time
from typing import Annotated, TypeVar

from graph_engine import Effect, NodeContext, Widget, node

T = TypeVar("T")
SLICE_S = 0.25
Seconds = Annotated[float, Widget(min=0, max=86_400)]


@node(id="control.sleep", category="control/wait", effect=Effect.EXTERNAL)
def sleep(context: NodeContext, seconds: Seconds = 1.0, value: T | None = None) -> T | None:
    """Wait in a thread, then hand `value` on. Ends at once when the run is cancelled."""
    context.wait(seconds)
    context.check()
    return value


@node(id="control.async_sleep", category="control/wait", effect=Effect.EXTERNAL)
async def async_sleep(context: NodeContext, seconds: Seconds = 1.0, value: T | None = None) -> T | None:
    """Wait on the event loop, without a thread, then hand `value` on. Ends when the run is cancelled."""
    import asyncio

    start = time.monotonic()
    while (left := start + seconds - time.monotonic()) > 0:
        context.check()
        await asyncio.sleep(min(SLICE_S, left))
    context.check()
    return value
