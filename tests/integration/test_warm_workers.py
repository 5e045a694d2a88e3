"""Processes of devices import their libraries before the first job, and let go of them when nobody comes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from graph_engine.engine import Engine
from graph_engine.execute.worker import WorkerExecutor
from graph_engine.settings import Settings

pytestmark = pytest.mark.asyncio

PACK = """
from graph_engine import Needs, node

LIBRARIES = ("no_library_of_this_name", "{library}")


@node(id="warm.plain", needs=Needs(device=True))
def plain(a: int) -> int:
    import os

    return os.getpid()


@node(id="warm.aside")
def aside(a: int) -> int:
    return a
"""
LIBRARY = """
import os
from pathlib import Path

ROOM = b"x" * {bytes}
with Path({place!r}).open("a") as file:
    file.write(f"{{os.getpid()}}\\n")
"""
ROOM = 80 << 20
MEMORY = 40 << 20
"""Of a library that is there or not; the pages of a process come and go by less."""


class House:
    """An engine with one process, and a library that says which processes imported it."""

    def __init__(self, folder: Path, warm_s: float) -> None:
        packs, self.place = folder / "packs", folder / "imported"
        packs.mkdir()
        self.library = f"library_{folder.name}".replace("-", "_")
        (packs / "warm.py").write_text(PACK.format(library=f"anyloom_custom_pack.{self.library}"))
        (packs / "pack").mkdir()
        (packs / "pack" / "__init__.py").touch()
        (packs / "pack" / f"{self.library}.py").write_text(LIBRARY.format(bytes=ROOM, place=str(self.place)))
        self.settings = Settings(
            data_dir=folder / "data", workers="process", devices=("cpu",), custom_nodes=(packs,), warm_s=warm_s
        )

    def imported(self) -> list[int]:
        return [int(line) for line in self.place.read_text().split()] if self.place.exists() else []


def process_of(engine: Engine) -> psutil.Process | None:
    assert isinstance(engine._executor, WorkerExecutor)
    child = engine._executor.workers["cpu"].child
    return psutil.Process(child.process.pid) if child is not None and child.ready else None


async def until(condition: Callable[[], Any], patience_s: float = 60.0) -> Any:
    end = time.monotonic() + patience_s
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen"
        await asyncio.sleep(0.02)
    return found


def plain(engine: Engine, type: str = "warm.plain", a: int = 1) -> dict[str, Any]:
    return {"format": "anyloom", "version": 1, "nodes": {"n": {"type": type, "values": {"a": a}}}}


async def test_libraries_come_before_the_first_job_and_go_when_nobody_comes(tmp_path: Path) -> None:
    house = House(tmp_path, warm_s=1.0)
    async with await Engine.open(house.settings) as engine:
        first = process_of(engine)
        assert first is not None and house.imported() == []
        await until(house.imported)
        assert house.imported() == [first.pid], "by itself, without a job"
        warm = first.memory_info().rss
        second = await until(lambda: (found := process_of(engine)) and found.pid != first.pid and found)
        assert house.imported() == [first.pid], "the new one waits to be wanted"
        assert second.memory_info().rss < warm - MEMORY
        assert not first.is_running() or first.status() == psutil.STATUS_ZOMBIE

        record = await engine.submit(plain(engine, "warm.aside"))
        await engine.wait(record.id, 60)
        await asyncio.sleep(0.1)
        assert house.imported() == [first.pid], "a run without work for devices wants no libraries"
        record = await engine.wait((await engine.submit(plain(engine))).id, 60)
        assert record.result == {"n": {"int": second.pid}}
        await until(lambda: house.imported() == [first.pid, second.pid])
        await asyncio.sleep(2 * house.settings.warm_s)
        found = process_of(engine)
        assert found is not None and found.pid == second.pid, "one that has worked stays"


async def test_without_the_setting_the_first_job_imports_what_it_needs(tmp_path: Path) -> None:
    house = House(tmp_path, warm_s=0.0)
    async with await Engine.open(house.settings) as engine:
        record = await engine.wait((await engine.submit(plain(engine))).id, 60)
        assert record.status == "succeeded"
        await asyncio.sleep(0.2)
        assert house.imported() == []
