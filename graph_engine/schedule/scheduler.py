"""Scheduler: one pure object that is told what happened and says what to do.

    instructions = scheduler.handle(event, ...)

A step is asked for by a target or by a reader. Asked for, it is taken from what is present or waits for its inputs; with
those it is skipped (a required input has nothing), mapped (an input is a list and the node takes one item), or joins the
task of its key, which is started when its lane has room. What the task reports ends the step or makes it wait again: for
lazy inputs (`Needed`), or for the graph it grew (`Grown`). A failure blocks its readers and nobody else.

Laws: one result per task, reports of unknown jobs change nothing (P3); siblings of a failure go on (P6).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from graph_engine.graph import fingerprint
from graph_engine.graph.plan import Plan
from graph_engine.schedule.messages import (
    Accept,
    Cancel,
    Continue,
    Done,
    Event,
    Failed,
    Fault,
    GraceOver,
    Grown,
    Hold,
    Instruction,
    Lost,
    Needed,
    Output,
    Pause,
    Prioritise,
    Reminded,
    Resume,
    Stopped,
    Submit,
    Unstarted,
)
from graph_engine.schedule.states import DONE, IDLE, WAITING, Breakpoint, Group, Run
from graph_engine.schedule.steps import FREE_AT_ONCE, Steps

MAX_GROWTH = 100_000
"""Graphs that one run may grow in all; a loop without an end stops here with an error instead of filling the memory."""

ASK_AT_ONCE = 500
"""Steps asked for within one event: a few milliseconds' worth, so that a large workflow leaves the loop to others."""


class Scheduler(Steps):
    """lanes: name -> how many jobs at a time; devices: the devices of the lane "device", one job each.

    Built in floors: the ledger of what is held, dispatch of tasks to lanes, placement on devices, the way of a step, and the
    events here.
    """

    def __init__(self, lanes: Mapping[str, int], devices: tuple[str, ...] = (), max_attempts: int = 3) -> None:
        super().__init__(lanes, devices)
        self.max_attempts = max_attempts
        self._run_count = 0

    def handle(self, *events: Event) -> list[Instruction]:
        """What to do now that these happened, in this order. Instructions are to be carried out in order."""
        out = self._out = []
        for event in events:
            self._heard = None
            try:
                _HANDLERS[type(event)](self, event)
            except Exception as error:
                task = self._heard
                runs = [getattr(event, "run", "")] if task is None else [state.run.id for state in task.subscribers]
                out.extend(Fault(run, error) for run in runs)
        self._settle()
        return out

    def _settle(self) -> None:
        """Let every step that has its inputs take its next step, then fill the lanes."""
        asked, ready, turns = self._asked, self._ready, ASK_AT_ONCE
        while ready or (asked and turns):
            if asked and turns:
                turns -= 1
                state = asked.pop()
                take = self._ask_sources
            else:
                state = ready.popleft()
                if state.waiting:  # it may have grown since, and wait again
                    continue
                take = self._begin if state.parts is None else self._assemble
            if state.state is WAITING:
                try:
                    take(state)
                except Exception as error:
                    self._out.append(Fault(state.run.id, error))
        if self._trash:
            del self._trash[-1][-FREE_AT_ONCE:]
            if not self._trash[-1]:
                self._trash.pop()
        if asked or self._trash:
            self._out.append(Pause())
        if self._fresh:
            for run in self._fresh.values():
                self._notify(run, "cached", "", {"nodes": run.cached})
                run.cached = []
            self._fresh.clear()
        self._fill_lanes()

    @staticmethod
    def keys(plan: Plan, run: str) -> Iterable[str]:
        """Keys whose presence is worth asking for before `Submit` or `Grown`."""
        return (fingerprint.run_key(step.key, run) if step.local else step.key for step in plan.steps)

    # --- events ---------------------------------------------------------------------------------------------------

    def _on_submit(self, event: Submit) -> None:
        if event.run in self.runs:
            return
        self._run_count += 1
        run = Run(event.run, self._run_count, event.priority, dict(event.present), event.accepted)
        self.runs[event.run] = run
        group = Group(run, event.plan, (), "", None)
        run.groups.append(group)
        self._notify(run, "started", "", {"nodes": len(event.plan.steps)})
        for index, step in enumerate(event.plan.steps) if event.breakpoints else ():
            if step.node in event.breakpoints:
                waiting = group.state(index)
                waiting.task = Breakpoint(waiting)
        for index in event.plan.targets:
            target = group.state(index)
            target.is_target = True
            run.targets.append(target)
        for target in run.targets:
            if target.state is IDLE and not self._cached(target):
                self._demand(target)
        for target in run.targets:
            if target.state is DONE:
                self._out.append(Output(run.id, target.id, target.key, target.shape, target.fleeting))
        self._maybe_end(run)

    def _on_accept(self, event: Accept) -> None:
        run = self.runs.get(event.run)
        if run is not None:
            run.accepted = True
            self._ready.extend(run.unaccepted)
            run.unaccepted.clear()

    def _on_done(self, event: Done) -> None:
        task = self._report(event.job)
        if task is None:
            return
        self._retire(task)
        key = task.key
        assert task.owner.step is not None
        self.lasted_ms[task.owner.step.type.id] = event.ms
        self.known[key] = event.shape
        if len(task.subscribers) == 1:
            self._complete(task.subscribers[0], event.shape, ms=event.ms)
            return
        self.holds[key] = (
            self.holds.get(key, 0) + 1
        )  # until every subscriber has it: the first one's run may end at once
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
                if source.key in gone and source.state is DONE and source.step is not None:
                    if source.held:
                        source.held = False
                        self._unhold(source.key)
                    source.state, source.parts = IDLE, None
            self._await_inputs(state, None)

    def _on_unstarted(self, event: Unstarted) -> None:
        task = self._report(event.job, began=False)
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
        self._stopped(event.job)

    def _on_cancel(self, event: Cancel) -> None:
        run = self.runs.get(event.run)
        if run is None or run.cancelled:
            return
        run.cancelled = True
        run.paused.clear()
        for state in run.every_state():
            if state.state is WAITING:
                self._cancel(state)
        run.open = 0
        self._maybe_end(run)

    def _on_continue(self, event: Continue) -> None:
        run = self.runs.get(event.run)
        if run is None:
            return
        for node in [event.node] if event.node else list(run.paused):
            state = run.paused.pop(node, None)
            if state is not None and state.state is WAITING:
                state.task = None
                self._notify(run, "continued", node, {})
                self._ready.append(state)

    def _on_prioritise(self, event: Prioritise) -> None:
        run = self.runs.get(event.run)
        if run is not None and run.priority != event.priority:
            run.priority = event.priority
            for lane in self._lanes:
                lane.reorder()

    def _on_hold(self, event: Hold) -> None:
        self.held = event.on

    def _on_resume(self, event: Resume) -> None:
        """Go on asking, in `_settle`."""


_HANDLERS: dict[type, Callable[[Scheduler, Any], None]] = {
    Submit: Scheduler._on_submit,
    Accept: Scheduler._on_accept,
    Done: Scheduler._on_done,
    Needed: Scheduler._on_needed,
    Grown: Scheduler._on_grown,
    Failed: Scheduler._on_failed,
    Lost: Scheduler._on_lost,
    Unstarted: Scheduler._on_unstarted,
    Stopped: Scheduler._on_stopped,
    GraceOver: Scheduler._on_grace_over,
    Cancel: Scheduler._on_cancel,
    Continue: Scheduler._on_continue,
    Prioritise: Scheduler._on_prioritise,
    Hold: Scheduler._on_hold,
    Resume: Scheduler._on_resume,
    Reminded: Scheduler._on_reminded,
}
