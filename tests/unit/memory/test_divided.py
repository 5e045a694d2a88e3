"""A device whose budget several pools share: what one has, another gave."""

from __future__ import annotations

import threading
import time

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from graph_engine.errors import OutOfMemory
from graph_engine.execute.worker_models import Far, Fleet, holdings_form, holdings_from
from graph_engine.memory.divided import DividedPool, Holding, Holdings
from graph_engine.models.catalog import Catalog, Family
from graph_engine.models.spec import ModelSpec, WeightFile

FAMILY = Family("layer", lambda config: torch.nn.Linear(16, 16))
BYTES = 4 * (16 * 16 + 16)
FILE_BYTES = BYTES + 200


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> list[ModelSpec]:
    found = []
    for number in range(4):
        path = tmp_path_factory.mktemp("models") / f"{number}.safetensors"
        save_file(torch.nn.Linear(16, 16).state_dict(), path)
        found.append(ModelSpec("layer", {}, (WeightFile.of(path),)))
    return found


def used(pool: DividedPool, device: str = "cpu") -> int:
    found = pool.holdings(device)
    return found.budget_bytes - found.free_bytes


def test_idle_models_make_way_for_what_is_given_and_leased_ones_stay(specs: list[ModelSpec]) -> None:
    pool = DividedPool(Catalog([FAMILY]), {"cpu": 3 * FILE_BYTES})
    for spec in specs[:3]:
        pool.lease(spec, "cpu")
    pool.release(specs[0], "cpu")
    assert pool.give("cpu", 2 * FILE_BYTES) == 3 * FILE_BYTES - 2 * BYTES
    assert set(pool.holdings("cpu").models) == {specs[1].key, specs[2].key}
    assert pool.holdings("cpu").budget_bytes == 2 * BYTES
    assert pool.give("cpu", 1) == 0
    with pytest.raises(OutOfMemory):
        pool.reserve("cpu", 1)
    pool.take("cpu", 10)
    pool.reserve("cpu", 10)


@pytest.mark.law("P5")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(1, 4),
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 3), st.sampled_from(["lease", "release", "reserve"])), max_size=25
    ),
)
def test_the_server_and_a_process_never_hold_more_than_the_budget(
    specs: list[ModelSpec], rooms: int, script: list[tuple[bool, int, str]]
) -> None:
    """Any order of jobs here and there; the far pool is a real one, in this process."""
    budget = rooms * FILE_BYTES
    fleet = Fleet(Catalog([FAMILY]), {"cpu": budget})
    there = DividedPool(Catalog([FAMILY]), {"cpu": budget})
    fleet.join("cpu", Far(lambda bytes: there.give("cpu", bytes), lambda host: None, lambda run: None))
    fleet.begin("cpu", lambda room: None)
    leases: list[tuple[bool, ModelSpec]] = []
    for far, number, what in script:
        spec = specs[number]
        held = {one.key for _, one in leases} | {spec.key}
        if what == "lease" and len(held) * FILE_BYTES <= budget and len(leases) < rooms:  # what admission lets begin
            if far:
                there.take("cpu", fleet.make_room("cpu", (1 + sum(f for f, _ in leases)) * FILE_BYTES))
                there.lease(spec, "cpu")
            else:
                fleet.lease(spec, "cpu")
            leases.append((far, spec))
        elif what == "release" and leases:
            where, spec = leases.pop(number % len(leases))
            (there if where else fleet).release(spec, "cpu")
        elif what == "reserve" and not leases and not far:
            fleet.reserve("cpu", budget)
            fleet.unreserve("cpu", budget)
        own = DividedPool.holdings(fleet, "cpu")
        assert own.budget_bytes + there.holdings("cpu").budget_bytes == budget
        assert own.budget_bytes - own.free_bytes + used(there) <= budget
        fleet.told("cpu", holdings_form(there, "cpu"))
        assert sum(entry["used_bytes"] for entry in fleet.stats()) <= budget
    assert not any("streamed_bytes" in model for entry in there.stats() for model in entry["models"]), "all fitted"


def test_two_jobs_of_the_server_that_want_one_model_take_its_room_once(specs: list[ModelSpec]) -> None:
    """The second asks while the first one loads; and room that a job is about to use is not given away meanwhile."""
    inside, go_on = threading.Event(), threading.Event()

    def build(config: object) -> torch.nn.Module:
        inside.set()
        assert go_on.wait(5)
        return torch.nn.Linear(16, 16)

    catalog = Catalog([Family("layer", build)])
    there = DividedPool(Catalog([FAMILY]), {"cpu": 2 * FILE_BYTES})
    fleet = Fleet(catalog, {"cpu": 2 * FILE_BYTES})
    far = Far(lambda bytes: there.give("cpu", bytes), lambda host: None, lambda run: None)
    fleet.join("cpu", far)
    fleet.begin("cpu", lambda room: None)
    threads = [threading.Thread(target=fleet.lease, args=(specs[0], "cpu")) for _ in range(2)]
    threads[0].start()
    assert inside.wait(20)
    threads[1].start()
    until = time.monotonic() + 20
    while len(fleet._promised["cpu"][specs[0].key]) < 2:
        assert time.monotonic() < until
        time.sleep(0.001)
    left = 2 * FILE_BYTES - specs[0].weight_bytes
    assert far.room_bytes == there.holdings("cpu").budget_bytes == left
    assert fleet.make_room("cpu", 2 * FILE_BYTES) == 0
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert far.room_bytes == left
    there.lease(specs[1], "cpu")  # there is room for it


def test_what_a_process_says_arrives_whole(specs: list[ModelSpec]) -> None:
    pool = DividedPool(Catalog([FAMILY]), {"cpu": 10 * FILE_BYTES})
    pool.lease(specs[0], "cpu")
    found = holdings_from(holdings_form(pool, "cpu"))
    assert found == pool.holdings("cpu")
    assert found.models[specs[0].key] == Holding(BYTES, 1, frozenset({specs[0].files[0].path}))


def test_a_part_of_a_model_is_known_by_its_files(specs: list[ModelSpec]) -> None:
    """A node may have made the spec that it leased out of the one that arrived: one trunk of an encoder, say."""
    whole = ModelSpec("whole", {}, specs[0].files + specs[1].files)
    trunk = Holding(100, 0, frozenset({specs[0].files[0].path}))
    other = Holding(1_000, 0, frozenset({specs[2].files[0].path}))
    holdings = Holdings(10_000, 0, {"trunk": trunk, "other": other})
    assert holdings.bytes_of(whole, 2_000) == 100
    assert holdings.bytes_of(specs[3], 500) == 0
    assert Holdings(10_000, 0, {whole.key: Holding(900, 0, frozenset())}).bytes_of(whole, 2_000) == 900
