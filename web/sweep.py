"""Sweep: one workflow with several values for some of its inputs, every combination a run of its own.

Steps that do not depend on any axis have equal keys in all runs, so the engine computes them once; `tally` counts them.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from graph_engine.errors import AnyloomError, InvalidError, NotFoundError, RequestError
from graph_engine.graph.plan import Plan
from graph_engine.record import RunRecord
from web import fields
from web.frames import JSON
from web.state import House
from web.submission import Submission

MAX_AXES = 4
MAX_RUNS = 256
NAME_LIMIT = 200
SHOWN = 24
"""Letters of a value in the name of a run."""


class Axis(NamedTuple):
    """input: "node.input", as in the `values` of a submission."""

    input: str
    values: tuple[Any, ...]

    @classmethod
    def of(cls, entry: Any, place: str) -> Axis:
        """Raises RequestError that names the field."""
        if not isinstance(entry, Mapping) or not isinstance(entry.get("input"), str):
            raise _refused(place, 'is {"input": "node.input", "values": [...]}')
        fields.only(entry, cls._fields, place)
        name, values = entry["input"], entry.get("values")
        node, dot, port = name.partition(".")
        if not (node and dot and port):
            raise _refused(f"{place}/input", 'is "node.input"')
        if not isinstance(values, list) or not values:
            raise _refused(f"{place}/values", "is a list of at least one value")
        if len({JSON.encode(value) for value in values}) < len(values):
            raise _refused(f"{place}/values", "has every value once")
        return cls(name, tuple(values))


class Tally(NamedTuple):
    """steps: of all runs together; shared: of these, what another run of the sweep computes; cached: results that are there.

    What is computed is steps - shared - cached.
    """

    steps: int
    shared: int
    cached: int


class Sweep(NamedTuple):
    """axes: the first is the outermost; the last changes from each run to the next."""

    axes: tuple[Axis, ...]
    submission: Submission

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> Sweep:
        """A submission with `axes`. Raises RequestError that names the field."""
        submission = Submission.of(message, "axes")
        given = message.get("axes")
        if not isinstance(given, list) or not 1 <= len(given) <= MAX_AXES:
            raise _refused("/axes", f"is a list of 1 to {MAX_AXES} axes")
        axes = tuple(Axis.of(entry, f"/axes/{index}") for index, entry in enumerate(given))
        if len({axis.input for axis in axes}) < len(axes):
            raise _refused("/axes", "names every input once")
        runs = math.prod(len(axis.values) for axis in axes)
        if runs > MAX_RUNS:
            raise RequestError(
                f"this sweep has {runs:,} runs; at most {MAX_RUNS} are made at a time.",
                remedy="Take fewer values, or an axis away.",
                code="too_many",
                place="/axes",
            )
        return cls(axes, submission)

    def cells(self) -> list[dict[str, Any]]:
        """The values of each run, in order."""
        names = [axis.input for axis in self.axes]
        return [dict(zip(names, values, strict=True)) for values in itertools.product(*(a.values for a in self.axes))]

    def runs(self, title: str) -> list[Submission]:
        base, own = self.submission.name or title, self.submission.values
        return [self.submission._replace(values=own | cell, name=_name(base, cell)) for cell in self.cells()]


async def plan(house: House, sweep: Sweep) -> Tally:
    """What the runs would compute. Raises as a submission does, with the values of the run at fault in front."""
    document = await sweep.submission.resolve(house)
    plans: list[tuple[Plan, frozenset[int]]] = []
    for run, cell in zip(sweep.runs(""), sweep.cells(), strict=True):
        try:
            plans.append(await house.engine.plan(document, values=run.values, targets=run.targets, pins=run.pins))
        except InvalidError as error:
            with_ = f"with {_told(cell)}: "
            raise type(error)([found._replace(message=with_ + found.message) for found in error.problems]) from None
        await asyncio.sleep(0)  # a sweep of large workflows does not keep others from their turn
    return tally(plans)


def tally(plans: Iterable[tuple[Plan, frozenset[int]]]) -> Tally:
    """plans: of each run the plan, and the steps that it would compute by itself."""
    steps = shared = cached = 0
    seen: set[str] = set()
    for plan, wanted in plans:
        for step in plan.steps:
            steps += 1
            if not step.local and step.key in seen:
                shared += 1
            elif step.position not in wanted:
                cached += 1
            if not step.local:
                seen.add(step.key)
    return Tally(steps, shared, cached)


async def submit(house: House, sweep: Sweep, client: str = "") -> tuple[Tally, list[RunRecord]]:
    """All runs, or none: what the last of them is refused for is found before the first is made."""
    found = await plan(house, sweep)
    document = await sweep.submission.resolve(house)
    runs: list[RunRecord] = []
    try:
        for run in sweep.runs(str(document.get("title") or "")):
            runs.append(await run._replace(document=document, workflow="").submit(house, client))
    except AnyloomError:
        for record in runs:
            with contextlib.suppress(NotFoundError):
                await house.engine.cancel(record.id)
        raise
    return found, runs


def _name(base: str, cell: Mapping[str, Any]) -> str:
    return f"{base[:80]} · {_told(cell)}"[:NAME_LIMIT] if base else _told(cell)[:NAME_LIMIT]


def _told(cell: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.partition('.')[2]} {_short(value)}" for name, value in cell.items())


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else JSON.encode(value).decode()
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _refused(place: str, wanted: str) -> RequestError:
    return RequestError(f"{place.rpartition('/')[2]} {wanted}.", remedy="Correct it.", code="bad_field", place=place)
