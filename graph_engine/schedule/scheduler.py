"""Scheduler: one pure object that is told what happened and says what to do.

    instructions = scheduler.handle(event)

A step is asked for by a target or by a reader. Asked for, it is taken from what is present or waits for its inputs; with
those it is skipped (a required input has nothing), mapped (an input is a list and the node takes one item), or joins the
task of its key, which is started when its lane has room. What the task reports ends the step or makes it wait again: for
lazy inputs (`Needed`), or for the graph it grew (`Grown`). A failure blocks its readers and nobody else.

Laws: one result per task, reports of unknown jobs change nothing (P3); siblings of a failure go on (P6).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from graph_engine.graph import fingerprint
from graph_engine.graph.kinds import ModelKind
from graph_engine.graph.outcome import Skip
from graph_engine.graph.plan import GrownPlan, GrownSource, Plan
from graph_engine.schedule.messages import (
    Assemble,
    Cancel,
    Done,
    Drop,
    Ended,
    Event,
    Failed,
    GraceOver,
    Grown,
    Instruction,
    Job,
    Lost,
    Needed,
    Notify,
    Output,
    Pause,
    Ref,
    Resume,
    Start,
    Stop,
    Stopped,
    Submit,
    Unstarted,
)
from graph_engine.schedule.policy import Lane
from graph_engine.schedule.states import Group, Run, Source, State, StepState, Task
from graph_engine.store.artifacts import ListShape, PortShape, Shape

MAX_GROWTH = 100_000
"""Graphs that one run may grow in all; a loop without an end stops here with an error instead of filling the memory."""

FOLLOW_AT_ONCE = 32
"""Steps that one thread may do in a row before the scheduler has its say."""

ASK_AT_ONCE = 500
"""Steps asked for within one event: a few milliseconds' worth, so that a large workflow leaves the loop to others."""


class Scheduler:
    """lanes: name -> how many jobs at a time; devices: the devices of the lane "device", one job each."""

    def __init__(self, lanes: Mapping[str, int], devices: tuple[str, ...] = (), max_attempts: int = 3) -> None:
        self.lanes = {name: Lane(name, slots) for name, slots in lanes.items()}
        self.lanes["device"] = Lane("device", len(devices), devices)
        self._lanes = tuple(self.lanes.values())
        self.max_attempts = max_attempts
        self.runs: dict[str, Run] = {}
        self.tasks: dict[str, Task] = {}
        self.jobs: dict[int, Task] = {}
        self.known: dict[str, Shape] = {}
        """Shapes of the results that some run holds."""
        self.holds: dict[str, int] = {}
        self._out: list[Instruction] = []
        self._asked: list[StepState] = []
        self._ready: deque[StepState] = deque()
        self._fresh: dict[str, Run] = {}
        """Runs that found something cached since the last news."""
        self._job_count = 0
        self._run_count = 0

    # --- the door -------------------------------------------------------------------------------------------------

    def handle(self, event: Event) -> list[Instruction]:
        """What to do now. Instructions are to be carried out in order."""
        out = self._out = []
        _HANDLERS[type(event)](self, event)
        self._settle()
        return out

    @staticmethod
    def keys(plan: Plan, run: str) -> Iterable[str]:
        """Keys whose presence is worth asking for before `Submit` or `Grown`."""
        return (fingerprint.run_key(step.key, run) if step.local else step.key for step in plan.steps)

    def watchers(self, job: int) -> list[tuple[str, str]]:
        """(run, node) of every step that waits for this job; who gets its progress."""
        task = self.jobs.get(job)
        return [(state.run.id, state.id) for state in task.subscribers] if task is not None else []

    # --- events ---------------------------------------------------------------------------------------------------

    def _on_submit(self, event: Submit) -> None:
        if event.run in self.runs:
            return
        self._run_count += 1
        run = self.runs[event.run] = Run(event.run, self._run_count, event.priority, dict(event.present))
        group = Group(run, event.plan, (), "", None)
        run.groups.append(group)
        self._notify(run, "started", "", {"nodes": len(event.plan.steps)})
        for index in event.plan.targets:
            target = group.state(index)
            target.is_target = True
            run.targets.append(target)
        for target in run.targets:
            if target.state is State.IDLE and not self._cached(target):
                self._demand(target)
        for target in run.targets:
            if target.state is State.DONE:
                self._out.append(Output(run.id, target.id, target.key, target.shape))
        self._maybe_end(run)

    def _on_done(self, event: Done) -> None:
        task = self._report(event.job)
        if task is None:
            return
        self._retire(task)
        key = task.key
        self.known[key] = event.shape
        if len(task.subscribers) == 1:
            self._complete(task.subscribers[0], event.shape, ms=event.ms)
            return
        self.holds[key] = self.holds.get(key, 0) + 1  # until every subscriber has it: the first one's run may end at once
        for state in task.subscribers:
            self._complete(state, event.shape, ms=event.ms)
        self._unhold(key)

    def _on_needed(self, event: Needed) -> None:
        task = self._report(event.job)
        if task is None:
            return
        self._retire(task)
        for state in task.subscribers:
            state.task = None
            assert state.step is not None
            linked = {link.input.name for link in state.step.links if link.input.lazy}
            new = frozenset(event.ports) - state.provided
            if not new and event.ports and state is not task.owner:
                self._ready.append(state)  # it has what the owner lacked; its own call comes next
                continue
            if not new or not new <= linked:
                names = ", ".join(event.ports) or "nothing"
                why = "it has them already" if not new else f"its lazy linked inputs are {', '.join(linked) or 'none'}"
                self._fail(state, {"code": "bad_need", "message": f"the node asked for {names}, but {why}."})
                continue
            state.provided |= new
            self._await_inputs(state, new)

    def _on_grown(self, event: Grown) -> None:
        task = self._report(event.job)
        if task is not None:
            self._retire(task)
            for state in task.subscribers:
                state.task = None
                if len(state.run.groups) > MAX_GROWTH:
                    message = f"the run grew more than {MAX_GROWTH} graphs; does the loop have an end?"
                    self._fail(state, {"code": "growth_without_end", "message": message})
                else:
                    self._grow(state, event.grown, event.present, event.constants)
        for key, _ in event.constants.values():
            self._release_unheld(key)

    def _on_failed(self, event: Failed) -> None:
        task = self._report(event.job)
        if task is None:
            return
        if event.retryable and task.attempt < self.max_attempts:
            task.attempt += 1
            for state in task.subscribers:
                self._notify(state.run, "retrying", state.id, {"attempt": task.attempt, "error": dict(event.error)})
            self._enqueue(task)
            return
        self._retire(task)
        for state in task.subscribers:
            state.task = None
            self._fail(state, event.error)

    def _on_lost(self, event: Lost) -> None:
        task = self._report(event.job)
        if task is None:
            return
        self._retire(task)
        gone = set(event.keys)
        for key in gone:
            self.known.pop(key, None)
        for state in task.subscribers:
            state.task = None
            assert state.step is not None
            for key in gone:
                state.run.present.pop(key, None)
            for link in state.step.links:
                source = state.source(link)[0]
                if source.key in gone and source.state is State.DONE and source.step is not None:
                    if source.held:
                        source.held = False
                        self._unhold(source.key)
                    source.state, source.parts = State.IDLE, None
            self._await_inputs(state, None)

    def _on_unstarted(self, event: Unstarted) -> None:
        task = self._report(event.job)
        if task is None:
            return
        self._retire(task)
        for state in task.subscribers:
            state.task = None
            if state.waiting == 0:
                self._ready.append(state)

    def _on_stopped(self, event: Stopped) -> None:
        task = self._report(event.job)
        if task is not None:  # it was wanted after all, or nobody told it to stop
            self._enqueue(task)

    def _on_grace_over(self, event: GraceOver) -> None:
        for run in list(self.runs.values()):
            if event.job in run.stopping:
                run.stopping.discard(event.job)
                self._maybe_end(run)

    def _on_cancel(self, event: Cancel) -> None:
        run = self.runs.get(event.run)
        if run is None or run.cancelled:
            return
        run.cancelled = True
        for states in [run.extras, *[group.states for group in run.groups]]:
            for state in states:
                if state is not None and state.state is State.WAITING:
                    self._cancel(state)
        run.open = 0
        self._maybe_end(run)

    def _on_resume(self, event: Resume) -> None:
        """Go on asking, in `_settle`."""

    # --- a step's way ---------------------------------------------------------------------------------------------

    def _demand(self, state: StepState) -> None:
        """Ask for a step. What it reads is asked for in turn, when it is its turn: no recursion, chains may be long."""
        state.state = State.WAITING
        state.group.run.open += 1
        self._asked.append(state)

    def _ask_sources(self, state: StepState) -> None:
        waiting = 0
        assert state.step is not None
        for link in state.step.links:
            if not link.input.lazy or link.input.name in state.provided:
                source = state.source(link)[0]
                now = source.state
                if now is State.DONE:
                    continue
                if now is State.IDLE:
                    if self._cached(source):
                        continue
                    self._demand(source)
                elif now is not State.WAITING:
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
                if source.state is State.IDLE and not self._cached(source):
                    self._demand(source)
                if source.state in _UNFIT:
                    self._block(state, source)
                    return
                if source.state is not State.DONE:
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
        state.state, state.shape = State.DONE, shape
        self._hold(state)
        run.cached.append(state.id)
        self._fresh[run.id] = run
        return True

    def _settle(self) -> None:
        """Let every step that has its inputs take its next step, then fill the lanes."""
        asked, ready, turns = self._asked, self._ready, ASK_AT_ONCE
        while ready or (asked and turns):
            if asked and turns:
                turns -= 1
                state = asked.pop()
                if state.state is State.WAITING:
                    self._ask_sources(state)
            else:
                state = ready.popleft()
                if state.state is State.WAITING:
                    if state.parts is not None:
                        self._assemble(state)
                    else:
                        self._begin(state)
        if asked:
            self._out.append(Pause())
        for run in self._fresh.values():
            self._notify(run, "cached", "", {"nodes": run.cached})
            run.cached = []
        self._fresh.clear()
        for lane in self._lanes:
            while lane.queue and lane.slots > 0 and (task := lane.pop()) is not None:
                self._start(task, lane)

    def _begin(self, state: StepState) -> None:
        """All inputs are there: skip, map or run."""
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
            shape = _port_shape(shape, item)
            if shape is None:
                continue
            if state.mapped is not None and isinstance(shape, ListShape) and not input.as_list:
                # A list that one call of a mapped step asked for: it takes its own item, like from the others.
                state.mapped = {**state.mapped, input.name: shape.length}
                shape = _port_shape(shape, min(state.item or 0, shape.length - 1)) if shape.length else Skip("the list is empty")
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
            return
        if state.task is not None:  # a thread went on with it already
            self._notify(state.group.run, "running", state.id, {})
            return
        shape = self.known.get(state.key)
        if shape is None:
            shape = state.run.present.get(state.key) if state.item is not None else None
        if shape is not None:
            self._complete(state, shape, cached=True)
            return
        task = self.tasks.get(state.key)
        if task is not None:
            task.subscribers.append(state)
            state.task = task
            if task.job:
                self._notify(state.run, "running", state.id, {"attempt": task.attempt, "shared": True})
            else:
                self.lanes[task.lane].push(task, state.run, self._order(state))
            return
        task = state.task = self.tasks[state.key] = Task(state.key, state, state.step.type.lane)
        self.lanes[task.lane].push(task, state.run, self._order(state))

    def _map(self, state: StepState) -> None:
        """One call per item of the longest list; shorter lists repeat their last item, an empty one means no calls."""
        step = state.step
        assert step is not None
        lengths: dict[str, int] = {}
        for link in step.links:
            if state.active(link) and not link.input.as_list:
                source, output, item = state.source(link)
                shape = _port_shape(source.shape[output], item)
                if isinstance(shape, ListShape):
                    lengths[link.input.name] = shape.length
        count = 0 if 0 in lengths.values() else max(lengths.values())
        items = []
        for index in range(count):
            item = StepState(state.group, step, fingerprint.item_key(state.key, index), 1)
            item.item, item.mapped, item.provided = index, lengths, state.provided
            item.id = f"{state.id}#{index}"
            items.append(item)
        state.run.extras.extend(items)
        for link in step.links:  # also lazy ones, which nobody may have asked for yet
            if link.source >= 0:
                state.group.state(link.source)
        for source in _sources(state):  # the calls read what the step reads, also when the step itself is blocked by one
            source.uses += count
        state.parts = tuple([(item, output, None) for item in items] for output in range(len(step.type.outputs)))
        self._wait_for_parts(state, items)

    def _grow(self, state: StepState, grown: GrownPlan, present: Mapping[str, Shape], constants: Mapping[str, tuple[str, Shape]]) -> None:
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
                constant.state, constant.shape = State.DONE, shape
                self.known[constant.key] = constant.shape
                self._hold(constant)
                run.extras.append(constant)
                outer.append((constant, 0, None))
        prefix = f"{state.id}/"
        if len(prefix) > 160:  # a loop that grows its next round: the path would grow with it
            prefix = f"{prefix.partition('/')[0]}/~{len(run.groups)}/"
        group = Group(run, grown.plan, tuple(outer), prefix, self._order(state))
        run.groups.append(group)
        for step_within in grown.plan.steps:  # so do the steps of a graph that was grown
            for source in dict.fromkeys(outer[-1 - link.source][0] for link in step_within.links if link.source < 0):
                source.uses += 1

        def locate(part: Any) -> Any:
            if isinstance(part, GrownSource):
                return (group.state(part.source), part.output, None) if part.source >= 0 else outer[-1 - part.source]
            return [locate(one) for one in part] if isinstance(part, list) else part

        state.parts = tuple(locate(part) for part in grown.outputs)
        wanted = dict.fromkeys(part[0] for entry in state.parts for part in _flat(entry))
        wanted.update(dict.fromkeys(group.state(index) for index in grown.plan.targets))
        for source in wanted:
            source.uses += 1
        if grown.plan.steps:
            self._notify(run, "grown", state.id, {"nodes": [prefix + step.node for step in grown.plan.steps]})
        self._wait_for_parts(state, wanted)

    def _wait_for_parts(self, state: StepState, parts: Iterable[StepState]) -> None:
        waiting = 0
        for part in parts:
            if part.state is State.IDLE and not self._cached(part):
                self._demand(part)
            if part.state in _UNFIT:
                self._block(state, part)
                return
            if part.state is not State.DONE:
                part.readers.append(state)
                waiting += 1
        state.waiting = waiting
        if waiting == 0:
            self._ready.append(state)

    def _assemble(self, state: StepState) -> None:
        """Make the step's artifact out of its parts, by reference."""
        assert state.parts is not None and state.step is not None
        outputs: list[Any] = []
        shape: list[PortShape] = []
        for port, entry in zip(state.step.type.outputs, state.parts, strict=True):
            if isinstance(entry, list):
                refs = [ref for part in entry for ref in _refs(part, port.as_list)]
                outputs.append(refs)
                skipped = frozenset(index for index, ref in enumerate(refs) if isinstance(ref, Skip))
                shape.append(ListShape(len(refs), skipped))
            elif isinstance(entry, Skip):
                outputs.append(entry)
                shape.append(entry)
            else:
                source, output, item = entry
                found = _port_shape(source.shape[output], item)
                outputs.append(found if isinstance(found, Skip) else Ref(source.key, output, item))
                shape.append(found)
        self._out.append(Assemble(state.key, tuple(outputs)))
        self.known[state.key] = tuple(shape)
        parts = dict.fromkeys(part[0] for entry in state.parts for part in _flat(entry))
        self._complete(state, tuple(shape))
        for part in parts:
            self._unuse(part)

    # --- ends -----------------------------------------------------------------------------------------------------

    def _complete(
        self, state: StepState, shape: Shape, *, skipped: bool = False, cached: bool = False, ms: float = 0.0
    ) -> None:
        run = state.group.run
        state.state, state.shape, state.task = State.DONE, shape, None
        run.open -= 1
        if not skipped:
            self._hold(state)
        if skipped or (shape and type(shape[0]) is Skip and all(isinstance(port, Skip) for port in shape)):
            reason = next((port.message for port in shape if isinstance(port, Skip) and port.message), "")
            self._notify(run, "skipped", state.id, {"message": reason} if reason else {})
        elif cached:
            run.cached.append(state.id)
            self._fresh[run.id] = run
        else:
            self._notify(run, "done", state.id, {"ms": ms} if ms else {})
        if state.is_target:
            self._out.append(Output(run.id, state.id, state.key, shape))
        for reader in state.readers:
            if reader.state is State.WAITING:
                reader.waiting -= 1
                if reader.waiting == 0:
                    self._ready.append(reader)
        self._left(state)

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
                if reader.state is State.WAITING:
                    reader.state, reader.cause = State.BLOCKED, state.cause
                    self._unsubscribe(reader)
                    self._notify(reader.run, "blocked", reader.id, {"by": state.cause})
                    stack.append(reader)
            self._left(state)

    def _left(self, state: StepState) -> None:
        """A step is over: what it read is used one time less, and its run may be over too."""
        state.readers = []
        for source in _sources(state):
            self._unuse(source)
        if state.uses <= 0:
            self._unuse(state)
        run = state.group.run
        if run.open == 0:
            self._maybe_end(run)

    def _cancel(self, state: StepState) -> None:
        state.state = State.CANCELLED
        self._notify(state.run, "cancelled", state.id, {})
        self._unsubscribe(state)

    def _unsubscribe(self, state: StepState) -> None:
        task, state.task = state.task, None
        if task is None:
            return
        task.subscribers.remove(state)
        if task.subscribers:
            if task.owner is state:
                task.owner = task.subscribers[0]
            if not task.job:
                self._enqueue(task)
            return
        self._retire(task)
        if task.job:
            state.run.stopping.add(task.job)
            self._out.append(Stop(task.job))

    def _maybe_end(self, run: Run) -> None:
        if run.open > 0 or run.stopping or self.runs.get(run.id) is not run:
            return
        del self.runs[run.id]
        if run.cached:
            self._notify(run, "cached", "", {"nodes": run.cached})
            self._fresh.pop(run.id, None)
        good = sum(target.state is State.DONE for target in run.targets)
        if run.cancelled:
            status = "cancelled"
        elif good == len(run.targets):
            status = "succeeded" if not run.errors else "partial"
        else:
            status = "partial" if good else "failed"
        self._out.append(Ended(run.id, status, run.errors))
        for states in [run.extras, *[group.states for group in run.groups]]:
            for state in states:
                if state is not None and state.held:
                    state.held = False
                    self._unhold(state.key)
        for group in run.groups:  # states and groups refer to each other; apart, they are freed at once
            group.states = []
        run.groups, run.targets, run.extras = [], [], []

    # --- tasks and jobs -------------------------------------------------------------------------------------------

    def _enqueue(self, task: Task) -> None:
        task.job = 0
        state = task.owner
        self.tasks[task.key] = task
        self.lanes[task.lane].push(task, state.run, self._order(state))

    def _retire(self, task: Task) -> None:
        """The task is over; what is left of it in the lanes is passed over."""
        task.dead = True
        if self.tasks.get(task.key) is task:
            del self.tasks[task.key]

    def _start(self, task: Task, lane: Lane) -> None:
        self._job_count += 1
        task.job = self._job_count
        lane.slots -= 1
        task.device = lane.devices.pop(0) if lane.devices else ""
        task.has_slot = True
        self.jobs[task.job] = task
        job = self._job(task)
        self._out.append(Start(job, self._followers(task)) if lane.name == "pool" else Start(job))
        for state in task.subscribers:
            self._notify(state.run, "running", state.id, {"attempt": task.attempt} if task.attempt > 1 else {})

    def _followers(self, task: Task) -> tuple[Job, ...]:
        """The steps that the thread of this task may go on with."""
        jobs: list[Job] = []
        while len(jobs) < FOLLOW_AT_ONCE and len(task.subscribers) == 1:
            state = task.owner
            assert state.step is not None
            if len(state.readers) != 1 or state.item is not None or state.step.type.list_flags:
                break
            reader = state.readers[0]
            if not self._may_follow(state, reader):
                break
            following = Task(reader.key, reader, "pool")
            self._job_count += 1
            following.job = self._job_count
            task.has_slot, following.has_slot = False, True
            self.tasks[following.key] = following
            self.jobs[following.job] = following
            reader.task = following
            jobs.append(self._job(following, state))
            task = following
        return tuple(jobs)

    def _may_follow(self, state: StepState, reader: StepState) -> bool:
        """Does `reader` wait for `state` alone, with plain values at hand for the rest?"""
        step = reader.step
        if step is None or reader.state is not State.WAITING or reader.waiting != 1 or reader.parts is not None:
            return False
        type = step.type
        if type.lane != "pool" or type.is_lazy or type.context_name or type.needs.timeout_s is not None:
            return False
        if reader.item is not None or reader.task is not None or reader.key in self.tasks or reader.key in self.known:
            return False
        for link in step.links:
            source, output, item = reader.source(link)
            if link.input.as_list or (source is not state and _port_shape(source.shape[output], item) is not None):
                return False
        return True

    def _job(self, task: Task, coming: StepState | None = None) -> Job:
        """coming: a source that is being computed and will have plain values."""
        state = task.owner
        step = state.step
        assert step is not None
        inputs: dict[str, Ref | list[Ref]] = {}
        next_use: dict[str, int | None] = {}
        sources: dict[str, tuple[Ref, bool]] = {}
        checks: list[str] = []
        for link in step.links:
            input = link.input
            name = input.name
            source, output, item = state.source(link)
            ref = Ref(source.key, output, item)
            sources[name] = ref, source.step is not None and source.step.local
            if link.check:
                checks.append(name)
            if input.lazy and name not in state.provided:
                continue
            shape = None if source is coming else source.shape[output]
            if shape is not None and isinstance(shape := _port_shape(shape, item), Skip):
                if input.as_list:
                    inputs[name] = []
                continue
            inputs[name] = [ref] if input.as_list and shape is None else ref
            if link.source >= 0 and isinstance(input.kind, ModelKind):
                readers = state.group.plan.readers[link.source]
                later = [index - step.index for index in readers if index > step.index]
                next_use[name] = later[0] if later else None
        return Job(
            task.job,
            task.key,
            state.run.id,
            state.id,
            step.type,
            step.literals,
            inputs,
            task.device,
            task.attempt,
            next_use,
            sources,
            tuple(checks),
            state.provided,
            step.local,
        )

    def _report(self, job: int) -> Task | None:
        """A job came to an end: free its place. None when nobody waits for its result (P3)."""
        task = self.jobs.pop(job, None)
        if task is None:
            return None
        lane = self.lanes[task.lane]
        if task.has_slot:
            task.has_slot = False
            lane.slots += 1
        if task.device:
            lane.devices.append(task.device)
        task.job = 0
        if task.dead:
            for run in list(self.runs.values()):
                if job in run.stopping:
                    run.stopping.discard(job)
                    self._maybe_end(run)
            self._release_unheld(task.key)
            return None
        return task

    @staticmethod
    def _order(state: StepState) -> int:
        """A step's place in its run; what a step grew keeps the place of that step."""
        assert state.step is not None
        return state.step.index if state.group.order is None else state.group.order

    # --- values that runs hold --------------------------------------------------------------------------------------

    def _hold(self, state: StepState) -> None:
        if not state.held:
            state.held = True
            self.holds[state.key] = self.holds.get(state.key, 0) + 1

    def _unuse(self, state: StepState) -> None:
        state.uses -= 1
        if state.uses <= 0 and state.held and not state.is_target and state.state is State.DONE:
            state.held = False
            self._unhold(state.key)

    def _unhold(self, key: str) -> None:
        left = self.holds[key] - 1
        if left:
            self.holds[key] = left
        else:
            del self.holds[key]
            self.known.pop(key, None)
            self._out.append(Drop(key))

    def _release_unheld(self, key: str) -> None:
        if key not in self.holds:
            self.known.pop(key, None)
            self._out.append(Drop(key))

    # --- news -----------------------------------------------------------------------------------------------------

    def _notify(self, run: Run, type: str, node: str, data: dict[str, Any]) -> None:
        self._out.append(Notify(run.id, type, node, data))


_UNFIT = (State.FAILED, State.BLOCKED, State.CANCELLED)

_HANDLERS: dict[type, Callable[[Scheduler, Any], None]] = {
    Submit: Scheduler._on_submit,
    Done: Scheduler._on_done,
    Needed: Scheduler._on_needed,
    Grown: Scheduler._on_grown,
    Failed: Scheduler._on_failed,
    Lost: Scheduler._on_lost,
    Unstarted: Scheduler._on_unstarted,
    Stopped: Scheduler._on_stopped,
    GraceOver: Scheduler._on_grace_over,
    Cancel: Scheduler._on_cancel,
    Resume: Scheduler._on_resume,
}


def _port_shape(shape: PortShape, item: int | None) -> PortShape:
    """The shape of a port, or of one item of its list."""
    if item is None or not isinstance(shape, ListShape):
        return shape
    return Skip() if item in shape.skipped else None


def _sources(state: StepState) -> list[StepState]:
    """What a step reads, each once, as far as anybody asked for it."""
    if state.step is None:
        return []
    group = state.group
    found = [
        group.states[link.source] if link.source >= 0 else group.outer[-1 - link.source][0] for link in state.step.links
    ]
    return [source for source in (found if len(found) < 2 else dict.fromkeys(found)) if source is not None]


def _flat(entry: Any) -> list[Any]:
    entries = entry if isinstance(entry, list) else [entry]
    return [part for part in entries if not isinstance(part, Skip)]


def _refs(part: Any, as_list: bool) -> list[Ref | Skip]:
    """One part of a list output; a part that is a list itself is spread out where the port gives lists."""
    if isinstance(part, Skip):
        return [part]
    source, output, item = part
    shape = _port_shape(source.shape[output], item)
    if isinstance(shape, Skip):
        return [shape]
    if isinstance(shape, ListShape) and as_list:
        return [Skip() if n in shape.skipped else Ref(source.key, output, n) for n in range(shape.length)]
    return [Ref(source.key, output, item)]
