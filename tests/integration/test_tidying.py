"""The folder `temp` does not grow for ever, and nothing leaves it that somebody has or may still see."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from graph_engine.engine import Engine
from graph_engine.graph.context import NodeContext
from graph_engine.graph.kinds import File
from graph_engine.graph.node import Effect, node
from graph_engine.graph.registry import Registry
from graph_engine.models.catalog import Catalog
from graph_engine.settings import Settings

pytestmark = pytest.mark.asyncio
OLD_S = 10 * 3600.0


@node(id="t.preview", effect=Effect.EXTERNAL, output=True)
def preview(count: int, context: NodeContext) -> list[File]:
    """As the preview nodes do it."""
    files = []
    for _ in range(count):
        path = context.output_path("preview", "txt", temporary=True)
        path.write_text("seen")
        files.append(context.file(path, "text/plain", facts="x" * 400))
    return files


@node(id="t.wait", output=True)
def wait(context: NodeContext) -> int:
    while not context.wait(0.01):
        context.check()
    return 1


REGISTRY = Registry(f.node_type for f in (preview, wait))  # type: ignore[attr-defined]


async def open_engine(folder: Path) -> Engine:
    return await Engine.open(Settings(data_dir=folder), registry=REGISTRY, catalog=Catalog())


async def run(engine: Engine, count: int) -> str:
    nodes = {"p": {"type": "t.preview", "values": {"count": count}}}
    record = await engine.submit({"format": "anyloom", "version": 1, "nodes": nodes})
    assert (await engine.wait(record.id, 20)).status == "succeeded"
    return record.id


def age(folder: Path, by_s: float = OLD_S) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (time.time() - by_s,) * 2)


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


async def test_scratch_of_an_engine_that_was_killed_is_gone_when_the_next_one_opens(tmp_path: Path) -> None:
    temp = tmp_path / "temp"
    for scratch in ("job-ab12_xyz", "worker-0123abcd"):
        (temp / scratch / "deep").mkdir(parents=True)
        (temp / scratch / "deep" / "frames.bin").write_bytes(b"0" * 1000)
    (temp / ".parcel-abcdefgh").write_bytes(b"0")
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / ".upload-abcdefgh.part").write_bytes(b"0")
    (tmp_path / "input" / "job-pictures").mkdir()
    (tmp_path / "input" / "job-pictures" / "mine.png").write_bytes(b"0")
    (temp / "job-description_00001.txt").write_text("a preview that is only called so")
    (temp / ".playable").mkdir()
    (temp / ".playable" / "film.mp4").write_bytes(b"0")
    async with await open_engine(tmp_path):
        assert names(temp) == {"job-description_00001.txt", ".playable/film.mp4"}
        assert names(tmp_path / "input") == {"job-pictures/mine.png"}
        assert {path.name for path in temp.iterdir()} == {"job-description_00001.txt", ".playable"}


async def test_a_folder_that_an_open_engine_owns_is_not_touched(tmp_path: Path) -> None:
    async with await open_engine(tmp_path):
        (tmp_path / "temp" / "job-ab12_xyz").mkdir()
        with pytest.raises(Exception, match="in use by another engine"):
            await open_engine(tmp_path)
        assert (tmp_path / "temp" / "job-ab12_xyz").is_dir()


async def test_a_shared_folder_behind_a_link_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "shared" / "job-ab12_xyz").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "temp").symlink_to(tmp_path / "shared")
    async with await open_engine(tmp_path / "data"):
        assert (tmp_path / "shared" / "job-ab12_xyz").is_dir()


async def test_a_preview_leaves_after_the_last_result_that_names_it(tmp_path: Path) -> None:
    temp = tmp_path / "temp"
    async with await open_engine(tmp_path) as engine:
        first, second = await run(engine, 2), await run(engine, 1)
        (temp / "sub").mkdir()
        (temp / "sub" / "nobody_00001.txt").write_text("of a job that failed")
        assert await engine._tidying.once() == 0, "what is young stays"
        age(temp)
        assert await engine._tidying.once() == 1
        assert names(temp) == {f"preview_0000{number}.txt" for number in (1, 2, 3)}
        await engine.delete([first])
        assert await engine._tidying.once() == 2
        assert names(temp) == {"preview_00003.txt"}
    async with await open_engine(tmp_path) as engine:  # only the history knows of it now
        engine._roster._recent.clear()
        assert await engine._tidying.once() == 0
        await engine.delete([second])
        assert await engine._tidying.once() == 1
        assert not names(temp)


async def test_previews_stay_that_a_result_too_large_for_the_record_names(tmp_path: Path) -> None:
    temp = tmp_path / "temp"
    async with await open_engine(tmp_path) as engine:
        record = await engine.run(await run(engine, 200))
        assert "artifact" in str(record.result)
        record.created, record.finished = record.created - OLD_S - 1, record.finished and record.finished - OLD_S + 1
        age(temp)
        assert await engine._tidying.once() == 0
        assert len(names(temp)) == 200


async def test_nothing_leaves_that_a_run_may_be_about_to_show(tmp_path: Path) -> None:
    temp = tmp_path / "temp"
    async with await open_engine(tmp_path) as engine:
        record = await engine.submit({"format": "anyloom", "version": 1, "nodes": {"w": {"type": "t.wait"}}})
        (temp / "preview_00007.txt").write_text("made, not yet shown")
        age(temp)
        record.created -= OLD_S + 1
        assert await engine._tidying.once() == 0
        await engine.cancel(record.id)
        await engine.wait(record.id, 20)
        assert await engine._tidying.once() == 1


async def test_it_is_done_when_an_engine_opens_and_every_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graph_engine.tidying.EVERY_S", 0.05)
    temp = tmp_path / "temp"

    async def gone() -> None:
        while names(temp):
            await asyncio.sleep(0.02)

    def leave(name: str) -> None:
        temp.mkdir(exist_ok=True)
        (temp / name).write_text("")
        age(temp)

    leave("preview_00001.txt")
    async with await open_engine(tmp_path):
        await asyncio.wait_for(gone(), 10)
        leave("preview_00002.txt")
        await asyncio.wait_for(gone(), 10)
