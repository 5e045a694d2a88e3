"""What a person does to runs in a real engine: pins, breakpoints, priorities, a held queue, forgetting; also over a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from graph_engine import Effect, Image, Needs, node
from graph_engine.engine import Engine
from graph_engine.errors import NotFoundError, RequestError
from graph_engine.graph.registry import Registry
from graph_engine.models.catalog import Catalog
from graph_engine.settings import Settings

pytestmark = pytest.mark.asyncio
RAN: list[str] = []


@node(id="c.number")
def number(value: int = 1, name: str = "number") -> int:
    RAN.append(name)
    return value


@node(id="c.add")
def add(a: int, b: int = 0, name: str = "add") -> int:
    RAN.append(name)
    return a + b


@node(id="c.ask", effect=Effect.EXTERNAL)
def ask(a: int = 0) -> int:
    """Something outside, which answers otherwise each time."""
    RAN.append("ask")
    return 1000 + len(RAN)


@node(id="c.picture")
def picture(side: int = 4) -> Image:
    import numpy

    RAN.append("picture")
    return numpy.full((1, side, side, 3), 0.5, dtype=numpy.float32)


@node(id="c.brightness")
def brightness(image: Image) -> float:
    RAN.append("brightness")
    return float(image.mean())


@node(id="c.slow", effect=Effect.EXTERNAL, needs=Needs())
async def slow(seconds: float = 30.0) -> int:
    await asyncio.sleep(seconds)
    return 1


REGISTRY = Registry(f.node_type for f in (number, add, ask, picture, brightness, slow))  # type: ignore[attr-defined]


async def opened(folder: Path, **more: Any) -> Engine:
    RAN.clear()
    settings = Settings(data_dir=folder, grace_s=0.3, **more)
    return await Engine.open(settings, registry=REGISTRY, catalog=Catalog())


@pytest_asyncio.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    engine = await opened(tmp_path)
    yield engine
    await engine.close()


def document(targets: list[str], **nodes: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    entries = {}
    for name, (type, inputs) in nodes.items():
        links = {port: value for port, value in inputs.items() if isinstance(value, str) and "." in value}
        values = {port: value for port, value in inputs.items() if port not in links}
        entries[name] = {"type": f"c.{type}", "values": values, "links": links}
    return {"format": "anyloom", "version": 1, "nodes": entries, "targets": targets}


SUM = document(
    ["sum"],
    first=("number", {"value": 1, "name": "first"}),
    second=("add", {"a": "first.int", "b": 10, "name": "second"}),
    sum=("add", {"a": "second.int", "b": 100, "name": "sum"}),
)


async def finished(engine: Engine, run: str) -> Any:
    record = await engine.wait(run, 20)
    assert record.status == "succeeded", record.errors
    return record.result


async def until_paused(engine: Engine, run: str, nodes: list[str]) -> None:
    async with asyncio.timeout(10):
        while (await engine.run(run)).paused != nodes:
            await asyncio.sleep(0.005)


# --- pins -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["run", "key"])
async def test_nothing_before_a_pin_is_computed(engine: Engine, by: str) -> None:
    before = await engine.submit(SUM, targets=["second"])
    assert await finished(engine, before.id) == {"second": {"int": 11}}
    source = before.id if by == "run" else (await engine.plan(SUM))[0].steps[1].key
    RAN.clear()
    run = await engine.submit(SUM, values={"first.value": 5}, pins={"second": source})
    assert await finished(engine, run.id) == {"sum": {"int": 111}}
    assert RAN == ["sum"], "`first` has another value now, and nobody asks for it"
    assert not engine._vault._held


async def test_what_has_effects_outside_is_pinned_as_it_was(engine: Engine) -> None:
    asked = document(["sum"], ask=("ask", {}), sum=("add", {"a": "ask.int", "name": "sum"}))
    before = await engine.submit({**asked, "targets": ["sum", "ask"]})
    result = await finished(engine, before.id)
    with pytest.raises(NotFoundError) as caught:  # small results of effects are in no cache
        await engine.submit(asked, pins={"ask": before.id})
    assert caught.value.problem.code == "pin_gone"
    held = await engine.submit(asked, pins={}, breakpoints=["sum"])
    await until_paused(engine, held.id, ["sum"])
    RAN.clear()
    again = await engine.submit(asked, pins={"ask": held.id})  # while that run holds it
    await finished(engine, again.id)
    assert "ask" not in RAN
    assert result["ask"]["int"] > 1000
    await engine.go_on(held.id)
    await finished(engine, held.id)


async def test_a_pinned_target_is_the_result(engine: Engine) -> None:
    before = await engine.submit(SUM)
    await finished(engine, before.id)
    RAN.clear()
    run = await engine.submit(SUM, values={"sum.b": 7}, pins={"sum": before.id})
    assert await finished(engine, run.id) == {"sum": {"int": 111}}
    assert RAN == []


async def test_pins_that_are_none(engine: Engine) -> None:
    before = await engine.submit(SUM)
    await finished(engine, before.id)
    key = (await engine.plan(SUM))[0].steps[0].key
    for pins, code in (
        ({"nobody": key}, "unknown_node"),
        ({"nobody": before.id}, "pin_unknown"),
        ({"first": "0" * 32}, "pin_gone"),
    ):
        with pytest.raises((RequestError, NotFoundError)) as caught:
            await engine.submit(SUM, pins=pins)
        assert caught.value.problem.code == code
    engine._vault.memory.clear()
    with pytest.raises(NotFoundError, match="not kept any more"):
        await engine.submit(SUM, pins={"second": before.id})
    assert len(await engine.runs()) == 1, "what was refused is no run"


async def test_a_pin_survives_a_restart(tmp_path: Path) -> None:
    """The engine is closed before the run began; the pinned value came from a cache in memory, which is gone then."""
    engine = await opened(tmp_path, disk_cache_bytes=0)
    before = await engine.submit(SUM, targets=["second"])
    await finished(engine, before.id)
    engine.hold(True)
    run = await engine.submit(SUM, values={"first.value": 5}, pins={"second": before.id}, breakpoints=["sum"])
    await engine.close()
    engine = await opened(tmp_path, disk_cache_bytes=0)
    try:
        await until_paused(engine, run.id, ["sum"])
        assert RAN == []
        await engine.go_on(run.id, "sum")
        assert await finished(engine, run.id) == {"sum": {"int": 111}}
    finally:
        await engine.close()


# --- breakpoints ----------------------------------------------------------------------------------------------------------


async def test_a_paused_run_shows_what_is_on_the_wire(engine: Engine) -> None:
    drawn = document(["bright"], draw=("picture", {"side": 8}), bright=("brightness", {"image": "draw.image"}))
    run = await engine.submit(drawn, breakpoints=["bright"])
    await until_paused(engine, run.id, ["bright"])
    events = [event async for batch in _some(engine, run.id) for event in batch]
    [paused] = [event for event in events if event.type == "paused"]
    reference = paused.data["inputs"]["image"]
    assert (await engine.artifact(reference["artifact"], reference["port"])).shape == (1, 8, 8, 3)
    assert (await engine.run(run.id)).status == "running"
    assert RAN == ["picture"]
    assert await engine.go_on(run.id, "draw") == []
    assert await engine.go_on(run.id) == ["bright"]
    assert await finished(engine, run.id) == {"bright": {"float": 0.5}}
    assert await engine.go_on(run.id) == []


async def _some(engine: Engine, run: str) -> AsyncIterator[list[Any]]:
    """What was told so far."""
    async for batch in engine.watch(run):
        yield batch
        return


async def test_a_paused_run_can_be_cancelled_and_pauses_again_after_a_restart(tmp_path: Path) -> None:
    engine = await opened(tmp_path)
    run = await engine.submit(SUM, breakpoints=["second", "sum"])
    await until_paused(engine, run.id, ["second"])
    await engine.go_on(run.id)
    await until_paused(engine, run.id, ["sum"])
    await engine.close()
    engine = await opened(tmp_path, disk_cache_bytes=0)
    try:
        await until_paused(engine, run.id, ["second"])
        assert await engine.cancel(run.id)
        assert (await engine.wait(run.id, 5)).status == "cancelled"
        assert (await engine.run(run.id)).paused == []
        with pytest.raises(RequestError) as caught:
            await engine.submit(SUM, breakpoints=["nobody"])
        assert caught.value.problem.place == "/breakpoints/nobody"
    finally:
        await engine.close()


# --- the queue ------------------------------------------------------------------------------------------------------------


async def test_a_held_queue_and_priorities(engine: Engine) -> None:
    engine.hold(True)
    first = await engine.submit(SUM, name="first")
    second = await engine.submit(document(["n"], n=("number", {"value": 77})), name="second")
    assert [entry["name"] for entry in engine.queue()["runs"]] == ["first", "second"]
    assert await engine.prioritise(second.id, 5)
    queue = engine.queue()
    assert (queue["held"], [entry["name"] for entry in queue["runs"]]) == (True, ["second", "first"])
    await asyncio.sleep(0.05)
    assert RAN == []
    engine.hold(False)
    for run in (first, second):
        await finished(engine, run.id)
    assert engine.queue()["runs"] == []
    assert not await engine.prioritise(second.id, 6)
    assert (await engine.run(second.id)).priority == 5
    with pytest.raises(RequestError):
        await engine.prioritise(second.id, 10**7)
    with pytest.raises(NotFoundError):
        await engine.prioritise("nobody", 1)


async def test_a_changed_priority_survives_a_restart(tmp_path: Path) -> None:
    engine = await opened(tmp_path)
    run = await engine.submit(document(["s"], s=("slow", {})))
    await engine.prioritise(run.id, 42)
    await engine.close()
    engine = await opened(tmp_path)
    try:
        assert (await engine.run(run.id)).priority == 42
        assert await engine.cancel_all() == 1
        assert await engine.cancel_all() == 0
        assert (await engine.wait(run.id, 5)).status == "cancelled"
    finally:
        await engine.close()


async def test_what_is_deleted_is_gone_and_what_goes_on_is_not_deleted(engine: Engine) -> None:
    done = await engine.submit(SUM)
    await finished(engine, done.id)
    going = await engine.submit(document(["s"], s=("slow", {})))
    assert await engine.delete([done.id, going.id, "nobody"]) == 1
    with pytest.raises(NotFoundError):
        await engine.run(done.id)
    assert [run.id for run in await engine.runs()] == [going.id]
    for number in range(3):
        await finished(engine, (await engine.submit(SUM, name=str(number))).id)
    assert await engine.clear_history("failed") == 0
    assert await engine.clear_history() == 3
    assert [run.id for run in await engine.runs()] == [going.id]
    await engine.cancel(going.id)
