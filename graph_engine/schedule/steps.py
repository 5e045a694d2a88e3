"""Steps: the way of one step from being asked for to its end.

Nothing here recurses along the graph: chains of any length are walked by lists of what comes next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from graph_engine.graph import fingerprint
from graph_engine.graph.node import Effect
from graph_engine.graph.outcome import Skip
from graph_engine.graph.plan import GrownPlan, GrownSource, Step
from graph_engine.schedule.messages import NOTHING, Assemble, Ended, Notify, Output, Ref, Take
from graph_engine.schedule.placement import Placement
from graph_engine.schedule.states import (
    DONE,
    IDLE,
    WAITING,
    Breakpoint,
    Group,
    Run,
    Source,
    State,
    StepState,
    Task,
)
from graph_engine.schedule.wiring import flat, order_of, part_refs, port_shape, sources_of, take_over
from graph_engine.store.artifacts import ListShape, PortShape, Shape
from graph_engine.tuples import made

FREE_AT_ONCE = 500

_UNFIT = (State.FAILED, State.BLOCKED, State.CANCELLED)


def _is_unsteady(step: Step) -> bool:
    """Its result may be another one in the next run, though whatever grew it would have the same key."""
    return step.local or step.type.takes_files or step.type.reads is not None


class Steps(Placement):
    def __init__(self, lanes: Mapping[str, int], devices: tuple[str, ...]) -> None:
        super().__init__(lanes, devices)
        self.runs: dict[str, Run] = {}
        self._asked: list[StepState] = []
        self._ready: deque[StepState] = deque()
        self._trash: list[list[StepState | None]] = []
        """States of ended runs, to be freed a few at a time."""
        self._fresh: dict[str, Run] = {}
        """Runs that found something cached since the last news."""

    # --- asked for ------------------------------------------------------------------------------------------------

    def _demand(self, state: StepState) -> None:
        """Ask for a step. What it reads is asked for in turn, when it is its turn: no recursion, chains may be long."""
        state.state = WAITING
        state.group.run.open += 1
        self._asked.append(state)

    def _ask_sources(self, state: StepState) -> None:
        waiting = 0
        step, group = state.step, state.group
        assert step is not None
        states = group.states
        for input, at, _, _ in step.links:
            if not input.lazy or input.name in state.provided:
                source = (states[at] or group.state(at)) if at >= 0 else group.outer[-1 - at][0]
                now = source.state
                if now is DONE:
                    continue
                if now is IDLE:
                    if self._cached(source):
                        continue
                    self._demand(source)
                elif now is not WAITING:
                    self._block(state, source)
                    return
                source.readers.append(state)
                waiting += 1
        state.waiting = waiting
        if waiting == 0:
            self._ready.append(state)

    def _await_inputs(self, state: StepState, ports: frozenset[str] | None) -> None:
        """Wait again, for these lazy ports (or for whatever of all inputs is not there)."""
        assert state.step is not None
        waiting = 0
        for link in state.step.links:
            if state.active(link) and (ports is None or link.input.name in ports):
                source = state.source(link)[0]
                if source.state is IDLE and not self._cached(source):
                    self._demand(source)
                if source.state in _UNFIT:
                    self._block(state, source)
                    return
                if source.state is not DONE:
                    source.readers.append(state)
                    waiting += 1
        state.waiting = waiting
        if waiting == 0:
            self._ready.append(state)

    def _cached(self, state: StepState) -> bool:
        """Take a step's result from what is present, without looking at what it reads."""
        run = state.group.run
        shape = self.known.get(state.key)
        if shape is None:
            shape = run.present.get(state.key)
            if shape is None:
                return False
            self.known[state.key] = shape
        state.state, state.shape = DONE, shape
        if state.key in self.fleeting:  # another run has it now
            state.fleeting = run.fleeting = True
        self._hold(state)
        self._out.append(made(Take, (state.key,)))
        run.cached.append(state.id)
        self._fresh[run.id] = run
        return True

    # --- its inputs are there -------------------------------------------------------------------------------------

    def _begin(self, state: StepState) -> None:
        """All inputs are there: skip, map or run."""
        step, states = state.step, state.group.states
        assert step is not None
        if step.type.plain_inputs and state.mapped is None:
            for _, at, output, _ in step.links:
                source = states[at] if at >= 0 else None
                if source is None or source.shape[output] is not None:
                    break
            else:  # plain values throughout, as nearly always
                self._run(state)
                return
        self._fit(state)

    def _fit(self, state: StepState) -> None:
        """Some input is no plain value, or the node takes more than that."""
        length = -1
        assert state.step is not None
        for link in state.step.links:
            input = link.input
            if input.lazy and input.name not in state.provided:
                continue
            source, output, item = state.source(link)
            shape = source.shape[output]
            if shape is None:
                continue
            shape = port_shape(shape, item)
            if shape is None:
                continue
            if state.mapped is not None and isinstance(shape, ListShape) and not input.as_list:
                # A list that one call of a mapped step asked for: it takes its own item, like from the others.
                state.mapped = {**state.mapped, input.name: shape.length}
                shape = port_shape(shape, min(state.item or 0, shape.length - 1))
                if shape is None:
                    continue
            if isinstance(shape, Skip):
                if input.required and not input.as_list:
                    self._complete(state, (shape,) * len(state.step.type.outputs), skipped=True)
                    return
            elif not input.as_list:
                length = max(length, shape.length)
        if length >= 0:
            self._map(state)
        else:
            self._run(state)

    def _run(self, state: StepState) -> None:
        """Take the result that is there by now, join the task of the step's key, or be its owner."""
        if state.task is not None:  # a thread goes on with it already, or will say that it does not
            if type(state.task) is Breakpoint:
                self._pause_at(state)
            return
        key, run = state.key, state.group.run
        whole = self.known.get(key)
        if whole is None and state.item is not None:
            whole = run.present.get(key)
        if whole is not None:
            self._complete(state, whole, cached=True)
            return
        assert state.step is not None
        if not run.accepted and state.step.type.effect is Effect.EXTERNAL:
            run.unaccepted.append(state)
            return
        task = self.tasks.get(key)
        if task is None:
            task = state.task = self.tasks[key] = Task(key, state, state.step.type.lane)
            self._new.append(task)
            return
        task.subscribers.append(state)
        state.task = task
        if not task.job:
            self.lanes[task.lane].push(task, run, order_of(state))
        elif not task.follows:
            self._notify(run, "running", state.id, {"attempt": task.attempt, "shared": True})

    def _pause_at(self, state: StepState) -> None:
        """Its breakpoint: say what has arrived, and wait for `Continue`."""
        assert state.step is not None
        state.run.paused[state.id] = state
        inputs = {}
        for link in state.step.links:
            if state.active(link):
                source, output, item = state.source(link)
                inputs[link.input.name] = {"artifact": source.key, "port": output}
                if item is not None:
                    inputs[link.input.name]["item"] = item
        self._notify(state.run, "paused", state.id, {"inputs": inputs})

    def _map(self, state: StepState) -> None:
        """One call per item of the longest list; shorter lists repeat their last item, an empty one means no calls."""
        step = state.step
        assert step is not None
        if state.task is not None:
            self._pause_at(state)
            return
        lengths: dict[str, int] = {}
        for link in step.links:
            if state.active(link) and not link.input.as_list:
                source, output, item = state.source(link)
                shape = port_shape(source.shape[output], item)
                if isinstance(shape, ListShape):
                    lengths[link.input.name] = shape.length
        count = 0 if 0 in lengths.values() else max(lengths.values())
        items = []
        for index in range(count):
            one = StepState(state.group, step, fingerprint.item_key(state.key, index), 1)
            one.item, one.mapped, one.provided = index, lengths, state.provided
            one.id = f"{state.id}#{index}"
            items.append(one)
        state.run.extras.extend(items)
        for link in step.links:  # also lazy ones, which nobody may have asked for yet
            if link.source >= 0:
                state.group.state(link.source)
        for source in sources_of(
            state
        ):  # the calls read what the step reads, also when the step itself is blocked by one
            source.uses += count
        state.parts = tuple([(one, output, None) for one in items] for output in range(len(step.type.outputs)))
        self._wait_for_parts(state, items)

    def _grow(
        self,
        state: StepState,
        grown: GrownPlan,
        present: Mapping[str, Shape],
        constants: Mapping[str, tuple[str, Shape]],
    ) -> None:
        """The step waits for the parts of its graph that its outputs come from, and for that graph's output nodes."""
        run = state.run
        run.present.update(present)
        step = state.step
        assert step is not None
        by_port = {link.input.name: state.source(link) for link in step.links}
        outer: list[Source] = []
        for name in grown.plan.outer:
            if name in by_port:
                outer.append(by_port[name])
            else:
                key, shape = constants[name]
                constant = StepState(state.group, None, key, 1)
                constant.state, constant.shape, constant.fleeting = DONE, shape, state.fleeting
                self.known[constant.key] = constant.shape
                self._hold(constant)
                run.extras.append(constant)
                outer.append((constant, 0, None))
        prefix, root = f"{state.id}/", state.group.root or state.id
        if len(prefix) > len(root) + 160:  # a loop that grows its next round: the path would grow with it
            prefix = f"{root}/~{len(run.groups)}/"
        if any(map(_is_unsteady, grown.plan.steps)):
            state.fleeting = run.fleeting = True
        group = Group(run, grown.plan, tuple(outer), prefix, order_of(state), root, state)
        run.groups.append(group)
        for step_within in grown.plan.steps:  # so do the steps of a graph that was grown
            for source in dict.fromkeys(outer[-1 - link.source][0] for link in step_within.links if link.source < 0):
                source.uses += 1

        def locate(part: Any) -> Any:
            if isinstance(part, GrownSource):
                return (group.state(part.source), part.output, None) if part.source >= 0 else outer[-1 - part.source]
            return [locate(one) for one in part] if isinstance(part, list) else part

        state.parts = tuple(locate(part) for part in grown.outputs)
        wanted = dict.fromkeys(part[0] for entry in state.parts for part in flat(entry))
        wanted.update(dict.fromkeys(group.state(index) for index in grown.plan.targets))
        for source in wanted:
            source.uses += 1
        if not state.let_go:  # a long loop would hold the values of all its rounds otherwise
            state.let_go = True
            self._let_go(state)
        if grown.plan.steps:
            self._notify(run, "grown", state.id, {"nodes": [prefix + step.node for step in grown.plan.steps]})
        self._wait_for_parts(state, wanted)

    def _wait_for_parts(self, state: StepState, parts: Iterable[StepState]) -> None:
        waiting = 0
        for part in parts:
            if part.state is IDLE and not self._cached(part):
                self._demand(part)
            if part.state in _UNFIT:
                self._block(state, part)
                return
            if part.state is not DONE:
                part.readers.append(state)
                waiting += 1
        state.waiting = waiting
        if waiting == 0:
            self._ready.append(state)

    def _assemble(self, state: StepState) -> None:
        """Make the step's artifact out of its parts, by reference."""
        assert state.parts is not None
        assert state.step is not None
        outputs: list[Any] = []
        shape: list[PortShape] = []
        for port, entry in zip(state.step.type.outputs, state.parts, strict=True):
            if isinstance(entry, list):
                refs = [ref for part in entry for ref in part_refs(part, port.as_list)]
                outputs.append(refs)
                skipped = frozenset(index for index, ref in enumerate(refs) if isinstance(ref, Skip))
                shape.append(ListShape(len(refs), skipped))
            elif isinstance(entry, Skip):
                outputs.append(entry)
                shape.append(entry)
            else:
                source, output, item = entry
                found = port_shape(source.shape[output], item)
                outputs.append(found if isinstance(found, Skip) else Ref(source.key, output, item))
                shape.append(found)
        keep = not (state.step.local or take_over(state))
        self._out.append(Assemble(state.key, tuple(outputs), keep))
        self.known[state.key] = tuple(shape)
        parts = dict.fromkeys(part[0] for entry in state.parts for part in flat(entry))
        self._complete(state, tuple(shape))
        for part in parts:
            part.uses -= 1
            self._unuse(part)

    # --- over -----------------------------------------------------------------------------------------------------

    def _complete(
        self, state: StepState, shape: Shape, *, skipped: bool = False, cached: bool = False, ms: float = 0.0
    ) -> None:
        run = state.group.run
        state.state, state.shape, state.task = DONE, shape, None
        run.open -= 1
        if not skipped:
            self._hold(state)
        if run.fleeting or self.fleeting:
            self._pass_on(state)
        if skipped or (shape and type(shape[0]) is Skip and all(isinstance(port, Skip) for port in shape)):
            reason = next((port.message for port in shape if isinstance(port, Skip) and port.message), "")
            self._notify(run, "skipped", state.id, {"message": reason} if reason else {})
        elif cached:
            self._out.append(made(Take, (state.key,)))
            run.cached.append(state.id)
            self._fresh[run.id] = run
        else:
            self._out.append(made(Notify, (run.id, "done", state.id, {"ms": ms} if ms else NOTHING)))
        if state.is_target:
            self._out.append(Output(run.id, state.id, state.key, shape, state.fleeting))
        for reader in state.readers:
            if reader.state is WAITING:
                reader.waiting -= 1
                if reader.waiting == 0:
                    self._ready.append(reader)
        self._left(state)

    def _pass_on(self, state: StepState) -> None:
        """A fleeting result makes fleeting what rests on it: its readers (`take_over`), and the step that grew it."""
        run = state.group.run
        if state.key in self.fleeting:
            state.fleeting = run.fleeting = True
        if take_over(state):
            if state.held:
                self.fleeting.add(state.key)
            grower = state.group.grower
            while grower is not None and not grower.fleeting:
                grower.fleeting, grower = True, grower.group.grower

    def _fail(self, state: StepState, error: Mapping[str, Any]) -> None:
        state.state, state.cause = State.FAILED, state.id
        entry = {**error, "node": state.id}
        state.run.errors.append(entry)
        self._notify(state.run, "failed", state.id, {"error": entry})
        self._spread(state)

    def _block(self, state: StepState, source: StepState) -> None:
        state.state, state.cause = State.BLOCKED, source.cause
        self._notify(state.run, "blocked", state.id, {"by": source.cause})
        self._spread(state)

    def _spread(self, state: StepState) -> None:
        """A step came to a bad end: everything that waits for it is blocked. No recursion."""
        stack = [state]
        while stack:
            state = stack.pop()
            state.group.run.open -= 1
            for reader in state.readers:
                if reader.state is WAITING:
                    reader.state, reader.cause = State.BLOCKED, state.cause
                    self._unsubscribe(reader)
                    self._notify(reader.run, "blocked", reader.id, {"by": state.cause})
                    stack.append(reader)
            self._left(state)

    def _left(self, state: StepState) -> None:
        """A step is over, and its run may be over too."""
        state.readers.clear()
        if not state.let_go:
            self._let_go(state)
        if state.uses <= 0:
            self._unuse(state)
        run = state.group.run
        if run.open == 0:
            self._maybe_end(run)

    def _let_go(self, state: StepState) -> None:
        """What it read is used one time less."""
        for source in sources_of(state):
            source.uses -= 1
            if source.uses <= 0:
                self._unuse(source)

    def _cancel(self, state: StepState) -> None:
        state.state = State.CANCELLED
        self._notify(state.run, "cancelled", state.id, {})
        self._unsubscribe(state)

    def _maybe_end(self, run: Run) -> None:
        if run.open > 0 or run.stopping or self.runs.get(run.id) is not run:
            return
        del self.runs[run.id]
        if run.cached:
            self._notify(run, "cached", "", {"nodes": run.cached})
            self._fresh.pop(run.id, None)
        good = sum(target.state is DONE for target in run.targets)
        if run.cancelled:
            status = "cancelled"
        elif good == len(run.targets):
            status = "succeeded" if not run.errors else "partial"
        else:
            status = "partial" if good else "failed"
        self._out.append(Ended(run.id, status, run.errors))
        for state in run.every_state():
            if state.held:
                state.held = False
                self._unhold(state.key)
        for group in run.groups:  # states and groups refer to each other; apart, they are freed without a search
            if len(group.states) > FREE_AT_ONCE:
                self._trash.append(group.states)
            group.states = []
        run.groups, run.targets, run.extras, run.unaccepted = [], [], [], []

    def _stopped(self, job: int) -> None:
        for run in list(self.runs.values()):
            if job in run.stopping:
                run.stopping.discard(job)
                self._maybe_end(run)
