"""A thousand runs leave nothing behind: no tensors, no bytes that somebody owns, no file handles, no threads."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from graph_engine import Encoder, Needs, NodeContext, node
from graph_engine.engine import Engine
from graph_engine.graph.registry import Registry
from graph_engine.memory.ahead import Expected
from graph_engine.memory.pool import ModelPool
from graph_engine.memory.slabs import Slabs
from graph_engine.models.catalog import Catalog, Family
from graph_engine.models.spec import ModelSpec, WeightFile
from graph_engine.settings import Settings
from tests.unit.memory.movers_on_host import SlabMover

RUNS = 1000


def chain() -> torch.nn.Module:
    return torch.nn.Sequential(*(torch.nn.Linear(32, 32) for _ in range(4)))


BYTES = 4 * 4 * (32 * 32 + 32)


@node(id="l.load")
def load(context: NodeContext, name: str) -> Encoder:
    return ModelSpec("chain", {"name": name}, (WeightFile.of(context.models_dir / f"{name}.safetensors"),))


@node(id="l.use", needs=Needs(device=True, working_bytes=lambda values: values["bytes"]))
def use(
    context: NodeContext, model: Encoder, salt: int, bytes: int = 100, fail: str = "", before: float = 0.0
) -> float:
    module = context.model(model)
    if fail == "memory":
        raise MemoryError("none left")
    if fail == "error":
        raise ValueError("on purpose")
    if fail == "wait":
        context.wait(5.0)
        context.check()
    return float(module(torch.ones(1, 32)).sum()) + before


REGISTRY = Registry()
for function in (load, use):
    REGISTRY.add(function.node_type)  # type: ignore[attr-defined]


def tensors() -> int:
    gc.collect()
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


def document(random: Random, salt: int) -> dict[str, Any]:
    names = random.choices("abc", k=2)
    fails = ["", "", "", "", "", "", random.choice(["memory", "error"])]
    nodes: dict[str, Any] = {
        f"load_{name}": {"type": "l.load", "values": {"name": name}, "links": {}} for name in set(names)
    }
    for index, name in enumerate(names):
        links = {"model": f"load_{name}.encoder"} | ({"before": "use0.float"} if index else {})
        values = {"salt": salt, "bytes": random.choice([0, 100, BYTES]), "fail": random.choice(fails)}
        nodes[f"use{index}"] = {"type": "l.use", "values": values, "links": links}
    return {"format": "anyloom", "version": 1, "nodes": nodes}


@pytest.mark.asyncio
async def test_a_thousand_runs_leave_nothing_behind(tmp_path: Path) -> None:
    """Room for two of three models; one run in seven runs out of memory or fails, one in fifty is cancelled."""
    others = set(threading.enumerate())  # of other tests in this process
    settings = Settings(
        data_dir=tmp_path, devices=("cpu",), device_bytes=(("cpu", 2 * BYTES + 4_000),), cache="none", disk_cache_bytes=0,
        keep_events=10_000,
    )  # fmt: skip
    engine = await Engine.open(settings, registry=REGISTRY, catalog=Catalog([Family("chain", lambda config: chain())]))
    for index, name in enumerate("abc"):
        torch.manual_seed(index)
        save_file(chain().state_dict(), settings.models_path / f"{name}.safetensors")
    random = Random(3)
    ends: dict[str, int] = {}

    async def one(salt: int) -> None:
        wanted = document(random, salt)
        if salt % 50 == 49:
            wanted["nodes"]["use0"]["values"]["fail"] = "wait"
        record = await engine.submit(wanted)
        if salt % 50 == 49:
            await asyncio.sleep(0.01)
            await engine.cancel(record.id)
        ended = await engine.wait(record.id, 60)
        ends[ended.status] = ends.get(ended.status, 0) + 1

    def owned() -> tuple[int, int, int, int]:
        (stats,) = engine.models.stats()
        leases = sum(model["leases"] for model in stats["models"])
        return leases, stats["reserved_bytes"], len(engine.models.loading), len(engine._runner._waiting)

    for start in range(0, 200, 4):
        await asyncio.gather(*(one(start + n) for n in range(4)))
    before = tensors(), len(os.listdir("/proc/self/fd"))
    for start in range(200, RUNS, 4):
        await asyncio.gather(*(one(start + n) for n in range(4)))
    assert not any(engine.models.ahead._uses.values())
    engine.models.clear()
    assert owned() == (0, 0, 0, 0)
    assert all(
        not admission.running and not admission.waiting for admission in engine.provision.reservations._devices.values()
    )
    assert tensors() <= before[0] and len(os.listdir("/proc/self/fd")) <= before[1] + 1
    names = [thread.name for thread in threading.enumerate() if thread not in others]
    assert names.count("anyloom ahead") <= 1 and not any(name.startswith("anyloom weights") for name in names)
    assert sum(ends.values()) == RUNS and ends["cancelled"] == RUNS // 50
    assert ends["succeeded"] > RUNS // 2 and ends["failed"] > 20, ends
    await engine.close()


def test_lives_of_models_in_pieces_leave_no_pinned_bytes(tmp_path: Path) -> None:
    specs, pinned = [], {"now": 0, "most": 0}
    for name in "abc":
        save_file(chain().state_dict(), tmp_path / f"{name}.safetensors")
        specs.append(ModelSpec("chain", {"name": name}, (WeightFile.of(tmp_path / f"{name}.safetensors"),)))

    def pin(chunk: torch.Tensor) -> bool:
        pinned["now"] += chunk.numel()
        pinned["most"] = max(pinned.values())
        return True

    def unpin(chunk: torch.Tensor) -> None:
        pinned["now"] -= chunk.numel()

    slabs = Slabs(2 * BYTES, pin, unpin)
    catalog = Catalog([Family("chain", lambda config: chain())])
    pool = ModelPool(catalog, {"cpu": BYTES * 3 // 2}, lambda outline: SlabMover(slabs, outline.key))
    random = Random(5)

    def life() -> None:
        spec = random.choice(specs)
        with torch.no_grad():
            module = pool.lease(spec, "cpu")
            pool.expect("run", "cpu", [Expected(random.choice(specs), 1)])
            module(torch.ones(1, 32))
        pool.release(spec, "cpu")
        if random.random() < 0.2:
            pool.forget("run")

    for _ in range(50):
        life()
    before = tensors(), len(os.listdir("/proc/self/fd"))
    for _ in range(RUNS):
        life()
    pool.close()
    pool.clear()
    pool.hollow.outlines.clear()
    assert pinned["most"] <= 2 * BYTES, "never more than the host's budget"
    assert tensors() <= before[0] and len(os.listdir("/proc/self/fd")) <= before[1]
    slabs.clear()
    assert pinned["now"] == slabs.bytes == 0
