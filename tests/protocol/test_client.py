"""The Python client, with and without asyncio: whole runs, files, broken connections, absent servers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from graph_engine import AsyncClient, Client
from graph_engine.client import NoServerError, ServerError
from graph_engine.client.connection import BATCHES_AHEAD
from graph_engine.client.result import places
from tests.protocol.live import LiveServer, two, workflow

SLOW = workflow({"c": ("trial.chunks", {"count": 60, "pause_s": 0.01})}, ["c"])


def words(count: int) -> str:
    return "".join(f"word{number} " for number in range(count))


@pytest.mark.asyncio
async def test_a_whole_run(live: LiveServer, tmp_path: Path) -> None:
    async with AsyncClient(live.url, name="tester") as client:
        assert (await client.hello())["client"] == "tester"
        result = await client.run(two("hi"), {"a.value": "there"}, name="greeting")
        assert (result.ok, result.text, result.files, result.errors) == (True, "there", [], [])
        assert (await client.runs(client="tester"))[0]["name"] == "greeting"
        assert await client.validate(two()) == {"nodes": 2, "targets": ["out"]}
        assert "trial.echo" in [type["id"] for type in await client.nodes()]
        assert isinstance(await client.workflows(), list)


@pytest.mark.asyncio
async def test_files_go_up_and_come_down(live: LiveServer, tmp_path: Path) -> None:
    source = tmp_path / "some söund 画.wav"
    source.write_bytes(b"RIFF" * 1000)
    async with AsyncClient(live.url) as client:
        name = await client.upload(source)
        assert name == await client.upload(source) == "some söund 画.wav"
        path = await client.download({"folder": "input", "name": name}, tmp_path / "back.wav")
        assert path.read_bytes() == source.read_bytes()
        with pytest.raises(ServerError) as caught:
            await client.download({"folder": "input", "name": "nobody.png"}, tmp_path / "x")
        assert caught.value.problem.code == "file_not_found"


@pytest.mark.asyncio
async def test_a_download_that_breaks_off_leaves_nothing_half(tmp_path: Path) -> None:
    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()
        writer.close()

    (tmp_path / "old.bin").write_bytes(b"as before")
    async with await asyncio.start_server(half, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with AsyncClient(f"http://127.0.0.1:{port}") as client:
            for name in ("old.bin", "new.bin"):
                with pytest.raises(NoServerError):
                    await client.download({"folder": "output", "name": name}, tmp_path / name)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"old.bin": b"as before"}


def test_where_files_go() -> None:
    names = ["a.png", "a.png", "left/a.png", "../../a.png", "/etc/passwd", "..", "a (1).png"]
    paths = places([{"name": name} for name in names], "out")
    assert [str(path) for path in paths] == [
        "out/a.png", "out/a (1).png", "out/left/a.png", "out/a (2).png", "out/etc/passwd", "out/file", "out/a (1) (1).png"
    ]  # fmt: skip


@pytest.mark.asyncio
async def test_errors_are_the_servers_own(live: LiveServer) -> None:
    async with AsyncClient(live.url) as client:
        with pytest.raises(ServerError) as caught:
            await client.submit(workflow({"a": "no.such"}))
        assert (caught.value.problem.code, caught.value.problem.node) == ("unknown_node", "a")
        assert caught.value.entry["problems"]
        with pytest.raises(ServerError):
            await client.workflow("nobody")
        assert (await client.run(two())).ok


@pytest.mark.asyncio
async def test_a_failed_run_has_its_errors(live: LiveServer) -> None:
    async with AsyncClient(live.url) as client:
        result = await client.run(workflow({"f": ("trial.fail", {"message": "never"})}, ["f"]))
    assert (result.ok, result.status) == (False, "failed")
    assert result.errors[0]["node"] == "f"
    assert "never" in result.errors[0]["message"]


@pytest.mark.asyncio
async def test_cancel(live: LiveServer) -> None:
    async with AsyncClient(live.url) as client:
        run = await client.submit(workflow({"w": ("trial.wait", {"seconds": 30})}, ["w"]))
        assert await client.cancel(run)
        assert (await client.wait(run)).status == "cancelled"


@pytest.mark.asyncio
async def test_two_readers_of_one_run(live: LiveServer) -> None:
    async with AsyncClient(live.url) as client:
        run = await client.submit(SLOW)

        async def read() -> str:
            return "".join([event["text"] async for event in client.events(run) if event["type"] == "chunk"])

        assert await asyncio.gather(read(), read()) == [words(60)] * 2


@pytest.mark.asyncio
async def test_events_go_on_after_the_connection_broke(live: LiveServer) -> None:
    text, breaks = "", 0
    async with AsyncClient(live.url) as client:
        run = await client.submit(SLOW)
        async for event in client.events(run):
            if event["type"] == "chunk":
                text += event["text"]
                if len(text) > 100 * (breaks + 1) and breaks < 3:
                    breaks += 1
                    client._server._socket._response.connection.transport.abort()
    assert breaks == 3
    assert text == words(60)


@pytest.mark.asyncio
async def test_a_reader_that_falls_behind_catches_up_without_holding_everything(live: LiveServer) -> None:
    document = workflow({"c": ("trial.chunks", {"count": 400, "pause_s": 0.004})}, ["c"])
    text = ""
    async with AsyncClient(live.url) as client:
        run = await client.submit(document)
        async for event in client.events(run):
            if event["type"] == "chunk":
                text += event["text"]
                if len(text) < 100:
                    await asyncio.sleep(0.2)
                    [watch] = client._server._watches.values()
                    assert len(watch.batches) <= BATCHES_AHEAD
    assert text == words(400)


@pytest.mark.asyncio
async def test_nobody_there() -> None:
    async with AsyncClient("http://127.0.0.1:9") as client:
        for call in (client.hello(), client.wait("x"), client.run(two())):
            with pytest.raises(NoServerError, match="no Anyloom server answers at"):
                await call


@pytest.mark.asyncio
async def test_not_our_address(live: LiveServer) -> None:
    async with AsyncClient(f"{live.url}/static") as client:
        with pytest.raises(ServerError, match="is no Anyloom server"):
            await client.hello()


def test_without_asyncio(live: LiveServer, tmp_path: Path) -> None:
    with Client(live.url) as client:
        result = client.run(two("sync"))
        assert result.text == "sync"
        assert [event["type"] for event in client.events(result.id)][-1] == "finished"
        assert client.result(result.id).status == "succeeded"
        assert client.save(result, tmp_path / "out") == []
        with pytest.raises(ServerError):
            client.cancel("nobody")
        events = client.events(client.submit(SLOW))
        assert next(events)["type"] == "queued"
        events.close()  # type: ignore[attr-defined]
    client.close()


@pytest.mark.asyncio
async def test_the_server_restarts_in_the_middle(tmp_path: Path) -> None:
    """The run is taken up again, and the reader hears of its end."""
    with LiveServer(tmp_path) as server:
        async with AsyncClient(server.url) as client:
            run = await client.submit(workflow({"w": ("trial.wait", {"seconds": 0.5})}, ["w"]))
            types = []
            restarted = False
            async for event in client.events(run):
                types.append(event["type"])
                if event["type"] == "running" and not restarted:
                    restarted = True
                    await asyncio.to_thread(server.restart)
            assert types[-1] == "finished"
            assert (await client.result(run)).status == "succeeded"
