"""AsyncClient: what a server can do, as coroutines. A websocket carries everything but the bytes of files."""

from __future__ import annotations

import asyncio
import math
import re
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from graph_engine.client.connection import Connection, NoServerError, ServerError
from graph_engine.client.result import Result, places

if TYPE_CHECKING:
    import aiohttp

PIECE_BYTES = 1 << 20
RETRY_S = 0.2
Json = dict[str, Any]


class AsyncClient:
    """`async with AsyncClient() as client:`; connects with the first call, and again when the connection broke."""

    def __init__(
        self, url: str = "http://127.0.0.1:8188", token: str | None = None, *, name: str = "", patience_s: float = 30.0
    ) -> None:
        """patience_s: how long `events` tries to reach a server that went away."""
        self.patience_s = patience_s
        self._server = Connection(url, token, name)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._server.close()

    async def hello(self) -> Json:
        found: Json = await self._server.ask("hello")
        return found

    async def system(self) -> Json:
        found: Json = await self._server.ask("system")
        return found

    async def nodes(self) -> list[Json]:
        found: list[Json] = (await self._server.ask("nodes"))["nodes"]
        return found

    async def workflows(self) -> list[Json]:
        found: list[Json] = (await self._server.ask("workflows"))["workflows"]
        return found

    async def workflow(self, name: str) -> Json:
        found: Json = await self._server.ask("workflow", name=name)
        return found

    async def validate(self, workflow: str | Mapping[str, Any], values: Mapping[str, Any] | None = None) -> Json:
        found: Json = await self._server.ask("validate", **_named(workflow), values=values)
        return found

    async def submit(
        self,
        workflow: str | Mapping[str, Any],
        values: Mapping[str, Any] | None = None,
        *,
        targets: Sequence[str] | None = None,
        priority: int = 0,
        name: str = "",
        pins: Mapping[str, str] | None = None,
        breakpoints: Sequence[str] = (),
    ) -> str:
        """The id of the run, which survives whatever happens to the server.

        workflow: the name of a saved one, or its JSON. values: {"node.input": literal}. pins: {node: a run or the key of an
        artifact that its outputs are taken from}. breakpoints: nodes before which it pauses, until `go_on`.
        """
        fields = {"values": values, "targets": targets and list(targets), "priority": priority, "name": name}
        if pins or breakpoints:
            fields |= {"pins": dict(pins or {}), "breakpoints": list(breakpoints)}
        found: str = (await self._server.ask("submit", **_named(workflow), **fields))["id"]
        return found

    async def run(
        self, workflow: str | Mapping[str, Any], values: Mapping[str, Any] | None = None, **more: Any
    ) -> Result:
        """Submit, and wait for the end."""
        return await self.wait(await self.submit(workflow, values, **more))

    async def wait(self, run: str) -> Result:
        async for _ in self.events(run):
            pass
        return await self.result(run)

    async def result(self, run: str) -> Result:
        """The run as it is now."""
        return Result(await self._server.ask("run", run=run))

    async def runs(self, **filters: Any) -> list[Json]:
        """Newest first; status, client, limit, before."""
        found: list[Json] = (await self._server.ask("runs", **filters))["runs"]
        return found

    async def cancel(self, run: str) -> bool:
        found: bool = (await self._server.ask("cancel", run=run))["cancelled"]
        return found

    async def go_on(self, run: str, node: str = "") -> list[str]:
        """Let a run go on that waits at a breakpoint; the nodes that it goes on with."""
        found: list[str] = (await self._server.ask("continue", run=run, node=node or None))["continued"]
        return found

    async def events(self, run: str, after: int = 0) -> AsyncIterator[Json]:
        """Every event of the run after number `after` to its end, whatever happens to the connection on the way."""
        clock = asyncio.get_running_loop().time
        until = 0.0  # a server that never answered is not waited for
        while True:
            try:
                async with aclosing(self._server.watch(run, after)) as events:
                    async for event in events:
                        if event is None:
                            until = math.inf
                            continue
                        after = event["seq"]
                        yield event
                        if event["type"] == "finished":
                            return
            except NoServerError:
                until = min(until, clock() + self.patience_s)
                if clock() >= until:
                    raise
                await asyncio.sleep(RETRY_S)

    async def artifact(self, key: str, port: int = 0) -> bytes:
        """A large value, as graph_engine.store.codec encodes it."""
        pieces = []
        async for result in self._server.exchange("fetch", artifact=key, port=port):
            pieces.append(result["data"])
            if not result["more"]:
                break
        return b"".join(pieces)

    async def upload(self, path: str | Path, name: str = "") -> str:
        """Bring a file into the server's input folder; the name to use in a workflow."""
        import aiohttp

        source = Path(path)
        with source.open("rb") as file:  # noqa: ASYNC230  (aiohttp reads it in a thread)
            form = aiohttp.FormData(quote_fields=False)  # as browsers do: the name as it is
            plain = re.sub(r'["\x00-\x1f]', "_", name or source.name)
            form.add_field("file", file, filename=plain, content_type="application/octet-stream")
            try:
                async with self._server.http().post(f"{self._server.url}/api/v1/files", data=form) as response:
                    answer = await response.json()
            except aiohttp.ClientError as error:
                raise self._server.nobody(error) from None
        if response.status >= 400:
            raise ServerError(answer["error"])
        stored: str = answer["files"][0]["name"]
        return stored

    async def download(self, file: Mapping[str, Any], to: str | Path) -> Path:
        """Write a file of the server (an entry of `Result.files`) to `to`: a path, or a folder that exists."""
        import aiohttp

        path = Path(to)
        if path.is_dir():
            path = path / PurePosixPath(file["name"]).name
        try:
            async with self._server.http().get(
                f"{self._server.url}/api/v1/files/{file['folder']}/{quote(file['name'])}"
            ) as response:
                if response.status >= 400:
                    raise ServerError((await response.json())["error"])
                await self._write(response, path)
        except aiohttp.ClientError as error:
            raise self._server.nobody(error) from None
        return path

    async def share(self, workflow: str | Mapping[str, Any], to: str | Path) -> Path:
        """Write a workflow and the files that it reads as one file, which `unpack` opens on any server."""
        import aiohttp

        body = {"workflow": workflow} if isinstance(workflow, str) else {"document": workflow}
        path = Path(to)
        try:
            async with self._server.http().post(f"{self._server.url}/api/v1/parcels", json=body) as response:
                if response.status >= 400:
                    raise ServerError((await response.json())["error"])
                await self._write(response, path)
        except aiohttp.ClientError as error:
            raise self._server.nobody(error) from None
        return path

    async def unpack(self, path: str | Path) -> Json:
        """Bring in the files of a shared workflow; the workflow, with their names as they are on this server."""
        import aiohttp

        with Path(path).open("rb") as file:  # noqa: ASYNC230  (aiohttp reads it in a thread)
            try:
                async with self._server.http().post(
                    f"{self._server.url}/api/v1/parcels/open", data=file, headers={"Content-Type": "application/zip"}
                ) as response:
                    answer = await response.json()
            except aiohttp.ClientError as error:
                raise self._server.nobody(error) from None
        if response.status >= 400:
            raise ServerError(answer["error"])
        document: Json = answer["document"]
        return document

    @staticmethod
    async def _write(response: aiohttp.ClientResponse, path: Path) -> None:
        """The whole body or nothing: what breaks off in the middle leaves what was there before."""
        unfinished = path.with_name(f".{path.name[:80]}.{secrets.token_hex(4)}.part")
        try:
            with unfinished.open("wb") as target:
                async for piece in response.content.iter_chunked(PIECE_BYTES):
                    await asyncio.to_thread(target.write, piece)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    async def timeline(self, run: str) -> Json:
        """When every step of a recent run waited, computed and ended: Chrome's trace event format."""
        import aiohttp

        try:
            async with self._server.http().get(f"{self._server.url}/api/v1/runs/{quote(run, '')}/timeline") as response:
                answer: Json = await response.json()
        except aiohttp.ClientError as error:
            raise self._server.nobody(error) from None
        if response.status >= 400:
            raise ServerError(answer["error"])
        return answer

    async def save(self, result: Result, folder: str | Path) -> list[Path]:
        """Write all files of a result into `folder`, in the subfolders that their names have; their paths."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        paths = places(result.files, folder)
        for file, path in zip(result.files, paths, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            await self.download(file, path)
        return paths


def _named(workflow: str | Mapping[str, Any]) -> Json:
    return {"workflow": workflow} if isinstance(workflow, str) else {"document": dict(workflow)}
