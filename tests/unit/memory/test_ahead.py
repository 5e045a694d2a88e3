"""What comes next is brought while the present step computes: never more copies, never over the budget, in nobody's way."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from test_residency import fewest_loads, upcoming
from virtual_mover import VirtualMover

from graph_engine.errors import OutOfMemory
from graph_engine.memory.ahead import Expected
from graph_engine.memory.pool import ModelPool
from graph_engine.memory.residency import Coming, Residency
from graph_engine.models.catalog import Catalog, Family
from graph_engine.models.spec import ModelSpec, WeightFile

# --- the decision -----------------------------------------------------------------------------------------------------------


def uses_after(sequence: Sequence[str], at: int, clock: int, horizon: int) -> list[Coming]:
    """What a plan says while use number `at` goes on."""
    found = []
    for later in range(at + 1, min(len(sequence), at + 1 + horizon)):
        next_use = upcoming(sequence, later)
        again = math.inf if next_use is None else clock + later - at + next_use
        found.append(Coming(sequence[later], 10, clock + later - at, again))
    return found


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from("abcde"), max_size=14), st.integers(1, 4), st.integers(1, 6), st.data())
@pytest.mark.law("P5")
def test_bringing_ahead_never_loads_more_than_the_best_choice_on_demand(
    sequence: list[str], places: int, horizon: int, data: st.DataObject
) -> None:
    """Against every choice of what leaves; however many models arrive while a step computes."""
    residency = Residency("cpu", places * 10)
    loads = 0
    for at, key in enumerate(sequence):
        if key not in residency.residents:
            residency.admit(key, 10)
            loads += 1
        residency.lease(key, upcoming(sequence, at))
        coming = uses_after(sequence, at, residency.clock, horizon)
        residency.expect(coming)
        for _ in range(data.draw(st.integers(0, 3))):
            before = {name: resident.next_use for name, resident in residency.residents.items()}
            found = residency.bring(coming)
            if found is None:
                break
            brought, room, leaving = found
            use = next(one.use for one in coming if one.key == brought)
            assert room == 10
            assert brought not in before and key not in leaving
            assert all(before[name] > use for name in leaving), "nothing that is needed sooner"
            assert residency.used_bytes <= places * 10
            loads += 1
        residency.release(key)
    assert loads == fewest_loads(sequence, places)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
@pytest.mark.law("P5")
def test_a_job_gets_whatever_was_brought_ahead(data: st.DataObject) -> None:
    """Nothing that is brought makes an admission, a reservation or a streamed model fail that would fit without it."""
    residency, plain = Residency("cpu", 100), Residency("cpu", 100)
    number = st.integers(0, 60)
    for step in range(data.draw(st.integers(1, 8))):
        coming = [
            Coming(f"x{step}{n}", data.draw(number), step + n + 1.0, math.inf, data.draw(number), data.draw(number))
            for n in range(3)
        ]
        while residency.bring(coming) is not None:
            assert residency.used_bytes + residency.reserved_bytes <= 100
        size, kind = data.draw(number), data.draw(st.sampled_from(["admit", "reserve", "streamed"]))
        outcomes = []
        for one in (residency, plain):
            try:
                if kind == "admit":
                    one.admit(f"j{step}", size)
                    one.lease(f"j{step}", None)
                elif kind == "reserve":
                    one.reserve(size)
                else:
                    outcomes.append(one.admit_streamed(f"j{step}", 2 * size, size // 2)[0])
                    one.lease(f"j{step}", None)
                outcomes.append(-1)
            except OutOfMemory:
                outcomes.append(-2)
        assert outcomes[: len(outcomes) // 2] == outcomes[len(outcomes) // 2 :]
        assert residency.used_bytes + residency.reserved_bytes <= 100


@settings(max_examples=200, deadline=None)
@given(data=st.data())
@pytest.mark.law("P5")
def test_of_models_of_any_size_nothing_leaves_that_is_needed_sooner(data: st.DataObject) -> None:
    """Whole or in pieces, beside models in use and reservations."""
    residency = Residency("cpu", 100)
    uses = st.one_of(st.floats(1, 20), st.just(math.inf))
    for key in "abcde":
        size = data.draw(st.integers(1, 40))
        if residency.used_bytes + size <= 100:
            residency.admit(key, size)
            residency.residents[key].next_use = data.draw(uses)
            residency.residents[key].leases = data.draw(st.integers(0, 1))
    residency.reserved_bytes = data.draw(st.integers(0, 100 - residency.used_bytes))
    coming = sorted(
        (
            Coming(key, data.draw(st.integers(1, 90)), data.draw(st.floats(1, 20)), data.draw(uses),
                   data.draw(st.integers(0, 30)), data.draw(st.integers(0, 20)))
            for key in data.draw(st.lists(st.sampled_from("acxyz"), max_size=4))
        ),
        key=lambda one: one.use,
    )  # fmt: skip
    before = {key: (entry.next_use, entry.leases) for key, entry in residency.residents.items()}
    found = residency.bring(coming)
    if found is None:
        assert {key: (entry.next_use, entry.leases) for key, entry in residency.residents.items()} == before
        return
    key, room, leaving = found
    one = next(one for one in coming if one.key == key)
    assert key not in before and all(other.key in before for other in coming if other.use < one.use)
    assert all(before[other][0] > one.use and not before[other][1] for other in leaving)
    assert room == one.bytes or one.least_bytes <= room < one.bytes
    assert residency.used_bytes + max(residency.reserved_bytes, one.working_bytes) <= 100


def test_a_model_that_comes_in_pieces_takes_the_room_that_there_is() -> None:
    residency = Residency("cuda:0", 100)
    residency.admit("busy", 60)
    residency.lease("busy", None)
    assert residency.bring([Coming("next", 80, 2, least_bytes=10)]) == ("next", 40, [])
    residency.release("busy")
    assert residency.grow("next", 80) == (80, ["busy"])
    assert residency.residents["next"].spare_bytes == 0, "it is whole now"


def test_room_is_left_for_what_the_steps_until_then_need() -> None:
    residency = Residency("cpu", 100)
    residency.admit("busy", 40)
    residency.lease("busy", None)
    assert residency.bring([Coming("next", 50, 2, working_bytes=20)]) is None
    assert residency.bring([Coming("next", 40, 2, working_bytes=20)]) == ("next", 40, [])


def test_what_will_be_streamed_anyhow_is_waited_for() -> None:
    residency = Residency("cpu", 100)
    assert residency.bring([Coming("large", 101, 1), Coming("small", 10, 2)]) is None
    assert residency.bring([Coming("tight", 90, 1, working_bytes=20), Coming("small", 10, 2)]) is None


def test_what_a_new_plan_needs_soon_stays() -> None:
    residency = Residency("cpu", 30)
    for key in "ab":
        residency.admit(key, 10)
        residency.lease(key, None)
        residency.release(key)
    residency.expect([Coming("a", 10, 4)])
    residency.admit("c", 10)
    residency.lease("c", None)
    assert residency.admit("d", 10) == ["b"]


# --- the pool carries it out --------------------------------------------------------------------------------------------------


class Slow:
    """A family whose models take time to load, wherever a test holds them up."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.began, self.go = seconds, threading.Event(), threading.Event()
        self.go.set()
        self.fail = False

    def __call__(self, config: Mapping[str, Any]) -> Any:
        self.began.set()
        self.go.wait(20)
        time.sleep(self.seconds)
        if self.fail:
            raise ValueError("broken")
        return torch.nn.Linear(64, 64)


BYTES = 4 * (64 * 64 + 64)


@pytest.fixture
def specs(tmp_path: Path) -> dict[str, ModelSpec]:
    made = {}
    for index, name in enumerate("abcd"):
        torch.manual_seed(index)
        save_file(torch.nn.Linear(64, 64).state_dict(), tmp_path / f"{name}.safetensors")
        made[name] = ModelSpec("slow", {"size": 64}, (WeightFile.of(tmp_path / f"{name}.safetensors"),))
    return made


class Everything(set[str]):
    def __contains__(self, key: object) -> bool:
        return True


def pool_of(slow: Slow, places: float, **options: Any) -> ModelPool:
    """As if every model had been built once before."""
    pool = ModelPool(Catalog([Family("slow", slow)]), {"cpu": int(places * (BYTES + 400))}, **options)
    pool.hollow.prepared = Everything()
    return pool


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happens"
        time.sleep(0.002)


def held(pool: ModelPool) -> set[str]:
    return {model["key"] for device in pool.stats() for model in device["models"]}


def test_a_model_is_there_when_it_is_used(specs: dict[str, ModelSpec]) -> None:
    pool = pool_of(Slow(), 2)
    pool.lease(specs["a"], "cpu")
    pool.expect("run", "cpu", [Expected(specs["b"], 1), Expected(specs["c"], 2)])
    until(lambda: pool.loads == 2)
    module = pool.lease(specs["b"], "cpu")
    assert not any(tensor.is_meta for tensor in module.parameters())
    assert pool.loads == 2, "c has to wait for room"
    (stats,) = pool.stats()
    assert (stats["brought_ahead"], stats["used_ahead"]) == (1, 1)
    pool.release(specs["a"], "cpu")
    until(lambda: specs["c"].key in held(pool))
    pool.close()


def test_what_was_never_built_is_built_in_the_thread_of_a_job(specs: dict[str, ModelSpec]) -> None:
    """Libraries that import lazily break when two threads make them do it; reading weights imports nothing."""
    built: list[tuple[str, bool]] = []

    def build(config: Mapping[str, Any]) -> Any:
        built.append((threading.current_thread().name, "ahead" in threading.current_thread().name))
        return torch.nn.Linear(64, 64)

    pool = ModelPool(Catalog([Family("slow", build)]), {"cpu": int(2 * (BYTES + 400))})
    pool.lease(specs["a"], "cpu")
    pool.expect("run", "cpu", [Expected(specs["b"], 1), Expected(specs["c"], 2)])
    until(lambda: pool.loads == 2)
    assert [ahead for _, ahead in built] == [False, False], "only the next one, once"
    pool.release(specs["a"], "cpu")
    assert pool.clear() == 2
    pool.expect("run", "cpu", [Expected(specs["b"], 1)])
    until(lambda: pool.loads == 3)
    assert [ahead for _, ahead in built] == [False, False, True], "what was built before needs no job"
    pool.close()


def test_a_job_that_wants_what_is_on_its_way_waits_for_it(specs: dict[str, ModelSpec]) -> None:
    slow = Slow()
    pool = pool_of(slow, 2)
    slow.go.clear()
    pool.expect("run", "cpu", [Expected(specs["a"], 1)])
    assert slow.began.wait(20)
    with ThreadPoolExecutor(2) as threads:
        both = [threads.submit(pool.lease, specs["a"], "cpu") for _ in range(2)]
        time.sleep(0.02)
        slow.go.set()
        assert both[0].result(20) is both[1].result(20)
    assert pool.loads == 1
    pool.close()


@pytest.mark.parametrize("claim", ["model", "activations"])
def test_a_job_takes_the_room_of_what_is_on_its_way(specs: dict[str, ModelSpec], claim: str) -> None:
    """It is not there until the job has it: at no time more than the budget."""
    slow = Slow()
    pool = pool_of(slow, 1.2)
    slow.go.clear()
    pool.expect("run", "cpu", [Expected(specs["a"], 1)])
    assert slow.began.wait(20)
    done = threading.Event()

    def job() -> None:
        if claim == "model":
            pool.lease(specs["b"], "cpu")
        else:
            pool.reserve("cpu", BYTES)
        done.set()

    threading.Thread(target=job, daemon=True).start()
    until(lambda: specs["a"].key not in held(pool))
    assert not done.is_set(), "its memory is not free yet"
    slow.go.set()
    assert done.wait(20)
    (stats,) = pool.stats()
    assert stats["used_bytes"] + stats["reserved_bytes"] <= stats["budget_bytes"]
    assert pool.loads == (claim == "model")
    pool.close()


def test_what_a_cancelled_run_wanted_is_dropped_on_its_way(specs: dict[str, ModelSpec]) -> None:
    slow = Slow()
    pool = pool_of(slow, 3)
    slow.go.clear()
    pool.expect("run", "cpu", [Expected(specs["a"], 1), Expected(specs["b"], 2)])
    pool.expect("other", "cpu", [Expected(specs["c"], 3)])
    assert slow.began.wait(20)
    pool.forget("run")
    slow.go.set()
    until(lambda: pool.loads == 1)
    assert held(pool) == {specs["c"].key}
    pool.close()


def test_what_two_runs_want_stays_when_one_is_cancelled(specs: dict[str, ModelSpec]) -> None:
    slow = Slow()
    pool = pool_of(slow, 3)
    slow.go.clear()
    for run in ("run", "other"):
        pool.expect(run, "cpu", [Expected(specs["a"], 1)])
    assert slow.began.wait(20)
    pool.forget("run")
    slow.go.set()
    until(lambda: pool.loads == 1)
    assert held(pool) == {specs["a"].key}
    pool.close()


def test_jobs_own_loads_go_first(specs: dict[str, ModelSpec], tmp_path: Path) -> None:
    """What is brought ahead pauses between two of its tensors while a job reads what it needs now."""
    slow = Slow()
    pool = pool_of(slow, 4)
    slow.go.clear()
    pool.expect("run", "cpu", [Expected(specs["a"], 1)])
    assert slow.began.wait(20)
    with ThreadPoolExecutor(1) as threads:
        urgent = threads.submit(pool.lease, specs["b"], "cpu")
        until(lambda: pool.urgent == 1)
        slow.go.set()
        urgent.result(20)
    until(lambda: pool.loads == 2)
    assert list(pool.modules) == [("cpu", specs["b"].key), ("cpu", specs["a"].key)]
    pool.close()


def test_a_load_that_fails_ahead_is_nobodys_failure(specs: dict[str, ModelSpec]) -> None:
    slow = Slow()
    pool = pool_of(slow, 2)
    slow.fail = True
    pool.expect("run", "cpu", [Expected(specs["a"], 1), Expected(specs["b"], 2)])
    until(lambda: slow.began.is_set() and not pool.loading and not pool.ahead._uses["cpu"]["run"])
    assert held(pool) == set()
    slow.fail = False
    assert pool.lease(specs["a"], "cpu") is not None
    pool.close()


def test_a_file_that_vanished_is_told_to_the_job_that_uses_it(specs: dict[str, ModelSpec]) -> None:
    pool = pool_of(Slow(), 2)
    Path(specs["a"].files[0].path).unlink()
    pool.expect("run", "cpu", [Expected(specs["a"], 1), Expected(specs["b"], 2)])
    until(lambda: pool.loads == 1)
    assert held(pool) == {specs["b"].key}
    with pytest.raises(Exception, match="No such file") as caught:
        pool.lease(specs["a"], "cpu")
    assert caught.value.problem.code == "model_missing"  # type: ignore[attr-defined]
    pool.close()


def test_what_its_own_library_loads_is_left_to_the_job(specs: dict[str, ModelSpec]) -> None:
    own = ModelSpec("own", {}, specs["a"].files)
    catalog = Catalog(
        [Family("slow", Slow()), Family("own", Slow(), load=lambda spec, device: torch.nn.Linear(64, 64))]
    )
    pool = ModelPool(catalog, {"cpu": 10**6})
    pool.hollow.prepared = Everything()
    pool.expect("run", "cpu", [Expected(own, 1), Expected(specs["b"], 2)])
    until(lambda: pool.loads == 1)
    assert held(pool) == {specs["b"].key}
    pool.close()


def test_in_pieces_a_part_comes_ahead_and_the_rest_with_its_use(specs: dict[str, ModelSpec]) -> None:
    """As on an accelerator, on a virtual clock: every model through a mover."""

    def build(config: Mapping[str, Any]) -> Any:
        return torch.nn.Sequential(*(torch.nn.Linear(64, 64) for _ in range(8)))

    torch.manual_seed(0)
    folder = Path(specs["a"].files[0].path).parent
    chains = {}
    for name in "xy":
        save_file(build({}).state_dict(), folder / f"{name}.safetensors")
        chains[name] = ModelSpec("chain", {"name": name}, (WeightFile.of(folder / f"{name}.safetensors"),))
    movers: list[VirtualMover] = []

    def mover(outline: Any) -> VirtualMover:
        movers.append(VirtualMover(1e6))
        return movers[-1]

    budget = 8 * BYTES * 3 // 2
    pool = ModelPool(Catalog([Family("chain", build)]), {"cpu": budget}, mover)
    first = pool.lease(chains["x"], "cpu")
    first(torch.zeros(1, 64))
    assert not any(layer._forward_hooks for layer in first), "all of it is there: nothing is in its way any more"
    pool.expect("run", "cpu", [Expected(chains["y"], 1)])
    until(lambda: pool.loads == 2)
    (stats,) = pool.stats()
    part = next(model["bytes"] for model in stats["models"] if model["key"] == chains["y"].key)
    assert 0 < part <= budget - 8 * BYTES
    kept = sum(copy_bytes(ticket) for ticket in movers[1].held)
    assert 0 < kept <= part
    pool.release(chains["x"], "cpu")
    second = pool.lease(chains["y"], "cpu")
    for _ in range(2):
        second(torch.zeros(1, 64))
    assert movers[1].moved_bytes == 8 * BYTES, "each weight once"
    assert {model["key"] for model in pool.stats()[0]["models"]} == {chains["y"].key}
    pool.close()


def copy_bytes(ticket: Any) -> int:
    return sum(source.bytes for source in ticket.sources)


@settings(max_examples=15, deadline=None)
@given(data=st.data())
@pytest.mark.law("P5")
def test_no_interleaving_of_jobs_and_what_comes_ahead_locks_up(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Four threads that lease, reserve, expect, cancel and clear at once: all of them end, and the budget is kept."""
    folder = tmp_path_factory.getbasetemp()
    made = {}
    for index, name in enumerate("abcd"):
        path = folder / f"lock-{name}.safetensors"
        if not path.exists():
            save_file(torch.nn.Linear(64, 64).state_dict(), path)
        made[name] = ModelSpec("slow", {"size": 64, "n": index}, (WeightFile.of(path),))
    pool = pool_of(Slow(0.0005), data.draw(st.sampled_from([1, 2, 2.5, 4])))
    script = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 5)), min_size=3, max_size=12)
    scripts = [data.draw(script) for _ in range(4)]
    over: list[int] = []

    def job(number: int) -> None:
        for name, action in scripts[number]:
            try:
                if action <= 1:
                    pool.lease(made[name], "cpu", None)
                    pool.release(made[name], "cpu")
                elif action == 2:
                    pool.reserve("cpu", BYTES // 2)
                    pool.unreserve("cpu", BYTES // 2)
                elif action == 3:
                    pool.forget(f"run{number}")
                elif action == 4 and name == "a":
                    pool.clear()
                pool.expect(f"run{number}", "cpu", [Expected(made[other], n + 1) for n, other in enumerate("abcd")])
            except OutOfMemory:
                pass
            residency = pool.residency("cpu")
            with pool._lock:
                if residency.used_bytes + residency.reserved_bytes > residency.budget_bytes:
                    over.append(number)

    threads = [threading.Thread(target=job, args=(number,), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a dead-lock"
    pool.close()
    assert over == []
    assert pool.loading == {}
