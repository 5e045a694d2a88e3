"""The pool on a real device: the same results as whole, within the budget, ahead of time. Skipped where there is none."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from graph_engine.memory.ahead import Expected
from graph_engine.memory.pool import ModelPool
from graph_engine.models.catalog import Catalog, Family
from graph_engine.models.load import materialise
from graph_engine.models.spec import ModelSpec, WeightFile

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")

WIDTH, LAYERS = 1024, 24
BYTES = LAYERS * 4 * (WIDTH * WIDTH + WIDTH)


def build(config: Mapping[str, Any]) -> torch.nn.Module:
    layers = [torch.nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)]
    return torch.nn.Sequential(*(part for layer in layers for part in (layer, torch.nn.Tanh())))


CATALOG = Catalog([Family("chain", build)])


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> list[ModelSpec]:
    folder = tmp_path_factory.mktemp("cuda")
    made = []
    for index in range(2):
        torch.manual_seed(index)
        save_file(build({}).state_dict(), folder / f"{index}.safetensors")
        made.append(ModelSpec("chain", {"n": index}, (WeightFile.of(folder / f"{index}.safetensors"),)))
    return made


def pool_of(share: float) -> ModelPool:
    return ModelPool(CATALOG, {"cuda:0": int(share * BYTES), "cpu": 4 * BYTES})


def expected(spec: ModelSpec, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return materialise(spec, CATALOG["chain"], "cuda:0")(x)


@pytest.mark.parametrize("share", [0.3, 0.6, 1.2])
def test_results_are_those_of_the_whole_model_and_memory_is_within_the_budget(
    specs: list[ModelSpec], share: float
) -> None:
    x = torch.randn(8, WIDTH, device="cuda:0")
    wanted = expected(specs[0], x)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    pool = pool_of(share)
    torch.cuda.reset_peak_memory_stats()
    with torch.no_grad():
        module = pool.lease(specs[0], "cuda:0")
        for _ in range(5):
            assert torch.equal(module(x), wanted)
    torch.cuda.synchronize()
    slack = 1 << 20
    assert torch.cuda.max_memory_allocated() - before <= share * BYTES + slack
    pool.release(specs[0], "cuda:0")
    pool.clear()
    pool.close()
    assert pool.movers.slabs is not None
    pool.movers.slabs.clear()
    del module
    assert torch.cuda.memory_allocated() - before <= slack


def test_nobody_waits_on_the_host_while_a_model_is_streamed(specs: list[ModelSpec]) -> None:
    """Whatever makes the host wait for the device raises, in every thread; what was computed is looked at after."""
    x = torch.randn(8, WIDTH, device="cuda:0")
    wanted = expected(specs[0], x)
    pool = pool_of(0.5)
    with torch.no_grad():
        module = pool.lease(specs[0], "cuda:0")
        module(x)  # the first pass shows the order of the layers, and sets up the device's libraries
        torch.cuda.set_sync_debug_mode("error")
        try:
            found = [module(x) for _ in range(4)]
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert all(torch.equal(one, wanted) for one in found)
    (model,) = pool.stats()[0]["models"]
    assert model["streamed_bytes"] > 0
    pool.release(specs[0], "cuda:0")
    pool.close()


def test_models_that_take_turns_come_out_of_their_slabs(specs: list[ModelSpec]) -> None:
    x = torch.randn(8, WIDTH, device="cuda:0")
    wanted = [expected(spec, x) for spec in specs]
    pool = pool_of(1.3)
    for turn in range(6):
        with torch.no_grad():
            module = pool.lease(specs[turn % 2], "cuda:0")
            pool.expect("run", "cuda:0", [Expected(specs[(turn + 1) % 2], 1)])
            assert torch.equal(module(x), wanted[turn % 2])
            time.sleep(0.05)
        pool.release(specs[turn % 2], "cuda:0")
    (stats,) = pool.stats()
    assert stats["used_bytes"] <= stats["budget_bytes"] and stats["used_ahead"] >= 1
    assert pool.movers.slabs is not None and 2 * BYTES <= pool.movers.slabs.bytes <= 2.1 * BYTES, (
        "each weight is pinned once"
    )
    pool.close()
    pool.clear()
    pool.movers.slabs.clear()
    assert pool.movers.slabs.bytes == 0


def test_the_rate_of_copies_is_that_of_the_device_and_nothing_is_on_its_way_afterwards(specs: list[ModelSpec]) -> None:
    """Not that at which copies are issued: no machine brings a terabyte a second."""
    pool = pool_of(0.6)
    x = torch.randn(8, WIDTH, device="cuda:0")
    with torch.no_grad():
        module = pool.lease(specs[0], "cuda:0")
        for _ in range(4):
            module(x)
    torch.cuda.synchronize()
    until = time.monotonic() + 5
    while pool.telemetry.flights("cuda:0"):
        assert time.monotonic() < until, "over, and nobody was told"
        time.sleep(0.002)
    spans = [span for span in pool.telemetry.spans if span.what == "copy"]
    rate = sum(span.bytes for span in spans) / sum(span.end_s - span.begin_s for span in spans)
    assert 1e8 < rate < 3e11
    pool.release(specs[0], "cuda:0")
    pool.clear()
    pool.close()
