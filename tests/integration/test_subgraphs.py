"""Subgraphs in a real engine, over a real server and on the command line: a run of one is a run of what is in it."""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from graph_engine.engine import Engine
from graph_engine.errors import GraphError, RequestError
from graph_engine.execute.events import is_part
from graph_engine.models.catalog import Catalog
from graph_engine.record import RunRecord
from graph_engine.settings import Settings
from tests.protocol.live import TRIAL_NODES, LiveServer
from tests.protocol.wire import wire
from web.cli import main

from .nodes_for_engine import CALLS, REGISTRY


def step(type: str, links: dict[str, str] | None = None, **values: Any) -> dict[str, Any]:
    return {"type": type, "values": values, "links": links or {}}


def pair(add: str) -> dict[str, Any]:
    """Two sums in a row: value + by, + 10."""
    return {
        "title": "Pair",
        "inputs": [{"name": "value", "kind": "INT"}, {"name": "by", "kind": "INT", "default": 2}],
        "outputs": [{"name": "sum", "kind": "INT", "link": "second.int"}],
        "nodes": {"first": step(add, {"a": "@.value", "b": "@.by"}), "second": step(add, {"a": "first.int"}, b=10)},
    }


def nested(add: str = "e.add") -> dict[str, Any]:
    """start + 1, + 10, + 2, + 10, + 100: once in `o/one`, once in `o/two`."""
    outer = {
        "inputs": [{"name": "value", "kind": "INT"}],
        "outputs": [{"name": "sum", "kind": "INT", "link": "two.sum"}],
        "nodes": {
            "one": step("subgraph:pair", {"value": "@.value"}, by=1),
            "two": step("subgraph:pair", {"value": "one.sum"}),
        },
    }
    nodes = {
        "start": step(add, a=5, b=0),
        "o": step("subgraph:outer", {"value": "start.int"}),
        "end": step(add, {"a": "o.sum"}, b=100),
    }
    return {
        "format": "anyloom",
        "version": 2,
        "title": "Sums",
        "subgraphs": {"pair": pair(add), "outer": outer},
        "nodes": nodes,
        "targets": ["end"],
    }


def flat(add: str = "e.add") -> dict[str, Any]:
    chain = {"start": step(add, a=5, b=0)}
    for name, before, by in [("a", "start", 1), ("b", "a", 10), ("c", "b", 2), ("d", "c", 10), ("end", "d", 100)]:
        chain[name] = step(add, {"a": f"{before}.int"}, b=by)
    return {"format": "anyloom", "version": 1, "nodes": chain, "targets": ["end"]}


@pytest_asyncio.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    CALLS.clear()
    async with await Engine.open(Settings(data_dir=tmp_path), registry=REGISTRY, catalog=Catalog()) as engine:
        yield engine


async def finish(engine: Engine, document: dict[str, Any], **options: Any) -> RunRecord:
    record = await engine.submit(document, **options)
    return await engine.wait(record.id, 20)


async def events_of(engine: Engine, run: str) -> list[tuple[str, str, dict[str, Any]]]:
    return [(event.type, event.node, event.data) async for batch in engine.watch(run) for event in batch]


@pytest.mark.asyncio
@pytest.mark.parametrize("first", ["flat", "nested"])
async def test_what_one_computed_the_other_takes_from_the_cache(engine: Engine, first: str) -> None:
    documents = {"flat": flat(), "nested": nested()}
    record = await finish(engine, documents.pop(first))
    assert (record.status, record.result["end"], record.nodes) == ("succeeded", {"int": 128}, 6)
    calls = dict(CALLS)
    assert sum(calls.values()) == 6
    again = await finish(engine, next(iter(documents.values())))
    assert again.result["end"] == {"int": 128} and calls == CALLS  # nothing was computed again
    assert [data["nodes"] for type, _, data in await events_of(engine, again.id) if type == "cached"] == [["end"]]
    plan, wanted = await engine.plan(nested(), values={"o/two.by": 3})
    assert [plan.steps[index].node for index in sorted(wanted)] == ["o/two/first", "o/two/second", "end"]


@pytest.mark.asyncio
async def test_events_and_errors_name_the_node_within(engine: Engine) -> None:
    record = await finish(engine, nested())
    done = [node for type, node, _ in await events_of(engine, record.id) if type == "done"]
    assert done == ["start", "o/one/first", "o/one/second", "o/two/first", "o/two/second", "end"]
    broken = nested()
    broken["subgraphs"]["pair"]["nodes"]["second"] = step("e.fail", {"a": "first.int"})
    record = await finish(engine, broken)
    assert record.status == "failed"
    [error] = record.errors
    assert (error["node"], error["code"], error["remedy"]) == ("o/one/second", "no_good", "Choose another number.")
    blocked = {node: data["by"] for type, node, data in await events_of(engine, record.id) if type == "blocked"}
    assert set(blocked) == {"o/two/first", "o/two/second", "end"}
    unlinked = nested()
    unlinked["subgraphs"]["outer"]["nodes"]["two"]["links"] = {}
    with pytest.raises(GraphError, match=r"^o/two\.value: the input 'a' of kind INT is not connected"):
        await engine.submit(unlinked)


@pytest.mark.asyncio
async def test_pins_breakpoints_and_targets_of_an_instance(engine: Engine) -> None:
    first = await finish(engine, nested())
    pinned = await finish(engine, nested(), values={"start.a": 50}, pins={"o": first.id})
    assert pinned.result["end"] == {"int": 128}
    inner = await finish(engine, nested(), values={"start.a": 50}, pins={"o/one/second": first.id})
    assert inner.result["end"] == {"int": 128}
    with pytest.raises(RequestError, match="no node of this run"):
        await engine.submit(nested(), breakpoints=["gone"])
    with pytest.raises(RequestError, match="has no node"):
        await engine.submit(nested(), pins={"o/one/gone": first.id})
    record = await engine.submit(nested(), values={"start.a": 60}, breakpoints=["o"])
    async for batch in engine.watch(record.id):
        if any(event.type == "paused" for event in batch):
            break
    assert list((await engine.run(record.id)).paused) == ["o/one/first"]
    await engine.go_on(record.id)
    assert (await engine.wait(record.id, 20)).result["end"] == {"int": 183}
    here = await finish(engine, nested(), targets=["o"], values={"start.a": 61})
    assert here.result == {"o/two/second": {"int": 84}}
    deep = await finish(engine, nested(), targets=["o/one"], values={"start.a": 61})
    assert deep.result == {"o/one/second": {"int": 72}}


@pytest.mark.asyncio
async def test_a_sweep_over_a_widget_within_and_why_it_was_computed(engine: Engine) -> None:
    await finish(engine, nested())
    CALLS.clear()
    results = [(await finish(engine, nested(), values={"o/two.by": by})) for by in (20, 30)]
    assert [record.result["end"]["int"] for record in results] == [146, 156]
    assert sum(CALLS.values()) == 6  # what comes before it was computed once
    found = {entry["node"]: entry for entry in (await engine.explain(results[1].id))["nodes"]}
    assert found["o/two/first"]["why"] == [{"what": "literal", "input": "b", "old": 20, "new": 30}]
    assert found["o/one/first"]["outcome"] == "not_needed"
    kept = await engine.document(results[1].id)
    assert kept["nodes"]["o"]["values"] == {"two.by": 30} and kept["subgraphs"] == nested()["subgraphs"]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with LiveServer(tmp_path_factory.mktemp("subgraphs")) as server:
        yield server


@pytest.mark.asyncio
async def test_over_rest_and_the_websocket(live: LiveServer) -> None:
    document = nested("trial.add")
    async with aiohttp.ClientSession(f"{live.url}/api/v1/") as http, wire(live.url) as socket:
        async with http.post("documents/validate", json={"document": document}) as response:
            assert (await response.json()) == {"nodes": 6, "targets": ["end"]}
        async with http.post("plan", json={"document": document}) as response:
            assert (await response.json())["steps"] == 6
        async with http.post("runs?wait_s=10", json={"document": document}) as response:
            assert (await response.json())["result"]["end"] == {"int": 128}
        assert (await socket.ask("plan", document=flat("trial.add")))["steps"] == 0
        wrong = copy.deepcopy(document)
        wrong["nodes"]["o"]["values"] = {"odd": 1}
        async with http.post("runs", json={"document": wrong}) as response:
            error = (await response.json())["error"]
            assert (response.status, error["code"], error["node"], error["port"]) == (422, "unknown_port", "o", "odd")
            assert error["message"] and error["remedy"] == "Its inputs: value."


@pytest.mark.asyncio
async def test_what_grows_within_is_part_of_its_node(live: LiveServer) -> None:
    loop = step("control.repeat", {"value": "@.value"}, node="trial.add", port="a", output="int", count=2_000)
    count = {
        "inputs": [{"name": "value", "kind": "INT"}],
        "outputs": [{"name": "value", "kind": "*", "link": "loop.value"}],
        "nodes": {"loop": loop},
    }
    nodes = {
        "start": step("trial.add", a=7),
        "box": step("subgraph:count", {"value": "start.int"}),
        "out": step("trial.show", {"value": "box.value"}),
    }
    document = {"format": "anyloom", "version": 2, "subgraphs": {"count": count}, "nodes": nodes}
    async with wire(live.url) as socket:
        run = (await socket.ask("submit", document=document, watch=True))["id"]
        events = await socket.events(run)
    names = {event["node"] for event in events if event["type"] in ("running", "done")}
    assert {"start", "box/loop", "out"} < names
    assert all(name.startswith("box/loop/") for name in names - {"start", "box/loop", "out"})
    assert any(name.startswith("box/loop/~") for name in names)  # a long path was cut short, at the node that grew
    grown = {event["node"] for event in events if event["type"] == "grown"}
    assert {name for name in names if not is_part(name, grown)} == {"start", "box/loop", "out"}
    assert live.do(live.engine.run(run)).result == {"out": {"value": 2_008}}


@pytest.mark.asyncio
async def test_a_published_subgraph_is_listed_with_its_border(live: LiveServer) -> None:
    document = {
        "format": "anyloom",
        "version": 2,
        "title": "Pair",
        "publishes": "pair",
        "subgraphs": {"pair": {**pair("trial.add"), "category": "mine", "description": "Adds twice."}},
        "nodes": {"pair": step("subgraph:pair")},
        "asks": [{"node": "pair", "input": "by"}],
    }
    async with aiohttp.ClientSession(f"{live.url}/api/v1/") as http:
        async with http.put("documents/subgraphs/Pair", json=document) as response:
            assert response.status == 201
        async with http.get("documents/subgraphs/Pair") as response:
            assert await response.json() == document
        async with http.get("documents") as response:
            [entry] = [one for one in (await response.json())["documents"] if one["name"] == "subgraphs/Pair"]
        assert entry["publishes"] == {
            "name": "pair",
            "title": "Pair",
            "description": "Adds twice.",
            "category": "mine",
            "inputs": [{"name": "value", "kind": "INT"}, {"name": "by", "kind": "INT", "default": 2}],
            "outputs": [{"name": "sum", "kind": "INT"}],
        }
        assert entry["asks"][0]["value"] == 2  # the default of the widget
        document["subgraphs"]["pair"]["nodes"]["me"] = step("subgraph:pair")
        async with http.put("documents/subgraphs/Pair", json=document) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (422, "recursion")


def test_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = {
        "inputs": [{"name": "text", "kind": "STRING", "default": "one"}],
        "outputs": [{"name": "text", "kind": "STRING", "link": "echo.text"}],
        "nodes": {"echo": step("control.text", {"value": "@.text"}), "out": step("trial.show", {"value": "echo.text"})},
    }
    document = {
        "format": "anyloom",
        "version": 2,
        "subgraphs": {"words": words},
        "nodes": {"i": step("subgraph:words")},
    }
    path = tmp_path / "words.json"
    path.write_text(json.dumps(document))
    flags = ["run", str(path), "--custom-nodes", str(TRIAL_NODES)]
    assert main(flags) == 0
    out, err = capsys.readouterr()
    assert out == "one\n" and "done      i/out" in err
    assert main([*flags, "--set", "i.text=2"]) == 0  # text, because that is what the widget takes
    assert capsys.readouterr().out == "2\n"
    assert main([*flags, "--set", "i/echo.value=three"]) == 0
    assert capsys.readouterr().out == "three\n"
