"""Client: `AsyncClient` for programs without an event loop. It has a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from graph_engine.client.asynchronous import AsyncClient
from graph_engine.client.result import Result

T = TypeVar("T")


class Client:
    """The calls are those of `AsyncClient`, and wait for their answers. Use it with `with`, or call `close`."""

    def __init__(self, url: str = "http://127.0.0.1:8188", token: str | None = None, *, name: str = "") -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="anyloom-client", daemon=True)
        self._thread.start()
        self._client = self._do(_make(url, token, name))

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._loop.is_closed():
            return
        self._do(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, call: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return future.result()
        except BaseException:  # Ctrl-C, say: the call must not go on behind the caller's back
            future.cancel()
            raise

    def hello(self) -> dict[str, Any]:
        return self._do(self._client.hello())

    def system(self) -> dict[str, Any]:
        return self._do(self._client.system())

    def nodes(self) -> list[dict[str, Any]]:
        return self._do(self._client.nodes())

    def workflows(self) -> list[dict[str, Any]]:
        return self._do(self._client.workflows())

    def workflow(self, name: str) -> dict[str, Any]:
        return self._do(self._client.workflow(name))

    def validate(self, workflow: str | Mapping[str, Any], values: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return self._do(self._client.validate(workflow, values))

    def submit(self, workflow: str | Mapping[str, Any], values: Mapping[str, Any] | None = None, **more: Any) -> str:
        return self._do(self._client.submit(workflow, values, **more))

    def go_on(self, run: str, node: str = "") -> list[str]:
        return self._do(self._client.go_on(run, node))

    def timeline(self, run: str) -> dict[str, Any]:
        return self._do(self._client.timeline(run))

    def run(self, workflow: str | Mapping[str, Any], values: Mapping[str, Any] | None = None, **more: Any) -> Result:
        return self._do(self._client.run(workflow, values, **more))

    def wait(self, run: str) -> Result:
        return self._do(self._client.wait(run))

    def result(self, run: str) -> Result:
        return self._do(self._client.result(run))

    def runs(self, **filters: Any) -> list[dict[str, Any]]:
        return self._do(self._client.runs(**filters))

    def cancel(self, run: str) -> bool:
        return self._do(self._client.cancel(run))

    def events(self, run: str, after: int = 0) -> Iterator[dict[str, Any]]:
        """Every event of the run after number `after`, to its end."""
        events = self._client.events(run, after)
        try:
            while True:
                try:
                    yield self._do(_next(events))
                except StopAsyncIteration:
                    return
        finally:
            self._do(_end(events))

    def artifact(self, key: str, port: int = 0) -> bytes:
        return self._do(self._client.artifact(key, port))

    def upload(self, path: str | Path, name: str = "") -> str:
        return self._do(self._client.upload(path, name))

    def download(self, file: Mapping[str, Any], to: str | Path) -> Path:
        return self._do(self._client.download(file, to))

    def share(self, workflow: str | Mapping[str, Any], to: str | Path) -> Path:
        return self._do(self._client.share(workflow, to))

    def unpack(self, path: str | Path) -> dict[str, Any]:
        return self._do(self._client.unpack(path))

    def save(self, result: Result, folder: str | Path) -> list[Path]:
        return self._do(self._client.save(result, folder))


async def _make(url: str, token: str | None, name: str) -> AsyncClient:
    return AsyncClient(url, token, name=name)


async def _next(events: Any) -> dict[str, Any]:
    event: dict[str, Any] = await anext(events)
    return event


async def _end(events: Any) -> None:
    await events.aclose()
