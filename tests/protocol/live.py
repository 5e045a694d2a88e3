"""LiveServer: a real server with a real engine, in a thread of its own: any test talks to it from any loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from graph_engine.engine import Engine
from graph_engine.models.catalog import Catalog
from graph_engine.settings import Settings
from web.limits import Limits
from web.server import Server

T = TypeVar("T")
NO_MODELS = Catalog()
TRIAL_NODES = Path(__file__).parent / "trial_nodes"


class LiveServer:
    def __init__(
        self,
        data_dir: Path,
        *,
        limits: Limits | None = None,
        more: Mapping[str, Any] = {},
        catalog: Catalog | None = NO_MODELS,
        **flags: Any,
    ) -> None:
        """catalog: None for the families that are installed; no trial node has weights."""
        self.catalog = catalog
        self.settings = Settings(data_dir=data_dir, custom_nodes=(TRIAL_NODES,), disk_cache_bytes=0, **more)
        self.limits = limits or Limits()
        self.flags = {"port": 0, **flags}
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="live-server", daemon=True)

    def __enter__(self) -> LiveServer:
        self.thread.start()
        self.do(self._start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.do(self._stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()

    async def _start(self) -> None:
        self.engine = await Engine.open(self.settings, catalog=self.catalog)
        self.server = Server(self.engine, limits=self.limits, **self.flags)
        await self.server.start()
        self.flags["port"] = self.server.port

    async def _stop(self) -> None:
        await self.server.stop()
        await self.engine.close()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    def restart(self) -> None:
        """A new engine and a new server in the same place."""
        self.do(self._stop())
        self.do(self._start())

    def do(self, call: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine where the server runs."""
        return asyncio.run_coroutine_threadsafe(call, self.loop).result(60)

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def api(self) -> str:
        return f"{self.url}/api/v1"

    @property
    def port(self) -> int:
        return self.server.port


def workflow(nodes: Mapping[str, Any], targets: Sequence[str] = (), **more: Any) -> dict[str, Any]:
    """A document. Each node is (type, values, links) or a type."""
    entries = {}
    for id, given in nodes.items():
        type, values, links = (*((given,) if isinstance(given, str) else given), {}, {})[:3]
        entries[id] = {"type": type, "values": values, "links": links}
    found: dict[str, Any] = {"format": "anyloom", "version": 1, "nodes": entries, **more}
    if targets:
        found["targets"] = list(targets)
    return found


def two(text: str = "hello") -> dict[str, Any]:
    """The smallest useful workflow: a text and an output."""
    return workflow({"a": ("trial.echo", {"value": text}), "out": ("trial.show", {}, {"value": "a.value"})})


def chain(length: int, start: int = 0) -> dict[str, Any]:
    nodes: dict[str, Any] = {"n0": ("trial.add", {"a": start})}
    for number in range(1, length):
        nodes[f"n{number}"] = ("trial.add", {}, {"a": f"n{number - 1}.int"})
    return workflow(nodes, [f"n{length - 1}"])
