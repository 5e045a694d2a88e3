"""What happens when a job runs out of memory: who is tried again, how, and what is let go of before."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from movers_on_host import SlabMover
from small_models import family_of, saved, spec_of

from graph_engine import Needs, node
from graph_engine.errors import OutOfMemory
from graph_engine.execute.worker_forms import error_form, error_from
from graph_engine.memory.pool import ModelPool
from graph_engine.memory.reservations import ALONE_KEPT, Reservations
from graph_engine.memory.slabs import Slabs
from graph_engine.models.catalog import Catalog


@node(id="reservations.use", needs=Needs(device=True, working_bytes=10))
def use(value: int) -> int:
    return value


TYPE = use.node_type


class Pool(ModelPool):
    """Of a machine without models, that says what it was told to clear."""

    def __init__(self) -> None:
        super().__init__(Catalog(), {})
        self.cleared: list[bool] = []
        self.unknown = False
        """The process of the device has not said yet what there is."""

    def clear(self, host: bool = False, wait: bool = True) -> int:
        assert not wait, "the event loop does not wait for it"
        self.cleared.append(host)
        return 0

    def budget_of(self, device: str) -> int:
        return 0 if self.unknown else 1000


def out_of_memory(cause: BaseException | None = None) -> OutOfMemory:
    error = OutOfMemory("there is no more.")
    error.__cause__ = cause
    return error


def ask(reservations: Reservations, job: int, key: str = "key") -> bool:
    return reservations.ask(job, key, "cpu", TYPE, {}, {})


def runs_out(reservations: Reservations, job: int, key: str = "key") -> bool:
    return reservations.too_large(job, key, TYPE, {}, "cpu", out_of_memory(MemoryError()))[0]


def test_work_that_succeeded_at_its_second_try_has_two_tries_the_next_time_too() -> None:
    reservations = Reservations(Pool())
    assert ask(reservations, 1) and ask(reservations, 2, "other")
    assert runs_out(reservations, 1)
    assert reservations.left(1) == []
    assert not ask(reservations, 3), "the second try wants the device to itself"
    assert reservations.left(2) == [3]
    assert not ask(reservations, 4, "other")
    assert reservations.left(3) == [4]
    reservations.left(4)

    assert ask(reservations, 5) and ask(reservations, 6, "other"), "equal work runs beside other work again"
    assert runs_out(reservations, 5), "and is tried again when it runs out again"


def test_the_second_try_is_the_last_one() -> None:
    reservations = Reservations(Pool())
    assert ask(reservations, 1) and runs_out(reservations, 1)
    reservations.left(1)
    assert ask(reservations, 2) and not runs_out(reservations, 2)
    reservations.left(2)
    assert not reservations._alone


def test_second_tries_that_never_come_are_forgotten_in_the_end() -> None:
    reservations = Reservations(Pool())
    for job in range(ALONE_KEPT + 5):  # each of a run that is cancelled then
        assert ask(reservations, job, f"key {job}") and runs_out(reservations, job, f"key {job}")
        reservations.left(job)
    assert len(reservations._alone) == ALONE_KEPT and "key 4" not in reservations._alone


def test_a_device_whose_process_had_not_said_what_it_has_is_asked_again() -> None:
    pool = Pool()
    reservations, pool.unknown = Reservations(pool), True
    assert ask(reservations, 1) and not ask(reservations, 2), "one at a time, as long as nothing is known"
    pool.unknown = False
    assert reservations.left(1) == [2]
    assert ask(reservations, 3), "there is room for a hundred of them"


@pytest.mark.parametrize(
    ("device", "cause", "host"),
    [
        ("cpu", RuntimeError("anything"), True),
        ("cpu", None, True),
        ("cuda:0", None, False),
        ("cuda:0", torch.OutOfMemoryError("CUDA out of memory."), False),
        ("cuda:0", MemoryError("none left"), True),
        ("cuda:0", OSError(12, "Cannot allocate memory"), True),
        ("cuda:0", RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
    ],
)
@pytest.mark.parametrize("far", [False, True])
def test_what_the_host_keeps_goes_when_it_was_the_host_that_had_no_more(
    device: str, cause: BaseException | None, host: bool, far: bool
) -> None:
    """far: it happened in a process of the device, from which causes come as text."""
    pool, error = Pool(), out_of_memory(cause)
    told: Any = error_from(error_form(error)) if far else error
    Reservations(pool).too_large(1, "key", TYPE, {}, device, told)
    assert pool.cleared == [host]


def pool_with_pinned_models(folder: Path) -> tuple[ModelPool, Slabs, list[int]]:
    """A model has come in pieces and is on the device, out of pinned memory, and another one has left."""
    locked = [0]

    def pin(chunk: torch.Tensor) -> bool:
        locked[0] += chunk.numel()
        return True

    def unpin(chunk: torch.Tensor) -> None:
        locked[0] -= chunk.numel()

    slabs = Slabs(10**6, pin, unpin)
    family = family_of(lambda: torch.nn.Linear(8, 8))
    pool = ModelPool(Catalog([family]), {"cpu": 400}, lambda outline: SlabMover(slabs, outline.key))
    pool.movers.slabs = slabs
    for index in range(2):
        spec = spec_of(saved(folder, torch.nn.Linear(8, 8), str(index)))
        pool.lease(spec, "cpu")(torch.ones(1, 8))
        pool.release(spec, "cpu")
    assert locked[0] == slabs.bytes >= 2 * 288 and pool.hollow.outlines
    return pool, slabs, locked


@pytest.mark.parametrize("way", ["out of memory", "close"])
def test_nothing_stays_in_the_memory_of_the_host(tmp_path: Path, way: str) -> None:
    before = set(threading.enumerate())
    pool, slabs, locked = pool_with_pinned_models(tmp_path)
    if way == "close":
        pool.close()
    else:
        assert Reservations(pool).too_large(1, "key", TYPE, {}, "cpu", out_of_memory(MemoryError()))[0]
        pool.let_go()  # as the job does that is tried again
    assert (locked[0], slabs.bytes, len(pool.hollow.outlines)) == (0, 0, 0)
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("anyloom weights")]
    pool.close()
