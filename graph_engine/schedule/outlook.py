"""Outlook: which uses of models a run is about to make, as far as that is certain. Pure; memory is prepared by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from graph_engine.graph.kinds import ModelKind
from graph_engine.graph.node import NodeType
from graph_engine.graph.outcome import Skip
from graph_engine.graph.plan import Step
from graph_engine.schedule.messages import Ref
from graph_engine.schedule.states import State, StepState
from graph_engine.schedule.wiring import port_shape, uses_until
from graph_engine.store.artifacts import ListShape

STEPS_AHEAD = 200
"""How far the plan is looked through from a step on; so many before it may wait for their turn still."""
USES_AHEAD = 8


class Upcoming(NamedTuple):
    """A step that will use models.

    models   port of a model kind -> where its spec lies
    ready    it waits for nothing but the present step
    after    how many uses of models are made until then; again: when these are used once more (see `Job.next_use`)
    """

    type: NodeType
    literals: Mapping[str, Any]
    models: Mapping[str, Ref]
    ready: bool
    after: int
    again: Mapping[str, int | None]


def outlook(state: StepState) -> list[Upcoming]:
    """The steps of a device that wait and will use models once `state`, which uses some itself, is over; in plan order.

    Only what is certain to run: a step that reads what a type may leave out (`skips`) is told of once that has run, so a
    decoder of something nobody asked for is not prepared. So are steps whose models no load step has named yet.
    """
    if state.step is None:
        return []
    group, here = state.group, state.step.position
    after = len(_model_ports(state.step))
    sure: set[int] = set()
    found: list[Upcoming] = []
    for step in group.plan.steps[max(0, here - STEPS_AHEAD) : here + STEPS_AHEAD]:
        other = group.states[step.position]
        if step.position == here:
            sure.add(here)
            continue
        if other is None or other.state is State.DONE or not _is_certain(other, sure):
            continue
        if not step.type.skips and other.parts is None:
            sure.add(step.position)
        if step.type.lane == "device" and (ports := _model_ports(step)) and not (other.task and other.task.job):
            models = named_models(other)
            if models is not None:
                again = {port: _again(other, port, after) for port in models}
                found.append(Upcoming(step.type, step.literals, models, _is_ready(other, here), after, again))
                if len(found) == USES_AHEAD:
                    break
            after += len(ports)
    return found


def _model_ports(step: Step) -> list[str]:
    return [link.input.name for link in step.links if isinstance(link.input.kind, ModelKind)]


def _is_certain(state: StepState, sure: set[int]) -> bool:
    """It was asked for, and everything that it cannot do without is there or certain to come."""
    if state.state is not State.WAITING or state.step is None:
        return False
    for link in state.step.links:
        if link.input.lazy or not link.input.required:
            continue
        source, output, item = state.source(link)
        if source.state is State.DONE:
            shape = port_shape(source.shape[output], item)
            if isinstance(shape, Skip) or (isinstance(shape, ListShape) and not shape.length):
                return False
        elif link.source < 0 or link.source not in sure:
            return False
    return True


def with_residents_first(upcoming: Sequence[Upcoming], is_here: Callable[[Upcoming], bool]) -> list[Upcoming]:
    """The order in which a lane with `affinity.py` will take them: of those that are ready, first those with models in memory.

    Uses are counted anew from the first one's place.
    """
    if not upcoming:
        return []
    first = [one for one in upcoming if one.ready and is_here(one)]
    after, found = upcoming[0].after, []
    for one in [*first, *(one for one in upcoming if one not in first)]:
        again = {port: None if use is None else max(use, after + 1) for port, use in one.again.items()}
        found.append(one._replace(after=after, again=again))
        after += max(1, len(one.models))
    return found


def _is_ready(state: StepState, here: int) -> bool:
    """Once the step at `here` is over."""
    assert state.step is not None
    return all(link.source == here or state.source(link)[0].state is State.DONE for link in state.step.links)


def named_models(state: StepState) -> dict[str, Ref] | None:
    """Where the specs of a step lie, by port; None when one is not known yet. An optional one that has nothing is left out."""
    models: dict[str, Ref] = {}
    for link in state.step.links if state.step is not None else ():
        if isinstance(link.input.kind, ModelKind):
            source, output, item = state.source(link)
            if source.state is not State.DONE:
                return None
            shape = port_shape(source.shape[output], item)
            if shape is None:
                models[link.input.name] = Ref(source.key, output, item)
    return models


def _again(state: StepState, port: str, after: int) -> int | None:
    """From where `after` is counted."""
    assert state.step is not None
    for link in state.step.links:
        if link.input.name == port and link.source >= 0:
            use = uses_until(state, link)
            return None if use is None else after + use
    return None
