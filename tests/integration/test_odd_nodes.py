"""Nodes of other people: what they raise, skip, ask for and tell need not be what the annotations say. Their run ends with a
reason that can be read, and no other run notices."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy
import pytest

from graph_engine import Effect, Grow, Need, Needs, NodeContext, NodeError, Skip, node
from graph_engine.engine import Engine
from graph_engine.graph.registry import Registry
from graph_engine.models.catalog import Catalog
from graph_engine.settings import Settings

pytestmark = pytest.mark.asyncio


class Mute(Exception):
    def __str__(self) -> str:
        return self.message  # type: ignore[attr-defined,no-any-return]  # which nobody has set


@node(id="o.mute")
def mute() -> int:
    raise Mute


@node(id="o.mute_device", needs=Needs(device=True))
def mute_device() -> int:
    raise Mute


@node(id="o.mute_async")
async def mute_async() -> int:
    raise Mute


@node(id="o.mute_inline", needs=Needs(inline=True))
def mute_inline() -> int:
    raise Mute


@node(id="o.raises")
def raises() -> int:
    raise NodeError(ValueError("inner"), remedy=OSError("outer"), code=7)  # type: ignore[arg-type]


@node(id="o.skips")
def skips() -> int:
    return Skip(ValueError("inner"))  # type: ignore[arg-type,return-value]


@node(id="o.skips_some")
def skips_some() -> list[int]:
    return [1, Skip(ValueError("inner"))]  # type: ignore[arg-type,list-item]


@node(id="o.grows")
def grows() -> int:
    return Grow().returning(int=Skip(ValueError("inner")))  # type: ignore[arg-type,return-value]


@node(id="o.needs")
def needs(given: int = 0) -> int:
    return Need.of(3)  # type: ignore[arg-type,return-value]


@node(id="o.tells")
def tells(context: NodeContext) -> int:
    context.progress(numpy.int64(1), numpy.float32(3), ValueError("inner"))  # type: ignore[arg-type]
    context.progress(float("nan"), 3)
    context.log(ValueError("inner"))  # type: ignore[arg-type]
    context.chunk(numpy.int64(4))  # type: ignore[arg-type]
    context.preview(bytearray(b"x"), "image/png")
    return 1


@node(id="o.fine", effect=Effect.EXTERNAL)
def fine() -> int:
    return 5


TYPES = (mute, mute_device, mute_async, mute_inline, raises, skips, skips_some, grows, needs, tells, fine)
REGISTRY = Registry(f.node_type for f in TYPES)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("type", "status", "words"),
    [
        ("o.mute", "failed", "o.mute raised Mute: (what, it cannot say: its __str__ raised AttributeError)"),
        ("o.mute_device", "failed", "it cannot say"),
        ("o.mute_async", "failed", "it cannot say"),
        ("o.mute_inline", "failed", "it cannot say"),
        ("o.raises", "failed", "inner"),
        ("o.skips", "succeeded", "inner"),
        ("o.skips_some", "succeeded", ""),
        ("o.grows", "succeeded", "inner"),
        ("o.needs", "failed", "the node asked for 3, but"),
        ("o.tells", "succeeded", ""),
    ],
)
async def test_an_odd_node_ends_its_run_and_no_other(tmp_path: Path, type: str, status: str, words: str) -> None:
    engine = await Engine.open(Settings(data_dir=tmp_path, pool_threads=1), registry=REGISTRY, catalog=Catalog())
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    record = await engine.submit({"format": "anyloom", "version": 1, "nodes": {"n": {"type": type}}})
    seen: list[dict[str, Any]] = []

    async def watch() -> None:
        async for batch in engine.watch(record.id):
            seen.extend(event.to_dict() for event in batch)

    await asyncio.wait_for(watch(), 10)
    ended = await engine.wait(record.id, 1)
    assert ended.status == status
    assert words in json.dumps([ended.errors, ended.result])
    assert seen[-1]["type"] == "finished"
    json.dumps([{**event, "image": ""} for event in seen], allow_nan=False)
    other = await engine.submit({"format": "anyloom", "version": 1, "nodes": {"n": {"type": "o.fine"}}})
    assert (await engine.wait(other.id, 10)).result == {"n": {"int": 5}}
    await asyncio.sleep(0.05)
    row = await engine._queue.get(record.id)
    assert row is not None
    assert row.status == status
    assert told == []
    await engine.close()
