"""Hooks: what the runner asks its engine for, and tells it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from graph_engine.errors import AnyloomError
from graph_engine.graph.context import NodeContext
from graph_engine.schedule.messages import Job
from graph_engine.store.artifacts import Artifact, Shape


class Hooks(NamedTuple):
    """What the engine wants to know or has to give.

    context   makes the NodeContext of a job, given its inputs
    journal   (run, artifact): a side effect was done and must not be done again after a crash
    output    (run, node, artifact or None for a skipped target, shape)
    ended     (run, status, errors)
    admit     may the job begin, given its inputs? If not, `left` names it later
    left      a job is over or will not begin; which ones may begin now
    too_large a job ran out of memory: whether to try again, and the numbers for people
    lasted    (job, seconds): it gave its values after so long; told of those that took SLOW_S, and of the first of each type
    begun     a run begins its first job; what that has to wait for, until the disk has counted it (law P14)
    """

    context: Callable[[Job, Mapping[str, Any]], NodeContext]
    journal: Callable[[str, Artifact], None]
    output: Callable[[str, str, Artifact | None, Shape], None]
    ended: Callable[[str, str, list[dict[str, Any]]], None]
    admit: Callable[[Job, Mapping[str, Any]], bool] = lambda job, inputs: True
    left: Callable[[int], Iterable[int]] = lambda job: ()
    too_large: Callable[[Job, AnyloomError], tuple[bool, str]] = lambda job, error: (False, "")
    lasted: Callable[[Job, float], None] = lambda job, seconds: None
    begun: Callable[[str], asyncio.Future[bool] | None] = lambda run: None


def internal_error(error: Exception) -> dict[str, Any]:
    """What a run's record says when it was not the workflow's fault."""
    return AnyloomError(
        f"the engine itself failed: {error.__class__.__name__}: {error}.",
        remedy="Please report this with the server's log; other runs are not affected.",
        code="internal",
    ).to_dict()
