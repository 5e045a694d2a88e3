"""Reports: what executors say of their jobs becomes events for the scheduler, and values become artifacts in the vault.

The lower half of the runner: it decides nothing and starts nothing.
"""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from graph_engine.errors import AnyloomError, NodeError, OutOfMemory, WorkerLost
from graph_engine.execute.call import explain
from graph_engine.execute.executor import Interrupted, NotBegun, Outputs, Raised, Report
from graph_engine.execute.hooks import Hooks, internal_error
from graph_engine.graph import fingerprint
from graph_engine.graph.node import Effect
from graph_engine.graph.outcome import Grow, Need, Skip
from graph_engine.graph.plan import Plan, Unread, grow_plan
from graph_engine.graph.registry import Registry
from graph_engine.schedule.messages import Done, Event, Failed, Grown, Job, Needed, Resume, Stopped, Unstarted
from graph_engine.schedule.scheduler import Scheduler
from graph_engine.store.artifacts import Artifact, Shape
from graph_engine.store.vault import Vault
from graph_engine.telemetry import SLOW_S
from graph_engine.tuples import made

LOOK_UP_AT_ONCE = 500
SLOW_MS = 10.0


class Stamps(Protocol):
    """What identifies the content of files, for the keys of grown graphs."""

    def stamp(self, file: str) -> str:
        """Reads the file if need be."""

    def stamp_at_once(self, file: str) -> str:
        """Raises Unread where that would take long."""


class Reports(abc.ABC):
    def __init__(self, scheduler: Scheduler, vault: Vault, registry: Registry, stamps: Stamps, hooks: Hooks) -> None:
        self.scheduler, self.vault, self.registry, self.stamps, self.hooks = scheduler, vault, registry, stamps, hooks
        self.jobs: dict[int, Job] = {}
        """What executors have, or wait for values or memory."""
        self._loop = asyncio.get_running_loop()
        self._timed_out: set[int] = set()
        self._timed: set[str] = set()
        """Node types of which the engine was told how long they take."""

    # --- values -----------------------------------------------------------------------------------------------------

    async def present(self, run: str, plan: Plan) -> dict[str, Shape]:
        """What is there already of a plan; a large one is looked through in pieces."""
        keys = list(self.scheduler.keys(plan, run))
        foreign = self._foreign(plan, keys)
        present: dict[str, Shape] = {}
        if len(keys) > LOOK_UP_AT_ONCE:
            await asyncio.sleep(0)
        for start in range(0, len(keys), LOOK_UP_AT_ONCE):
            present |= self.vault.present(keys[start : start + LOOK_UP_AT_ONCE], foreign)
            if len(keys) > LOOK_UP_AT_ONCE:
                await asyncio.sleep(0)
        return present

    def _foreign(self, plan: Plan, keys: list[str]) -> set[str]:
        """Keys worth a look for a file that another process wrote: of types that are slow, as far as anybody knows.

        A very large workflow of unknown types is not looked for file by file: its own table must do.
        """
        if len(keys) > LOOK_UP_AT_ONCE:
            return set()
        lasted = self.scheduler.lasted_ms
        steps = zip(plan.steps, keys, strict=True)
        return {key for step, key in steps if step.type.lane != "inline" and lasted.get(step.type.id, 1e9) > SLOW_MS}

    def inputs(self, job: Job) -> dict[str, Any]:
        """The job's values by port, as far as they are in memory."""
        return self._inputs(job)[0]

    def _inputs(self, job: Job) -> tuple[dict[str, Any], list[str]]:
        """The job's values by port, and the keys of those that are not in memory."""
        values: dict[str, Any] = {}
        missing: list[str] = []
        find = self.vault.find
        for port, ref in job.inputs.items():
            if isinstance(ref, list):
                values[port] = entries = []
                for key, output, item in ref:
                    artifact = find(key)
                    if artifact is None:
                        missing.append(key)
                    else:
                        value = artifact.outputs[output]
                        entries.append(value if item is None else value[item])
                continue
            key, output, item = ref
            artifact = find(key)
            if artifact is None:
                missing.append(key)
                continue
            value = artifact.outputs[output]
            if item is not None:
                value = value[item]
            if isinstance(value, list) and (input := job.type.input(port)) is not None and input.as_list:
                value = [entry for entry in value if type(entry) is not Skip]
            values[port] = value
        return values, missing

    @abc.abstractmethod
    def report(self, job: int, report: Report) -> None:
        """Hear of a job; from any thread."""

    # --- reports become events ----------------------------------------------------------------------------------------

    def _event(self, number: int, report: Report) -> Event:
        job = self.jobs.pop(number, None)
        if job is None:
            return Stopped(number)
        if self._timed_out:
            timed_out = number in self._timed_out
            self._timed_out.discard(number)
        else:
            timed_out = False
        if isinstance(report, Outputs):
            try:
                return self._done(job, report)
            except Exception as fault:  # a value that nobody can measure, a journal that cannot be written
                self._loop.call_exception_handler({"message": f"the result of {job.type.id} broke", "exception": fault})
                return Failed(number, internal_error(fault))
        if isinstance(report, Need):
            return Needed(number, report.ports)
        if isinstance(report, Grow):
            try:
                return self._grown(job, report)
            except Unread as unread:  # a file that takes long to read; then it is reported again
                self.jobs[number] = job
                reading = self._loop.run_in_executor(None, self.stamps.stamp, *unread.args)
                reading.add_done_callback(lambda _: self.report(number, report))
                return Resume()
        if isinstance(report, Raised):
            error = report.error if isinstance(report.error, AnyloomError) else explain(report.error, job.type)
            again, problem = job.attempt <= job.type.needs.retries or isinstance(error, WorkerLost), error.to_dict()
            if isinstance(error, OutOfMemory):
                larger, numbers = self.hooks.too_large(job, error)
                again, problem["message"] = again or larger, f"{error.message} {numbers}".rstrip()
            return Failed(number, problem, again)
        if isinstance(report, NotBegun):
            return Unstarted(number)
        assert isinstance(report, Interrupted)
        if timed_out:
            return Failed(number, self._timeout_error(job), job.attempt <= job.type.needs.retries)
        return Stopped(number)

    def _done(self, job: Job, report: Outputs) -> Done:
        values, seconds = report
        artifact = Artifact.of(job.key, values, job.type.list_flags, seconds=seconds)
        self.vault.add(artifact, keep=not job.local)
        if job.type.effect is Effect.EXTERNAL:
            for run, _ in self.scheduler.watchers(job.id):
                self.hooks.journal(run, artifact)
        if seconds >= SLOW_S or job.type.id not in self._timed:
            self._timed.add(job.type.id)
            self.hooks.lasted(job, seconds)
        return made(Done, (job.id, artifact.shape, int(seconds * 1e6) / 1e3))

    def _grown(self, job: Job, grow: Grow) -> Event:
        own = {}
        for port, (ref, local) in self.scheduler.sources(job.id).items():
            input = job.type.input(port)
            assert input is not None
            own[port] = (":".join(str(part) for part in ref if part is not None), local, input.kind)
        # What it put into its graph is named after it. Where that holds for this run only, so must the name.
        parent = fingerprint.run_key(job.key, job.run) if job.local else job.key
        try:
            grown = grow_plan(grow, job.type, parent, own, job.literals, self.registry, self.stamps.stamp_at_once)
        except Unread:
            raise
        except Exception as error:
            return Failed(job.id, explain(error, job.type).to_dict())
        constants: dict[str, tuple[str, Shape]] = {}
        for name, (value, whole) in grown.constants.items():
            artifact = Artifact.of(fingerprint.constant_key(parent, name), (value,), (whole,))
            constants[name] = artifact.key, artifact.shape
            self.vault.hold(artifact)
        keys = list(self.scheduler.keys(grown.plan, job.run))
        present = self.vault.present(keys, self._foreign(grown.plan, keys))
        return Grown(job.id, grown, present, constants)

    @staticmethod
    def _timeout_error(job: Job) -> Mapping[str, Any]:
        error = NodeError(
            f"{job.type.id} took longer than its limit of {job.type.needs.timeout_s} s.",
            remedy="Give it less work or raise its limit.",
            code="timeout",
        )
        return error.to_dict()
