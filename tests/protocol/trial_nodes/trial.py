"""Nodes for trying the doors: small, quick, and with every habit that a door must be able to show."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import numpy

from graph_engine import AnyValue, Effect, Image, Json, ModelSpec, Needs, NodeContext, NodeError, Widget, node

INLINE = Needs(inline=True)


@node(id="trial.echo", needs=INLINE)
def echo(value: AnyValue = "") -> AnyValue:
    """What it is given."""
    return value


@node(id="trial.add", needs=INLINE)
def add(a: Annotated[int, Widget(min=0, max=100_000)] = 0, b: Annotated[int, Widget(min=0, max=100_000)] = 1) -> int:
    """a + b."""
    return a + b


@node(id="trial.show", needs=INLINE, effect=Effect.EXTERNAL, output=True)
def show(value: AnyValue) -> AnyValue:
    """An output."""
    return value


@node(id="trial.fail", effect=Effect.EXTERNAL)
def fail(message: str = "no") -> str:
    """A node that says what is wrong."""
    raise NodeError(message, remedy="Say yes.", port="message")


@node(id="trial.crash", effect=Effect.EXTERNAL)
def crash() -> str:
    """A node with a bug."""
    raise ZeroDivisionError("a bug")


@node(id="trial.wait", effect=Effect.EXTERNAL)
async def wait(seconds: float = 1.0, value: AnyValue = "") -> str:
    """Take a while."""
    await asyncio.sleep(seconds)
    return "waited"


@node(id="trial.previews", effect=Effect.EXTERNAL)
async def previews(context: NodeContext, count: int = 10, size_bytes: int = 1000, pause_s: float = 0.0) -> str:
    """Progress and previews, each with its number in the first bytes."""
    for number in range(count):
        context.progress(number + 1, count, "drawing")
        context.preview(number.to_bytes(4, "big") + bytes(size_bytes - 4), "image/png")
        await asyncio.sleep(pause_s)
    return "drawn"


@node(id="trial.chunks", effect=Effect.EXTERNAL)
async def chunks(context: NodeContext, count: int = 10, pause_s: float = 0.0) -> str:
    """Text that comes word by word."""
    words = [f"word{number} " for number in range(count)]
    for word in words:
        context.chunk(word)
        await asyncio.sleep(pause_s)
    return "".join(words)


@node(id="trial.picture")
def picture(side: int = 16) -> Image:
    """A grey picture, as an array."""
    return numpy.full((1, side, side, 3), 0.5, dtype=numpy.float32)


@node(id="trial.model")
def model(context: NodeContext, family: str = "nobody") -> str:
    """Ask for a model of some family."""
    context.model(ModelSpec(family, {}))
    return family


@node(id="trial.nan", needs=INLINE)
def nan() -> float:
    """A number that is none."""
    return float("nan")


@node(id="trial.large", needs=INLINE)
def large(length: int = 200_000) -> str:
    """A long text."""
    return "x" * length


@node(id="trial.touch", effect=Effect.EXTERNAL)
def touch(path: str, extra: Json = None) -> str:
    """Leave a mark in the file system: proof that node code ran."""
    Path(path).write_text("ran")
    return path
