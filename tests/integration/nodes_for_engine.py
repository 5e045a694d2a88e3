"""Nodes with a life of their own: they sleep, fail, write and count."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

from graph_engine import Effect, Needs, NodeContext, NodeError, node
from graph_engine.graph.registry import Registry

CALLS: dict[str, int] = {}
THREADS: set[str] = set()
_LOCK = threading.Lock()


def _count(name: str) -> int:
    with _LOCK:
        CALLS[name] = CALLS.get(name, 0) + 1
        return CALLS[name]


@node(id="e.sleep")
def sleep(seconds: float, value: int = 0) -> int:
    _count(f"sleep {value}")
    THREADS.add(threading.current_thread().name)
    time.sleep(seconds)
    return value


@node(id="e.wait")
def wait(seconds: float, value: int, context: NodeContext) -> int:
    """As sleep, but it can be cancelled."""
    _count(f"wait {value}")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        context.progress(seconds - (until - time.monotonic()), seconds)
        time.sleep(0.01)
    return value


@node(id="e.stubborn")
def stubborn(seconds: float) -> int:
    """Never looks whether it was cancelled."""
    time.sleep(seconds)
    return 1


@node(id="e.async_sleep")
async def async_sleep(seconds: float, value: int = 0) -> int:
    await asyncio.sleep(seconds)
    return value


@node(id="e.device_sleep", needs=Needs(device=True))
def device_sleep(seconds: float, value: int, context: NodeContext) -> int:
    assert context.device == "cpu"
    time.sleep(seconds)
    return value


@node(id="e.add", needs=Needs(inline=True))
def add(a: int, b: int = 0) -> int:
    _count(f"add {a}+{b}")
    return a + b


@node(id="e.fail")
def fail(a: int) -> int:
    raise NodeError(f"{a} is no good.", remedy="Choose another number.", code="no_good")


@node(id="e.hiccup", needs=Needs(retries=2))
def hiccup(name: str, failures: int) -> int:
    if _count(name) <= failures:
        raise NodeError("not yet")
    return CALLS[name]


@node(id="e.slow_fail", needs=Needs(timeout_s=0.1))
def too_slow(context: NodeContext) -> int:
    context.wait(5.0)
    context.check()
    return 1


@node(id="e.stream")
def stream(words: str, context: NodeContext) -> str:
    for word in words.split():
        context.chunk(word)
        context.preview(word.encode(), "text/plain")
        time.sleep(0.005)
    return words


@node(id="e.append", effect=Effect.EXTERNAL, output=True)
def append(path: str, line: str, after: int = 0) -> str:
    with Path(path).open("a") as file:
        file.write(line + "\n")
    return line


@node(id="e.wrong_image")
def wrong_image() -> str:
    return 7  # type: ignore[return-value]


REGISTRY = Registry(
    f.node_type  # type: ignore[attr-defined]
    for f in (
        sleep, wait, stubborn, async_sleep, device_sleep, add, fail, hiccup, too_slow, stream, append, wrong_image,
    )
)  # fmt: skip
