"""What holds for one run only although its key looks like any other: it rests on a file that a link names, or on a grown graph
with a file or a side effect in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import pytest_asyncio

from graph_engine import AnyValue, Effect, Grow, Image, Needs, NodeContext, Widget, node
from graph_engine.engine import Engine
from graph_engine.graph.registry import Registry
from graph_engine.models.catalog import Catalog
from graph_engine.settings import Settings
from nodes.control.loop import map_items, repeat

pytestmark = pytest.mark.asyncio
CALLS: list[str] = []


@node(id="f.name", needs=Needs(inline=True))
def name(value: str) -> str:
    return value


@node(id="f.names")
def names(value: str, times: int = 1) -> list[str]:
    return [value] * times


@node(id="f.read")
def read(file: Annotated[str, Widget(upload="text")], context: NodeContext) -> str:
    return context.input_path(file).read_text()


@node(id="f.picture")
def picture(text: str) -> Image:
    """As bright as the text is long."""
    import torch

    return torch.full((1, 1, 1, 3), len(text) / 10)


@node(id="f.brightness")
def brightness(image: Image) -> float:
    CALLS.append("brightness")
    return round(float(image.mean()), 3)


@node(id="f.measured")
def measured(image: Image) -> float:
    grow = Grow()
    return grow.returning(float=grow.add("f.brightness", image=image * 1.0)["float"])  # type: ignore[return-value]


@node(id="f.joined")
def joined(values: list[AnyValue]) -> str:
    CALLS.append("joined")
    return ",".join(map(str, values))


@node(id="f.write", effect=Effect.EXTERNAL)
def write(text: str, context: NodeContext) -> str:
    CALLS.append(f"write {text}")
    return text


@node(id="f.large")
def large(values: list[AnyValue]) -> list[AnyValue]:
    """Too much for a record: the run's result refers to it."""
    return [value * 50_000 for value in values]


REGISTRY = Registry(
    f.node_type  # type: ignore[attr-defined]
    for f in (name, names, read, picture, brightness, measured, joined, write, large, map_items, repeat)
)


@pytest_asyncio.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    CALLS.clear()
    settings = Settings(data_dir=tmp_path, disk_cache_min_s=0.0)
    engine = await Engine.open(settings, registry=REGISTRY, catalog=Catalog())
    yield engine
    await engine.close()


def step(type: str, links: dict[str, str] | None = None, **values: Any) -> dict[str, Any]:
    return {"type": type, "values": values, "links": links or {}}


def each(type: str, port: str, output: str) -> dict[str, Any]:
    return step("control.map", {"items": "n.text"}, node=type, port=port, output=output)


async def result(engine: Engine, **nodes: Any) -> dict[str, Any]:
    record = await engine.submit({"format": "anyloom", "version": 1, "nodes": nodes})
    record = await engine.wait(record.id, 20)
    assert record.status == "succeeded", record.errors
    return record.result


async def twice(engine: Engine, **nodes: Any) -> list[dict[str, Any]]:
    """The results with one content of a.txt, and with another."""
    found = []
    for text in ("old", "newer"):
        (engine.settings.input_dir / "a.txt").write_text(text)
        found.append(await result(engine, **nodes))
    return found


async def test_a_file_whose_name_comes_by_a_link_is_read_in_every_run(engine: Engine) -> None:
    nodes = {"n": step("f.name", value="a.txt"), "r": step("f.read", {"file": "n.text"})}
    nodes["j"] = step("f.joined", {"values": "r.text"})
    assert await twice(engine, **nodes) == [{"j": {"text": "old"}}, {"j": {"text": "newer"}}]


async def test_so_is_one_that_a_grown_graph_reads(engine: Engine) -> None:
    nodes = {"n": step("f.names", value="a.txt", times=2), "m": each("f.read", "file", "text")}
    nodes["j"] = step("f.joined", {"values": "m.value"})
    assert await twice(engine, **nodes) == [{"j": {"text": "old,old"}}, {"j": {"text": "newer,newer"}}]
    found = await twice(engine, n=nodes["n"], m=nodes["m"])
    assert [one["m"] for one in found] == [{"value": ["old"] * 2}, {"value": ["newer"] * 2}]


async def test_and_what_grows_in_a_grown_graph(engine: Engine) -> None:
    nodes = {"n": step("f.names", value="a.txt")}
    constants = {"node": "f.read", "port": "file", "output": "text", "count": 1}
    nodes["m"] = step("control.map", {"items": "n.text"}, node="control.repeat", port="value", output="value")
    nodes["m"]["values"]["constants"] = constants
    nodes["j"] = step("f.joined", {"values": "m.value"})
    assert await twice(engine, **nodes) == [{"j": {"text": "old"}}, {"j": {"text": "newer"}}]


async def test_a_value_that_a_fleeting_step_grows_on_is_not_taken_for_another(engine: Engine) -> None:
    """A picture is no literal: in the graph it has a name, made of the key of the step that put it there."""
    nodes = {"n": step("f.names", value="a.txt"), "m": each("f.read", "file", "text")}
    nodes["s"] = step("f.picture", {"text": "m.value"})
    nodes["g"] = step("f.measured", {"image": "s.image"})
    assert [one["g"] for one in await twice(engine, **nodes)] == [{"float": [0.3]}, {"float": [0.5]}]


async def test_side_effects_in_a_grown_graph_are_done_in_every_run(engine: Engine) -> None:
    nodes = {"n": step("f.names", value="x", times=2), "m": each("f.write", "text", "text")}
    for _ in range(2):
        assert await result(engine, **nodes) == {"m": {"value": ["x", "x"]}}
    nodes["j"] = step("f.joined", {"values": "m.value"})  # which has all it takes in the cache the second time
    for _ in range(2):
        assert await result(engine, **nodes) == {"j": {"text": "x,x"}}
    assert CALLS.count("write x") == 8


async def test_what_a_record_refers_to_is_kept_for_it_and_for_nobody_else(engine: Engine) -> None:
    nodes = {"n": step("f.names", value="a.txt"), "m": each("f.read", "file", "text")}
    nodes["l"] = step("f.large", {"values": "m.value"})
    first, second = await twice(engine, **nodes)
    for found, text in ((first, "old"), (second, "newer")):
        entry = found["l"]["value"]
        assert await engine.artifact(entry["artifact"], entry["port"]) == [text * 50_000]


async def test_grown_graphs_without_either_are_still_done_once(engine: Engine) -> None:
    nodes = {"n": step("f.names", value="x", times=3), "m": each("f.name", "value", "text")}
    nodes["j"] = step("f.joined", {"values": "m.value"})
    for _ in range(2):
        assert await result(engine, **nodes) == {"j": {"text": "x,x,x"}}
    assert CALLS == ["joined"]
    scheduler = engine._runner.scheduler
    await asyncio.sleep(0)
    assert (scheduler.fleeting, scheduler.known, scheduler.holds) == (set(), {}, {})


async def test_nothing_of_it_stays_behind(engine: Engine) -> None:
    nodes = {"n": step("f.names", value="x", times=3), "m": each("f.write", "text", "text")}
    await result(engine, **nodes, j=step("f.joined", {"values": "m.value"}))
    scheduler = engine._runner.scheduler
    assert (scheduler.fleeting, scheduler.known, scheduler.holds) == (set(), {}, {})
