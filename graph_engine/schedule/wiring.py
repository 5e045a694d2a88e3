"""How steps are wired: where a step's inputs come from, what shape they have, and the job that follows from them."""

from __future__ import annotations

from typing import Any

from graph_engine.graph.kinds import ModelKind
from graph_engine.graph.node import Effect
from graph_engine.graph.outcome import Skip
from graph_engine.graph.plan import Step, StepLink
from graph_engine.schedule.messages import NOTHING, Job, Ref
from graph_engine.schedule.states import WAITING, StepState, Task
from graph_engine.store.artifacts import ListShape, PortShape
from graph_engine.tuples import made


def port_shape(shape: PortShape, item: int | None) -> PortShape:
    """The shape of a port, or of one item of its list; -1 is the last item of an empty one."""
    if item is None or not isinstance(shape, ListShape):
        return shape
    if item < 0:
        return Skip("the list is empty")
    return Skip() if item in shape.skipped else None


def sources_of(state: StepState) -> list[StepState]:
    """What a step reads, each once, as far as anybody asked for it."""
    if state.step is None:
        return []
    states, outer = state.group.states, state.group.outer
    found = [states[at] if at >= 0 else outer[-1 - at][0] for _, at, _, _ in state.step.links]
    return [source for source in (found if len(found) < 2 else dict.fromkeys(found)) if source is not None]


def flat(entry: Any) -> list[Any]:
    entries = entry if isinstance(entry, list) else [entry]
    return [part for part in entries if not isinstance(part, Skip)]


def part_refs(part: Any, as_list: bool) -> list[Ref | Skip]:
    """One part of a list output; a part that is a list itself is spread out where the port gives lists."""
    if isinstance(part, Skip):
        return [part]
    source, output, item = part
    shape = port_shape(source.shape[output], item)
    if isinstance(shape, Skip):
        return [shape]
    if isinstance(shape, ListShape) and as_list:
        return [Skip() if n in shape.skipped else Ref(source.key, output, n) for n in range(shape.length)]
    return [Ref(source.key, output, item)]


def order_of(state: StepState) -> int:
    """A step's place in its run; what a step grew keeps the place of that step."""
    assert state.step is not None
    return state.step.position if state.group.order is None else state.group.order


def uses_until(state: StepState, link: StepLink) -> int | None:
    """How many uses of models later, in plan order, the model of this link is used again; None for never.

    A use is a link to a port of a model kind: the clock of the residency ticks once for each.
    """
    step, plan = state.step, state.group.plan
    assert step is not None
    if state.mapped and state.item is not None and state.item + 1 < max(state.mapped.values()):
        return len(_model_links(step))  # the next item's call
    for later in plan.readers[link.source]:
        if later > step.position and any(
            (other.source, other.output) == (link.source, link.output) for other in _model_links(plan.steps[later])
        ):
            return sum(len(_model_links(plan.steps[index])) for index in range(step.position, later))
    return None


def _model_links(step: Step) -> list[StepLink]:
    return [link for link in step.links if isinstance(link.input.kind, ModelKind)]


def refs_of(state: StepState) -> dict[str, tuple[Ref, bool]]:
    """Linked port -> (what is linked, whether that holds for this run only)."""
    found: dict[str, tuple[Ref, bool]] = {}
    assert state.step is not None
    for link in state.step.links:
        source, output, item = state.source(link)
        local = source.fleeting or (source.step is not None and source.step.local)
        found[link.input.name] = Ref(source.key, output, item), local
    return found


def take_over(state: StepState) -> bool:
    """Whether it rests on something fleeting, and so is itself."""
    if not state.fleeting and state.group.run.fleeting:
        state.fleeting = any(source.fleeting for source in sources_of(state))
    return state.fleeting


def make_job(task: Task, coming: StepState | None = None) -> Job:
    """coming: a source that is being computed and will have plain values."""
    state = task.owner
    step, group = state.step, state.group
    assert step is not None
    type = step.type
    inputs: dict[str, Ref | list[Ref]] = {}
    next_use: dict[str, int | None] = {} if type.takes_models else NOTHING
    lazy: list[str] = []
    checks: list[str] = []
    for link in step.links:
        input, at, output, check = link
        name = input.name
        source, output, item = state.source(link)
        if check:
            checks.append(name)
        if input.lazy:
            lazy.append(name)
            if name not in state.provided:
                continue
        shape = None if source is coming else source.shape[output]
        if shape is not None and isinstance(shape := port_shape(shape, item), Skip):
            if input.as_list:
                inputs[name] = []
            continue
        ref = made(Ref, (source.key, output, item))
        inputs[name] = [ref] if input.as_list and shape is None else ref
        if at >= 0 and isinstance(input.kind, ModelKind):
            next_use[name] = uses_until(state, link)
    return made(
        Job,
        (
            task.job,
            task.key,
            group.run.id,
            state.id,
            type,
            step.literals,
            inputs,
            task.device,
            task.attempt,
            next_use,
            tuple(lazy),
            tuple(checks),
            state.provided,
            step.local or take_over(state),
        ),
    )


def may_follow(state: StepState, reader: StepState) -> bool:
    """Does `reader` wait for `state` alone, with plain values at hand for the rest?"""
    step = reader.step
    if step is None or reader.state is not WAITING or reader.waiting != 1 or reader.parts is not None:
        return False
    type = step.type
    if type.lane != "pool" or type.is_lazy or type.context_name or type.needs.timeout_s is not None:
        return False
    if reader.item is not None or reader.task is not None:
        return False
    if type.effect is Effect.EXTERNAL and not reader.run.accepted:
        return False
    for link in step.links:
        source, output, item = reader.source(link)
        if link.input.as_list or (source is not state and port_shape(source.shape[output], item) is not None):
            return False
    return True
