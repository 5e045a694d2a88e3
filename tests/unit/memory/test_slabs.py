"""Slabs on the host: filled once, copied from in any packing, within a budget, given back when nobody copies from them."""

from __future__ import annotations

import gc
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from graph_engine.memory.mover import ALIGNMENT, WeightFiles, carve
from graph_engine.memory.slabs import Slab, Slabs
from graph_engine.models.catalog import Family
from graph_engine.models.sources import Source, find_sources
from graph_engine.models.spec import ModelSpec, WeightFile

SIZES = {"a": 7, "b": 64, "c": 1, "d": 200, "e": 33, "empty": 0}
TENSORS = {name: torch.arange(size, dtype=torch.float32) + 1000 * n for n, (name, size) in enumerate(SIZES.items())}


class Counting(WeightFiles):
    def __init__(self) -> None:
        super().__init__()
        self.filled: list[str] = []

    def fill(self, source: Source, target: torch.Tensor) -> None:
        self.filled.append(source.key)
        super().fill(source, target)


class Bag(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        for name, tensor in TENSORS.items():
            self.register_buffer(name, torch.empty_like(tensor))


def sources(folder: Path, dtype: str = "float32") -> dict[str, Source]:
    path = folder / "bag.safetensors"
    if not path.exists():
        save_file(TENSORS, path)
    spec = ModelSpec("bag", {}, (WeightFile.of(path),), dtype)
    return find_sources(spec, Family("bag", lambda config: Bag()))[1]


def copied(slab: Slab, block: Sequence[Source], files: WeightFiles) -> tuple[list[torch.Tensor], int]:
    """The block as a device gets it, and in how many copies."""
    pieces, begins, size = slab.pieces(block, files)
    room = torch.full((max(size, 1),), 255, dtype=torch.uint8)
    for piece in pieces:
        room[piece.begin : piece.begin + piece.bytes.numel()] = piece.bytes
    return carve(room, block, begins), len(pieces)


def test_a_block_is_read_once_and_is_one_copy(tmp_path: Path) -> None:
    found, files, slabs = sources(tmp_path, "bfloat16"), Counting(), Slabs(10**6)
    slab = slabs.of("m")
    block = list(found.values())
    for _ in range(3):
        tensors, copies = copied(slab, block, files)
        assert copies == 1
        for source, tensor in zip(block, tensors, strict=True):
            assert torch.equal(tensor, TENSORS[source.key].bfloat16())
    assert files.filled == list(SIZES)
    slabs.done(slab)
    assert copied(slabs.of("m"), block, files)[1] == 1, "it is kept when the model leaves the device"
    assert len(files.filled) == len(SIZES)
    files.close()


@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_any_packing_gives_the_same_bytes(data: st.DataObject, tmp_path_factory: object) -> None:
    folder = tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    found, files = sources(folder), Counting()
    slabs = Slabs(data.draw(st.sampled_from([0, 300, 700, 10**6])))
    slab = slabs.of("m")
    for _ in range(data.draw(st.integers(1, 6))):
        names = data.draw(st.lists(st.sampled_from(list(SIZES)), unique=True, min_size=1))
        tensors, _ = copied(slab, [found[name] for name in names], files)
        for name, tensor in zip(names, tensors, strict=True):
            assert torch.equal(tensor, TENSORS[name])
        assert slabs.bytes <= slabs.limit_bytes
    if slabs.limit_bytes == 10**6:
        assert len(files.filled) == len(set(files.filled)), "whatever the packing, each weight is read once"
    files.close()


def test_beyond_the_budget_blocks_are_read_each_time(tmp_path: Path) -> None:
    found, files, slabs = sources(tmp_path), Counting(), Slabs(0)
    slab = slabs.of("m")
    for _ in range(2):
        assert torch.equal(copied(slab, [found["b"]], files)[0][0], TENSORS["b"])
    assert files.filled == ["b", "b"] and slabs.bytes == 0
    files.close()


def test_models_that_are_on_no_device_make_room_the_least_recently_used_first(tmp_path: Path) -> None:
    found, files = sources(tmp_path), Counting()
    pinned: list[int] = []

    def pin(chunk: torch.Tensor) -> bool:
        pinned.append(chunk.data_ptr())
        return True

    size = -(-TENSORS["d"].nbytes // ALIGNMENT) * ALIGNMENT
    slabs = Slabs(3 * size, pin, lambda chunk: pinned.remove(chunk.data_ptr()))
    made = {}
    for name in "xyz":
        made[name] = slabs.of(name)
        copied(made[name], [found["d"]], files)
    for name in "yx":
        slabs.done(made[name])
    copied(slabs.of("new"), [found["d"]], files)
    assert (len(pinned), slabs.bytes) == (3, 3 * size)
    assert made["y"].chunks == [] and made["x"].chunks and made["z"].chunks
    slabs.clear()
    assert len(pinned) == 2, "what is copied from stays"
    files.close()


def test_slabs_that_nobody_cleared_unlock_what_they_had_locked(tmp_path: Path) -> None:
    found, files = sources(tmp_path), Counting()
    locked: list[int] = []

    def pin(chunk: torch.Tensor) -> bool:
        locked.append(chunk.data_ptr())
        return True

    slabs = Slabs(10**6, pin, lambda chunk: locked.remove(chunk.data_ptr()))
    copied(slabs.of("m"), [found["a"], found["d"]], files)
    assert locked
    del slabs
    gc.collect()
    assert not locked
    files.close()


def test_what_the_system_does_not_lock_is_not_kept_but_comes(tmp_path: Path) -> None:
    found, files, slabs = sources(tmp_path), Counting(), Slabs(10**6, lambda chunk: False)
    slab = slabs.of("m")
    assert torch.equal(copied(slab, [found["a"], found["d"]], files)[0][1], TENSORS["d"])
    assert slabs.bytes == 0
    files.close()


@pytest.mark.law("P5")
def test_two_threads_that_lock_at_once_stay_within_the_budget(tmp_path: Path) -> None:
    """Locking takes seconds: what one thread is about to lock counts when another one asks."""
    found, size = sources(tmp_path), -(-TENSORS["d"].nbytes // ALIGNMENT) * ALIGNMENT
    both, locked, most = threading.Barrier(2), [0], [0]

    def pin(chunk: torch.Tensor) -> bool:
        locked[0] += chunk.numel()
        most[0] = max(most[0], locked[0], slabs.bytes)
        with suppress(threading.BrokenBarrierError):  # nobody else comes here, as it should be
            both.wait(0.3)
        return True

    def unpin(chunk: torch.Tensor) -> None:
        locked[0] -= chunk.numel()

    slabs = Slabs(size, pin, unpin)

    def bring(name: str) -> torch.Tensor:
        files = Counting()
        tensors, _ = copied(slabs.of(name), [found["d"]], files)
        files.close()
        return tensors[0]

    with ThreadPoolExecutor(2) as threads:
        assert all(torch.equal(tensor, TENSORS["d"]) for tensor in threads.map(bring, "xy"))
    assert most[0] <= slabs.limit_bytes and locked[0] == slabs.bytes == size


def test_locking_that_fails_leaves_nothing_counted(tmp_path: Path) -> None:
    found, files = sources(tmp_path), Counting()

    def pin(chunk: torch.Tensor) -> bool:
        raise RuntimeError("the driver is gone")

    slabs = Slabs(10**6, pin)
    with pytest.raises(RuntimeError, match="the driver is gone"):
        copied(slabs.of("m"), [found["d"]], files)
    assert slabs.bytes == 0
    files.close()
