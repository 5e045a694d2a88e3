"""Models leave slowly, and nobody waits for that but who wants their memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import family_of, saved, spec_of

from graph_engine import Needs
from graph_engine.errors import OutOfMemory
from graph_engine.memory.mover import HostMover
from graph_engine.memory.outline import Outline
from graph_engine.memory.pool import ModelPool
from graph_engine.memory.reservations import Reservations
from graph_engine.models.catalog import Catalog
from graph_engine.models.spec import ModelSpec
from tests.unit.execute.works import context_of, job, typed

BYTES = 4 * (8 * 8 + 8)
CLOSING_S = 0.5
AT_ONCE_S = 0.05


class House:
    """A pool with room for two models whose movers take their time to close; what happened, in order."""

    def __init__(self, folder: Path) -> None:
        self.happened: list[str] = []
        self.closing = threading.Event()
        self.pool = ModelPool(
            Catalog([family_of(lambda: torch.nn.Linear(8, 8))]),
            {"cpu": 2 * BYTES + 100},
            lambda outline: Slow(self, outline),
        )
        specs = (spec_of(saved(folder, torch.nn.Linear(8, 8), name)) for name in "abcd")
        self.specs = dict(zip("abcd", specs, strict=True))
        self.names = {spec.key: name for name, spec in self.specs.items()}

    def use(self, name: str) -> Any:
        module = self.pool.lease(self.specs[name], "cpu")
        self.pool.release(self.specs[name], "cpu")
        return module


class Slow(HostMover):
    def __init__(self, house: House, outline: Outline) -> None:
        super().__init__()
        self._house, self._name = house, house.names[outline.key]
        house.happened.append(f"{self._name} comes")

    def close(self) -> None:
        self._house.closing.set()
        time.sleep(CLOSING_S)
        super().close()
        self._house.happened.append(f"{self._name} has left")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    for name in "ab":
        made.use(name)
    made.happened.clear()
    yield made
    made.pool.close()


def beside(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_numbers_are_told_while_a_model_leaves(house: House) -> None:
    evicting = beside(lambda: house.use("c"))
    assert house.closing.wait(5)
    began = time.perf_counter()
    (stats,) = house.pool.stats()
    house.pool.budget_of("cpu")
    house.pool.beside_of(house.specs["b"], "cpu")
    house.pool.is_here(house.specs["b"])
    house.pool.forget("run")
    assert time.perf_counter() - began < AT_ONCE_S
    assert evicting.is_alive() and not house.happened, "it has not left yet"
    assert sorted(house.names[model["key"]] for model in stats["models"]) == ["b", "c"]
    evicting.join(5)
    assert house.happened == ["a has left", "c comes"]


@pytest.mark.law("P5")
def test_whoever_gets_the_room_waits_until_it_is_free_whoever_made_it(house: House) -> None:
    """The first thread makes room for a large reservation; the second one takes what that leaves, without making any."""
    pool = house.pool
    pool.residency("cpu").budget_bytes = (
        2 * BYTES
    )  # both models have to leave for the reservation, and 200 bytes are left
    free: list[list[str]] = []

    def reserve(bytes: int) -> None:
        pool.reserve("cpu", bytes)
        free.append(sorted(house.happened))

    first = beside(lambda: reserve(BYTES + 88))
    assert house.closing.wait(5)
    second = beside(lambda: reserve(200))
    for thread in (first, second):
        thread.join(5)
    assert free == [["a has left", "b has left"]] * 2
    pool.unreserve("cpu", BYTES + 288)


def test_a_model_that_comes_back_while_it_leaves_keeps_its_module(house: House) -> None:
    module = house.use("a")
    evicting = [beside(house.pool.clear)]
    assert house.closing.wait(5)
    assert house.use("a") is module
    evicting[0].join(5)
    assert house.happened.index("a has left") < house.happened.index("a comes")


def test_the_event_loop_does_not_wait_for_what_leaves_when_a_job_ran_out_of_memory(
    house: House, tmp_path: Path
) -> None:
    """The job that is tried again does, in its own thread, before its node begins."""

    def use() -> None: ...

    error = OutOfMemory("there is no more.")
    error.__cause__ = MemoryError()
    again = job(typed(use, needs=Needs(device=True)))._replace(attempt=2)
    context = context_of(again, tmp_path, lambda *post: None, house.pool)
    began = time.perf_counter()
    assert Reservations(house.pool).too_large(1, "key", again.type, {}, "cpu", error)[0]
    assert time.perf_counter() - began < AT_ONCE_S
    context.begin()
    assert sorted(house.happened) == ["a has left", "b has left"] and not house.pool.hollow.outlines
    context.release()


def test_a_model_that_gets_less_and_more_again_ends_with_what_is_counted(tmp_path: Path) -> None:
    """Many threads take and give back room; what a streamed model has is what the pool says, and never more than that."""
    wide = [torch.nn.Linear(64, 64) for _ in range(8)]
    pool = ModelPool(
        Catalog([family_of(lambda: torch.nn.Sequential(*wide))]),
        {"cpu": 8 * 4 * (64 * 64 + 64)},
        lambda outline: HostMover(),
    )
    spec: ModelSpec = spec_of(saved(tmp_path, torch.nn.Sequential(*wide)))
    x = torch.randn(2, 64)
    with torch.no_grad():
        wanted = torch.nn.Sequential(*wide)(x)

    def take_turns() -> None:
        for _ in range(20):
            pool.reserve("cpu", 40_000)
            pool.unreserve("cpu", 40_000)

    threads = [beside(take_turns) for _ in range(2)]
    for _ in range(20):
        with torch.no_grad():
            assert torch.equal(pool.lease(spec, "cpu")(x), wanted)
        pool.release(spec, "cpu")
    for thread in threads:
        thread.join(20)
    pool.let_go()
    counted = pool.residency("cpu").residents[spec.key].bytes
    assert pool.streamed["cpu", spec.key].room == counted <= pool.budget_of("cpu")
    pool.close()
