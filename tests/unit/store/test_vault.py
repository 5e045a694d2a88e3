"""Every value the engine has, wherever it lies: what is held stays, what is dropped is the caches' affair."""

from __future__ import annotations

import asyncio
import gc
import weakref
from pathlib import Path
from typing import Any

import pytest

from graph_engine.graph.outcome import Skip
from graph_engine.store.artifacts import Artifact, ListShape
from graph_engine.store.disk_store import DiskStore
from graph_engine.store.memory_store import MemoryStore
from graph_engine.store.vault import Vault

pytestmark = pytest.mark.asyncio


def artifact(key: str, value: Any = 1, seconds: float = 1.0) -> Artifact:
    return Artifact.of(key, (value,), seconds=seconds)


def vault(folder: Path | None = None, cache: str = "bytes:1MB", min_s: float = 0.0) -> Vault:
    return Vault(MemoryStore(cache), DiskStore(folder, 10**8) if folder else None, min_s)


async def written(vault: Vault) -> None:
    """What was handed to the disk is there: its one thread works in order."""
    await asyncio.get_running_loop().run_in_executor(vault._thread, lambda: None)


async def test_what_a_run_holds_is_there_without_any_cache() -> None:
    held = vault(cache="none")
    held.add(artifact("a"), keep=True)
    assert held.present(["a", "b"], ["a", "b"]) == {"a": (None,)}
    found = held.find("a")
    assert found is not None
    assert found.outputs == (1,)
    held.drop("a")
    held.drop("a")
    assert held.present(["a"], ["a"]) == {}
    assert held.find("a") is None
    assert not await held.fetch("a")
    held.close()


async def test_what_holds_for_one_run_only_goes_into_no_cache(tmp_path: Path) -> None:
    mixed = vault(tmp_path)
    mixed.add(artifact("mine"), keep=False)
    mixed.add(artifact("ours"), keep=True)
    await written(mixed)
    for key in ("mine", "ours"):
        mixed.drop(key)
    mixed.memory.clear()
    assert set(mixed.present(["mine", "ours"], ["mine", "ours"])) == {"ours"}
    mixed.close()


async def test_from_the_disk_into_memory_and_held(tmp_path: Path) -> None:
    first = vault(tmp_path)
    first.add(Artifact.of("a", ([1, Skip("hole")],), (True,), seconds=1.0), keep=True)
    first.close()
    second = vault(tmp_path)
    assert second.present(["a"], ["a"]) == {"a": (ListShape(2, frozenset({1})),)}
    assert second.find("a") is None, "a look does not read the disk"
    assert await second.fetch("a")
    found = second.find("a")
    assert found is not None
    assert found.outputs == ([1, Skip("hole")],)
    assert second.stats()["held"] == 1
    second.close()


async def test_reading_at_once_for_the_middle_of_a_step(tmp_path: Path) -> None:
    first = vault(tmp_path, cache="none")
    first.add(artifact("a", "x"), keep=True)
    first.drop("a")
    await written(first)
    found = first.read("a")
    assert found is not None
    assert found.outputs == ("x",)
    assert first.read("b") is None
    assert first.stats()["held"] == 1
    first.close()


async def test_a_look_holds_nothing(tmp_path: Path) -> None:
    store = vault(tmp_path, cache="none")
    store.add(artifact("a", "x"), keep=True)
    store.drop("a")
    await written(store)
    found = await store.peek("a")
    assert found is not None
    assert found.outputs == ("x",)
    assert await store.peek("b") is None
    assert store.stats()["held"] == 0
    store.close()


async def test_what_is_quickly_made_is_not_worth_a_file(tmp_path: Path) -> None:
    store = vault(tmp_path, min_s=0.5)
    store.add(artifact("quick", seconds=0.4), keep=True)
    store.add(artifact("slow", seconds=0.6), keep=True)
    await written(store)
    assert store.disk is not None
    assert list(store.disk.shapes) == ["slow"]
    store.save(artifact("quick", seconds=0.4))
    await written(store)
    assert set(store.disk.shapes) == {"slow", "quick"}
    store.close()


async def test_a_value_without_a_form_on_disk_stays_in_memory(tmp_path: Path) -> None:
    store = vault(tmp_path)
    store.add(artifact("odd", object()), keep=True)
    await written(store)
    assert store.unstorable == 1
    store.drop("odd")
    assert store.find("odd") is not None
    store.close()


async def test_a_file_that_vanished_is_gone_and_no_error(tmp_path: Path) -> None:
    store = vault(tmp_path, cache="none")
    store.add(artifact("a"), keep=True)
    store.drop("a")
    await written(store)
    assert store.present(["a"], ["a"])
    for path in tmp_path.rglob("*.artifact"):
        path.unlink()
    assert not await store.fetch("a")
    assert store.present(["a"], ["a"]) == {}
    store.close()


async def test_a_file_of_another_process_is_seen(tmp_path: Path) -> None:
    mine, other = vault(tmp_path), vault(tmp_path)
    other.add(artifact("theirs"), keep=True)
    other.close()
    assert mine.present(["theirs"]) == {}
    assert set(mine.present(["theirs"], ["theirs"])) == {"theirs"}
    assert await mine.fetch("theirs")
    mine.close()


async def test_a_dropped_value_is_freed() -> None:
    class Big: ...

    value = Big()
    trace = weakref.ref(value)
    store = vault(cache="none")
    store.add(artifact("a", value), keep=True)
    del value
    gc.collect()
    assert trace() is not None
    store.drop("a")
    gc.collect()
    assert trace() is None
    store.close()


async def test_close_waits_for_the_disk(tmp_path: Path) -> None:
    store = vault(tmp_path)
    for n in range(50):
        store.add(artifact(f"k{n}", "x" * 10_000), keep=True)
    store.close()
    assert len(DiskStore(tmp_path, 10**8).shapes) == 50
