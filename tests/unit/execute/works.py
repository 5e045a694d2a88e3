"""Jobs by hand, for whoever starts them without a scheduler."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from graph_engine import node
from graph_engine.execute.context import JobContext, Post
from graph_engine.execute.executor import Work
from graph_engine.graph.node import NodeType
from graph_engine.memory.pool import ModelPool
from graph_engine.models.catalog import Catalog
from graph_engine.schedule.messages import Job
from graph_engine.store.folders import Folders

NUMBERS = itertools.count(1)


def typed(function: Callable[..., Any], **options: Any) -> NodeType:
    found: NodeType = node(id=f"w.{function.__name__.strip('_')}", **options)(function).node_type
    return found


def job(type: NodeType, *, linked: tuple[str, ...] = (), checks: tuple[str, ...] = (), asked: tuple[str, ...] = (),
        device: str = "", next_use: dict[str, int | None] | None = None, **literals: Any) -> Job:  # fmt: skip
    """linked: ports with a link, of whatever source."""
    number = next(NUMBERS)
    if type.lane == "device" and not device:
        device = "cpu"
    lazy = tuple(port for port in linked if (found := type.input(port)) is not None and found.lazy)
    return Job(
        id=number, key=f"k{number}", run="r", node=f"n{number}", type=type, literals=literals, inputs={}, device=device,
        attempt=1, next_use=next_use or {}, lazy=lazy, checks=checks, asked=frozenset(asked), local=False,
    )  # fmt: skip


def work(
    type: NodeType, context: JobContext | None = None, inputs: dict[str, Any] | None = None, **options: Any
) -> Work:
    return Work(job(type, linked=tuple(inputs or ()), **options), inputs or {}, context)


def context_of(job: Job, folder: Path, post: Post, pool: ModelPool | None = None) -> JobContext:
    folders = Folders(folder / "input", folder / "output", folder / "temp")
    return JobContext(job, {"title": "t"}, folders, folder / "models", pool or ModelPool(Catalog(), {}), post)
