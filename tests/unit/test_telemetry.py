"""What is noted of memory and time, and that it stays small."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from graph_engine.errors import ModelError
from graph_engine.memory.ahead import Expected
from graph_engine.memory.mover import HostMover
from graph_engine.memory.pool import ModelPool
from graph_engine.memory.view import view
from graph_engine.models.catalog import Catalog
from graph_engine.telemetry import BUCKETS_S, OTHER, SLOW_S, TYPES_KEPT, Span, Telemetry
from tests.unit.memory.small_models import Chain, family_of, saved, spec_of
from web.forecast import BUS
from web.outlook import OBSERVED_BYTES, READING, bandwidth_of

SIZES = (4_000, 4_000, 4_000, 4_000)


def pool_of(folder: Path, budget: int, *names: str) -> tuple[ModelPool, list[Any]]:
    """A pool and one model of 16 kB per name, each a family of its own."""
    module = Chain(SIZES)
    for parameter in module.parameters():
        parameter.zero_()
    specs = [spec_of(saved(folder, module, name), "uint8", name) for name in names]
    families = [family_of(lambda: Chain(SIZES), name) for name in names]
    return ModelPool(Catalog(families), {"cpu": budget}), specs


def test_loads_and_evictions_are_told_with_their_bytes(tmp_path: Path) -> None:
    pool, (first, second) = pool_of(tmp_path, 20_000, "first", "second")
    for spec in (first, second):
        pool.lease(spec, "cpu")
        pool.release(spec, "cpu")
    spans = [(span.what, span.model, span.bytes) for span in pool.telemetry.spans]
    assert spans == [("load", "first", 16_000), ("evict", "first", 16_000), ("load", "second", 16_000)]
    copies = pool.telemetry.devices["cpu"]
    assert (copies.loads, copies.evictions, copies.copied_bytes) == (2, 1, 32_000)
    assert copies.in_flight == {}


def test_streamed_blocks_are_copies_and_the_view_says_how_much_is_here(tmp_path: Path) -> None:
    pool, (spec,) = pool_of(tmp_path, 12_000, "large")
    module = pool.lease(spec, "cpu", 3)
    for _ in range(3):
        module()
    [device] = view(pool, ["cpu"], pool.telemetry)
    [model] = device["models"]
    assert (model["family"], model["state"], model["weight_bytes"], model["leases"]) == (
        "large",
        "streaming",
        16_000,
        1,
    )
    assert 0 <= model["share"] < 1
    assert model["next_use"] == 3
    assert device["copied_bytes"] > 16_000, "every pass copies again"
    pool.release(spec, "cpu")
    assert pool.clear() == 1
    [device] = view(pool, ["cpu"], pool.telemetry)
    assert (device["models"], device["evictions"], device["transfers"]) == ([], 1, [])


def test_a_model_on_its_way_is_seen(tmp_path: Path) -> None:
    pool, (spec,) = pool_of(tmp_path, 10**6, "slow")
    build = pool.catalog["slow"].build
    seen: list[dict[str, Any]] = []

    def slowly(config: Any) -> Any:
        seen.extend(view(pool, ["cpu"], pool.telemetry))
        return build(config)

    pool.catalog = Catalog([family_of(lambda: slowly({}), "slow")])
    pool.lease(spec, "cpu")
    assert [(model["state"], model["share"]) for model in seen[0]["models"]] == [("loading", 0.0)]
    assert [(entry["model"], entry["what"]) for entry in seen[0]["transfers"]] == [("slow", "load")]
    [device] = view(pool, ["cpu"], pool.telemetry)
    assert [(model["state"], model["share"]) for model in device["models"]] == [("resident", 1.0)]


def test_what_comes_block_by_block_is_one_load_and_its_bytes_are_those_of_the_blocks(tmp_path: Path) -> None:
    """On demand and ahead, as on an accelerator."""
    whole, (first, second) = pool_of(tmp_path, 10**6, "first", "second")
    pool = ModelPool(whole.catalog, {"cpu": 10**6}, lambda outline: HostMover())
    pool.hollow.outline(second, "cpu")  # the thread that brings ahead builds only what was built before
    pool.lease(first, "cpu")()
    pool.expect("run", "cpu", [Expected(second, 1)])
    until = time.monotonic() + 10
    while len(pool.stats()[0]["models"]) < 2 or pool.telemetry.flights("cpu"):
        assert time.monotonic() < until, pool.stats()
        time.sleep(0.005)
    pool.release(first, "cpu")
    pool.lease(second, "cpu")()
    pool.close()
    copies = pool.telemetry.devices["cpu"]
    assert (copies.loads, copies.copied_bytes, pool.stats()[0]["used_ahead"]) == (2, 32_000, 1)
    spans = [(span.what, span.model, span.bytes) for span in pool.telemetry.spans]
    assert {span for span in spans if span[0] == "load"} == {("load", "first", 0), ("load", "second", 0)}


def test_a_model_that_does_not_come_is_no_load(tmp_path: Path) -> None:
    pool, (spec,) = pool_of(tmp_path, 10**6, "gone")
    Path(spec.files[0].path).unlink()
    with pytest.raises(ModelError):
        pool.lease(spec, "cpu")
    copies = pool.telemetry.devices["cpu"]
    assert (copies.loads, copies.copied_bytes, copies.in_flight) == (0, 0, {})


def test_the_ring_is_bounded_and_any_thread_may_write() -> None:
    telemetry = Telemetry(keep=100)

    def work(number: int) -> None:
        for index in range(200):
            ticket = telemetry.began("load", f"d{number}", "m", 1)
            telemetry.ended(f"d{number}", ticket, came=index % 2 == 0)
            telemetry.lasted(f"type {index * 8 + number}", 0.01)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert len(telemetry.spans) == 100
    assert {copies.loads for copies in telemetry.devices.values()} == {100}
    assert len(telemetry.times) == TYPES_KEPT + 1
    assert sum(sum(times.counts) for times in telemetry.times.values()) == 1600
    assert sum(telemetry.times[OTHER].counts) == 1600 - TYPES_KEPT


def test_short_waits_are_not_kept_and_waits_are_of_one_run() -> None:
    telemetry = Telemetry()
    telemetry.waited("memory", time.perf_counter(), "cpu", "", "a", "n")
    telemetry.waited("memory", time.perf_counter() - 2 * SLOW_S, "cpu", "", "a", "n")
    telemetry.evicted("cpu", "m", 1)
    assert [span.what for span in telemetry.of("a")] == ["memory", "evict"]
    assert [span.what for span in telemetry.of("b")] == ["evict"]


def test_what_the_steps_of_a_type_took_is_counted() -> None:
    telemetry = Telemetry()
    for seconds in (10.0, *(1.0 for _ in range(20))):
        telemetry.lasted("t", seconds)
    assert telemetry.times["t"].counts[BUCKETS_S.index(1.0)] == 20
    assert telemetry.times["t"].seconds == 30.0


def test_a_second_in_which_several_blocks_are_on_their_way_is_one_second() -> None:
    telemetry, size = Telemetry(), 16 << 20
    assert bandwidth_of(telemetry, "cuda:0") == (BUS, False)
    assert bandwidth_of(telemetry, "cpu") == (READING, False)
    telemetry.spans.extend(Span("copy", 0.0, end, "cuda:0", "m", size) for end in (3.0, 1.0, 4.0, 2.0))
    telemetry.spans.append(Span("load", 0.0, 99.0, "cuda:0", "m", 0))  # of a model in blocks: it is they that count
    telemetry.spans.append(Span("copy", 0.0, 99.0, "cuda:1", "m", size))
    assert bandwidth_of(telemetry, "cuda:0") == (size, True)
    telemetry.spans.append(Span("copy", 10.0, 11.0, "cuda:0", "m", 6 * size))  # and nothing was on its way before it
    assert bandwidth_of(telemetry, "cuda:0") == (2 * size, True)
    telemetry.spans.append(Span("copy", 0.0, 99.0, "cpu", "m", OBSERVED_BYTES - 1))
    assert bandwidth_of(telemetry, "cpu") == (READING, False)
