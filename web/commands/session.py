"""Where `anyloom run` and `anyloom chat` run: in an engine of their own, or on a server. Both offer the same few calls."""

from __future__ import annotations

import argparse
import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from graph_engine.client import AsyncClient, Result
from graph_engine.client.result import places
from graph_engine.engine import Engine
from graph_engine.errors import NotFoundError
from graph_engine.settings import Settings
from web import inbox, parcel
from web.library import Library
from web.limits import Limits
from web.samples import put_samples


class Session(Protocol):
    async def workflow(self, name: str) -> Mapping[str, Any]: ...
    async def nodes(self) -> list[dict[str, Any]]: ...
    async def upload(self, path: Path) -> str: ...
    async def validate(self, document: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]: ...
    async def submit(self, document: Mapping[str, Any], values: Mapping[str, Any], name: str) -> str: ...
    def events(self, run: str) -> AsyncIterator[dict[str, Any]]: ...
    async def cancel(self, run: str) -> bool: ...
    async def result(self, run: str) -> Result: ...
    async def timeline(self, run: str) -> dict[str, Any]: ...
    async def fetch(self, file: Mapping[str, Any], to: Path) -> Path: ...
    async def save(self, result: Result, folder: Path) -> list[Path]: ...
    async def share(self, document: Mapping[str, Any], to: Path) -> Path: ...
    async def unpack(self, path: Path) -> Mapping[str, Any]: ...


class LocalSession:
    """An engine in this process."""

    def __init__(self, engine: Engine, client: str) -> None:
        self.engine, self.client = engine, client
        self.library = Library.of(engine.settings)

    async def workflow(self, name: str) -> Mapping[str, Any]:
        return self.library.load(name)

    async def nodes(self) -> list[dict[str, Any]]:
        return [type.to_dict() for type in self.engine.registry]

    async def upload(self, path: Path) -> str:
        if not path.is_file():
            raise no_file(path)
        file = await inbox.receive(self.engine.folders, path.name, inbox.read_parts(path), 1 << 62)
        name: str = file["name"]
        return name

    async def validate(self, document: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
        return await self.engine.validate(document, values=values)

    async def submit(self, document: Mapping[str, Any], values: Mapping[str, Any], name: str) -> str:
        return (await self.engine.submit(document, values=values, client=self.client, name=name)).id

    async def events(self, run: str) -> AsyncIterator[dict[str, Any]]:
        async for batch in self.engine.watch(run):
            for event in batch:
                yield event.to_dict()

    async def cancel(self, run: str) -> bool:
        return await self.engine.cancel(run)

    async def result(self, run: str) -> Result:
        return Result((await self.engine.run(run)).to_dict())

    async def timeline(self, run: str) -> dict[str, Any]:
        return await self.engine.timeline(run)

    async def fetch(self, file: Mapping[str, Any], to: Path) -> Path:
        source = self.engine.folders.resolve(file["folder"], file["name"])
        return Path(await asyncio.to_thread(shutil.copy2, source, to))

    async def save(self, result: Result, folder: Path) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        paths = places(result.files, folder)
        for file, path in zip(result.files, paths, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            await self.fetch(file, path)
        return paths

    async def share(self, document: Mapping[str, Any], to: Path) -> Path:
        def write() -> None:
            with to.open("wb") as file:
                parcel.pack(document, self.engine.folders, self.engine.registry, file, Limits().upload_bytes)

        try:
            await asyncio.to_thread(write)
        except BaseException:
            to.unlink(missing_ok=True)
            raise
        return to

    async def unpack(self, path: Path) -> Mapping[str, Any]:
        folders, limit = self.engine.folders, Limits().upload_bytes
        return (await asyncio.to_thread(parcel.unpack, path, folders, limit)).document


class RemoteSession:
    """A server, through the client library."""

    def __init__(self, client: AsyncClient) -> None:
        self.client = client
        self.workflow, self.nodes, self.events = client.workflow, client.nodes, client.events
        self.cancel, self.result, self.save = client.cancel, client.result, client.save
        self.validate, self.fetch, self.timeline = client.validate, client.download, client.timeline
        self.share, self.unpack = client.share, client.unpack

    async def upload(self, path: Path) -> str:
        if not path.is_file():
            raise no_file(path)
        return await self.client.upload(path)

    async def submit(self, document: Mapping[str, Any], values: Mapping[str, Any], name: str) -> str:
        return await self.client.submit(document, values, name=name)


def no_file(path: Path) -> NotFoundError:
    return NotFoundError(f"there is no file {str(path)!r}.", remedy="Check the path.", code="file_not_found")


@asynccontextmanager
async def opened(
    arguments: argparse.Namespace, settings: Settings, client_name: str = "anyloom run"
) -> AsyncIterator[Session]:
    """The session that the flags ask for. client_name: what its runs are listed under."""
    if arguments.server:
        async with AsyncClient(arguments.server, arguments.token, name=client_name) as client:
            yield RemoteSession(client)
    else:
        engine = await Engine.open(settings)
        await asyncio.to_thread(put_samples, engine.folders)
        try:
            yield LocalSession(engine, client_name)
        finally:
            await engine.close()
