"""Runner: carries out the scheduler's instructions on one asyncio loop, and tells it what happened.

Whatever threads report goes through one inbox, in order, and is worked off in slices of a few milliseconds, so that a run
of ten thousand steps leaves the loop to the doors in between (law P10).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from graph_engine.execute.events import EventLog
from graph_engine.execute.executor import Coming, Executor, NotBegun, Outputs, Raised, Report, Work
from graph_engine.execute.hooks import Hooks, internal_error
from graph_engine.execute.reports import Reports, Stamps
from graph_engine.graph import fingerprint
from graph_engine.graph.outcome import Skip
from graph_engine.graph.plan import Plan
from graph_engine.graph.registry import Registry
from graph_engine.schedule.messages import (
    Accept,
    Assemble,
    Cancel,
    Continue,
    Drop,
    Ended,
    Event,
    Failed,
    Fault,
    GraceOver,
    Hold,
    Instruction,
    Job,
    Lost,
    Notify,
    Output,
    Pause,
    Prioritise,
    Ref,
    Remind,
    Reminded,
    Resume,
    Start,
    Stop,
    Submit,
    Take,
)
from graph_engine.schedule.scheduler import Scheduler
from graph_engine.store.artifacts import Artifact, Shape
from graph_engine.store.vault import Vault
from graph_engine.tuples import made

SLICE_S = 0.001
"""How long the inbox is worked off before the loop gets two turns: an answer to a client takes it two."""

BURST = 32
"""Reports that the scheduler is told of at once: a fraction of a slice."""


class Runner(Reports):
    """Used on one loop. `post` and `report` may be called from any thread."""

    def __init__(
        self,
        scheduler: Scheduler,
        vault: Vault,
        registry: Registry,
        stamps: Stamps,
        grace_s: float,
        hooks: Hooks,
    ) -> None:
        super().__init__(scheduler, vault, registry, stamps, hooks)
        self.grace_s = grace_s
        self.executor: Executor
        self.logs: dict[str, EventLog] = {}
        self._inbox: deque[tuple[int, str, Any]] = deque()
        self._scheduled = False
        self.closing = False
        """Set once the engine closes: what ends is still heard, nothing begins."""
        self._admitted: set[int] = set()
        """Jobs that asked for memory and have not ended."""
        self._waiting: dict[int, Work] = {}
        """Jobs that there is no memory for at the moment."""
        self._fetching: set[asyncio.Task[None]] = set()
        self._late: dict[str, list[asyncio.Task[None]]] = {}
        self._torn: dict[str, list[str]] = {}
        """What could not be put together -> the parts that are gone."""
        self._unbegun: set[str] = set()
        """Runs that no job was begun of, or whose beginning is on its way to the disk."""
        self._counting: dict[str, asyncio.Future[bool]] = {}
        self._faults: dict[str, dict[str, Any]] = {}
        """run -> what broke in the engine itself; the run is ended by it"""
        self._ending: set[str] = set()
        """Runs whose end could not be told at the first try."""

    # --- from the engine --------------------------------------------------------------------------------------------

    def submit(
        self,
        run: str,
        plan: Plan,
        present: dict[str, Shape],
        log: EventLog,
        priority: int,
        journal: Iterable[Artifact] = (),
        breakpoints: frozenset[str] = frozenset(),
        accepted: bool = True,
    ) -> None:
        """Begin a run. journal: results that it has from elsewhere: pinned ones, and those of side effects that an earlier
        life of it already had.

        accepted: it is durable; if not yet, `accept` says so later.
        """
        self.logs[run] = log
        self._unbegun.add(run)
        for artifact in journal:
            self.vault.hold(artifact)
            present[artifact.key] = artifact.shape
        self._handle(Submit(run, plan, present, priority, breakpoints, accepted))

    def accept(self, run: str) -> None:
        self._handle(Accept(run))

    def tell(self, event: Continue | Prioritise | Hold) -> None:
        """What a person wants."""
        self._handle(event)

    def cancel(self, run: str) -> None:
        self._handle(Cancel(run))

    # --- from executors and nodes, any thread -----------------------------------------------------------------------

    def report(self, job: int, report: Report) -> None:
        self._put((job, "report", report))

    def post(self, job: int, type: str, data: dict[str, Any]) -> None:
        self._put((job, type, data))

    def _put(self, item: tuple[int, str, Any]) -> None:
        self._inbox.append(item)
        if not self._scheduled:
            self._scheduled = True
            with suppress(RuntimeError):  # the loop is closed; nobody waits for this news any more
                self._loop.call_soon_threadsafe(self._drain)

    # --- the loop ---------------------------------------------------------------------------------------------------

    def _handle(self, event: Event) -> None:
        """Tell the scheduler, carry out what it says, and work off what that put into the inbox at once."""
        busy, self._scheduled = self._scheduled, True
        self._carry_out(self.scheduler.handle(event))
        if not busy:
            self._drain()

    def _drain(self) -> None:
        """Work off the inbox for one slice."""
        inbox, end = self._inbox, time.perf_counter() + SLICE_S
        self._scheduled = True  # so that nobody wakes the loop for what is seen here anyway
        while inbox:
            job, type, data = inbox.popleft()
            if type == "report":
                events = [self._heard(job, data)]
                while inbox and inbox[0][1] == "report" and len(events) < BURST:
                    job, _, data = inbox.popleft()
                    events.append(self._heard(job, data))
                self._carry_out(self.scheduler.handle(*events))
            elif type == "resume":
                self._carry_out(self.scheduler.handle(Resume()))
            elif type == "broken":
                self._carry_out(self.scheduler.handle(Cancel(data)))
            else:
                for run, node in self.scheduler.watchers(job):
                    self._log(run, type, node, data)
            if time.perf_counter() > end:
                break
        if not inbox:
            self._scheduled = False
            if not inbox or self._scheduled:
                return
            self._scheduled = True  # somebody reported in between and relied on us
        self._loop.call_soon(self._loop.call_soon, self._drain)

    def _heard(self, job: int, report: Report) -> Event:
        try:
            event = self._event(job, report)
            if job in self._admitted:
                self._admitted.discard(job)
                self._left(job)
            return event
        except Exception as fault:  # the reports behind it are of other runs: they must be heard
            self._loop.call_exception_handler({"message": f"the engine broke at {report!r:.200}", "exception": fault})
            self.jobs.pop(job, None)
            return Failed(job, internal_error(fault))

    def _log(self, run: str, type: str, node: str, data: dict[str, Any]) -> None:
        log = self.logs.get(run)
        if log is not None:
            log.add(type, node, data)

    # --- instructions are carried out -----------------------------------------------------------------------------------

    def _carry_out(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            try:
                if isinstance(instruction, Notify):
                    run, kind, node, data = instruction
                    if (log := self.logs.get(run)) is not None:
                        log.add(kind, node, data)
                elif isinstance(instruction, Start):
                    self._start(*instruction)
                elif isinstance(instruction, Drop):
                    if instruction.key not in self.scheduler.holds:  # else another event of the same burst took it up
                        self.vault.drop(instruction.key)
                        self._torn.pop(instruction.key, None)
                else:
                    _REST[type(instruction)](self, instruction)
            except Exception as error:  # the other instructions are of other runs: they must be carried out
                self._broke(instruction, error)

    def _broke(self, instruction: Instruction, error: Exception) -> None:
        """Something in the engine itself or in a hook failed: say so, and fail the run it was for."""
        self._loop.call_exception_handler({"message": f"the engine broke at {instruction!r:.200}", "exception": error})
        if isinstance(instruction, Start):
            self.jobs[instruction.job.id] = instruction.job
            self.report(instruction.job.id, Raised(error))
            self._leave(instruction.then)
        elif isinstance(instruction, Ended):
            if instruction.run not in self._ending:  # once more, as failed; whoever waits must hear of an end
                self._ending.add(instruction.run)
                self._faults.setdefault(instruction.run, internal_error(error))
                self._carry_out([instruction])
                self._ending.discard(instruction.run)
        elif (run := getattr(instruction, "run", None)) is not None:
            self._faults.setdefault(run, internal_error(error))
            self._put((0, "broken", run))

    def _start(self, job: Job, then: tuple[Job, ...]) -> None:
        self.jobs[job.id] = job
        found = (
            None if job.local else self.vault.find(job.key)
        )  # another run may have made it since this one was planned
        inputs, missing = ({}, []) if found is not None else self._inputs(job)
        if then and (found is not None or missing):
            self._leave(then)
            then = ()
        if found is not None:
            self.report(job.id, Outputs(found.outputs, found.seconds))
            return
        if job.run in self._unbegun and (counting := self._count(job.run)) is not None:
            counting.add_done_callback(lambda _: self._carry_out([Start(job, then)]))
            return
        if missing:
            task = self._loop.create_task(self._fetch(job, missing))
            self._fetching.add(task)
            task.add_done_callback(self._fetching.discard)
            return
        works = self._following(job, then) if then else ()
        if job.type.bare and not self.closing:
            self.executor.start(made(Work, (job, inputs, None, works)))
        else:
            self._begin(job, inputs, works)

    def _count(self, run: str) -> asyncio.Future[bool] | None:
        """The run begins its first job. A node may end the process at once, and that must have been counted (law P14)."""
        counting = self._counting.get(run)
        if counting is None and (counting := self.hooks.begun(run)) is not None:
            self._counting[run] = counting
        if counting is not None and not counting.done():
            return counting
        self._counting.pop(run, None)
        self._unbegun.discard(run)
        return None

    def _leave(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            self.jobs[job.id] = job
            self.report(job.id, NotBegun())

    def _following(self, before: Job, then: tuple[Job, ...]) -> tuple[Work, ...]:
        """What the thread may go on with: as much of it as has its other values in memory and is not there already."""
        works: list[Work] = []
        for index, job in enumerate(then):
            coming = {port: ref for port, ref in job.inputs.items() if type(ref) is Ref and ref.key == before.key}
            rest = {port: ref for port, ref in job.inputs.items() if port not in coming}
            inputs, missing = self._inputs(job._replace(inputs=rest)) if rest else ({}, [])
            if missing or (not job.local and self.vault.find(job.key) is not None):
                self._leave(then[index:])
                break
            self.jobs[job.id] = job
            works.append(Work(job, {**inputs, **{port: Coming(ref.output) for port, ref in coming.items()}}, None))
            before = job
        return tuple(works)

    def _begin(self, job: Job, inputs: dict[str, Any], then: tuple[Work, ...] = ()) -> None:
        if self.closing:
            return
        needs_memory = bool(job.type.context_name or job.type.needs.working_bytes)
        context = self.hooks.context(job, inputs) if needs_memory else None
        work = Work(job, inputs, context, then)
        if needs_memory:
            self._admitted.add(job.id)
            if not self.hooks.admit(job, inputs):
                self._waiting[job.id] = work
                return
        self._go(work)

    def _go(self, work: Work) -> None:
        job = work.job
        if job.type.needs.timeout_s is not None:
            self._loop.call_later(job.type.needs.timeout_s, self._time_out, job.id)
        self.executor.start(work)

    def _left(self, number: int) -> None:
        """The job takes no memory any more; others may begin that waited for it."""
        for other in self.hooks.left(number):
            work = self._waiting.pop(other, None)
            if work is not None and not self.closing:
                self._go(work)

    async def _fetch(self, job: Job, keys: list[str]) -> None:
        """Values that lie on disk only. What turns out to be gone is computed again."""
        try:
            await self._bring(job, keys)
        except Exception as error:
            self._broke(Start(job), error)

    async def _bring(self, job: Job, keys: list[str]) -> None:
        gone = [key for key in keys if not await self.vault.fetch(key)]
        for key in keys:
            if key not in self.scheduler.holds:  # its run ended meanwhile
                self.vault.drop(key)
        if job.id not in self.jobs:
            return
        inputs, missing = self._inputs(job)
        if missing:
            del self.jobs[job.id]
            self._handle(Lost(job.id, tuple(self._with_parts(gone or missing))))
        else:
            self._begin(job, inputs)

    def _with_parts(self, gone: list[str]) -> list[str]:
        """And the parts for want of which they are: those must be made anew as well."""
        found = list(gone)
        for key in found:
            found += self._torn.pop(key, ())
        return found

    def _take(self, instruction: Take) -> None:
        self.vault.find(instruction.key)

    def _pause(self, instruction: Pause) -> None:
        self._loop.call_soon(self._put, (0, "resume", None))

    def _remind(self, instruction: Remind) -> None:
        self._loop.call_later(instruction.seconds, self._handle, Reminded(instruction.key))

    def _stop(self, instruction: Stop) -> None:
        self.executor.stop(instruction.job)
        waiting = self._waiting.pop(instruction.job, None)
        if waiting is not None:
            self.executor.start(waiting)  # which reports that it was interrupted
        self._loop.call_later(self.grace_s, self._grace_over, instruction.job)

    def _grace_over(self, job: int) -> None:
        if job in self.jobs:
            self.executor.abandon(job)
            self._handle(GraceOver(job))

    def _time_out(self, job: int) -> None:
        if job in self.jobs and job not in self._timed_out:
            self._timed_out.add(job)
            self.executor.stop(job)
            self._loop.call_later(self.grace_s, self._give_up, job)

    def _give_up(self, number: int) -> None:
        job = self.jobs.pop(number, None)
        if job is not None:
            self.executor.abandon(number)
            self._timed_out.discard(number)
            self._handle(Failed(number, self._timeout_error(job), job.attempt <= job.type.needs.retries))

    def _assemble(self, instruction: Assemble) -> None:
        missing: list[str] = []

        def value(part: Any) -> Any:
            if isinstance(part, Ref):
                artifact = self.vault.read(part.key)
                if artifact is None:  # a file that vanished between being seen and being needed
                    missing.append(part.key)
                    return None
                found = artifact.outputs[part.output]
                return found if part.item is None else found[part.item]
            return [value(one) for one in part] if isinstance(part, list) else part

        outputs = tuple(value(part) for part in instruction.outputs)
        if missing:  # whoever wants it will find that it is not there, and have it made anew
            self._torn[instruction.key] = missing
            return
        flags = tuple(isinstance(part, list) for part in instruction.outputs)
        self.vault.add(Artifact.of(instruction.key, outputs, flags), keep=instruction.keep)

    def _output(self, instruction: Output) -> None:
        run, node, key, shape, fleeting = instruction
        skipped = not shape or (type(shape[0]) is Skip and all(isinstance(port, Skip) for port in shape))
        artifact = None if skipped else self.vault.find(key)
        if fleeting and artifact is not None:  # it may be kept to be fetched, and must not be taken for the next run's
            artifact = artifact._replace(key=fingerprint.run_key(key, run))
        if skipped or artifact is not None:
            self.hooks.output(run, node, artifact, shape)
        else:
            self._late.setdefault(run, []).append(self._loop.create_task(self._late_output(instruction)))

    async def _late_output(self, instruction: Output) -> None:
        """The result of a target that lies on disk only; the end of the run waits for it."""
        run, node, key, shape, _ = instruction
        try:
            await self.vault.fetch(key)
            self.hooks.output(run, node, self.vault.find(key), shape)
        except Exception as error:
            self._broke(instruction, error)
        finally:
            self.vault.drop(key)

    def _fault(self, instruction: Fault) -> None:
        raise instruction.error

    def _ended(self, instruction: Ended) -> None:
        late = self._late.pop(instruction.run, None)
        if late:
            whole = asyncio.gather(*late, return_exceptions=True)
            whole.add_done_callback(lambda _: self._ended(instruction))
            return
        run, status, errors = instruction
        fault = self._faults.pop(run, None)
        if fault is not None:
            status, errors = "failed", [*errors, fault]
        if run in self._unbegun:  # everything was there already
            self._unbegun.discard(run)
            if self._counting.pop(run, None) is None:
                self.hooks.begun(run)
        self.hooks.ended(run, status, errors)
        self.logs.pop(run, None)


_REST: dict[type, Callable[[Runner, Any], None]] = {
    Stop: Runner._stop,
    Take: Runner._take,
    Pause: Runner._pause,
    Remind: Runner._remind,
    Assemble: Runner._assemble,
    Output: Runner._output,
    Ended: Runner._ended,
    Fault: Runner._fault,
}
