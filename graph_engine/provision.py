"""Provision: what memory is told of jobs: what each one needs, which models come next, and who waits for whom.

Between the scheduler, which knows what will run, and the memory of the devices, which knows what is there. On the
engine's loop.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graph_engine.errors import AnyloomError, OutOfMemory
from graph_engine.execute.runner import Runner
from graph_engine.execute.worker_models import Fleet
from graph_engine.graph.node import NodeType
from graph_engine.memory.ahead import Expected
from graph_engine.memory.reservations import Reservations, models_of, passes_of
from graph_engine.models.spec import ModelSpec
from graph_engine.schedule.messages import Job, Ref
from graph_engine.schedule.outlook import named_models, outlook, with_residents_first
from graph_engine.schedule.states import Task
from graph_engine.store.durations import Durations
from graph_engine.store.estimates import Estimates, row_of
from graph_engine.store.vault import Vault
from graph_engine.telemetry import SLOW_S


class Provision:
    """runner: set once there is one. waiting: jobs that there is no memory for, and since when."""

    runner: Runner

    def __init__(self, models: Fleet, folder: Path, vault: Vault, *, divided: bool) -> None:
        """folder: where what is learned of jobs is kept. divided: jobs of devices run in processes of their own."""
        self.models, self._vault, self._divided = models, vault, divided
        self.reservations, self._durations = Reservations(models, Estimates(folder)), Durations(folder)
        self.waiting: dict[int, tuple[Job, float]] = {}

    def working_bytes(self, type: NodeType, values: Mapping[str, Any], device: str) -> int:
        return self.reservations.working_bytes(type, values, device)

    def saw(self, type: NodeType, values: Mapping[str, Any], device: str, bytes: int) -> None:
        """A job took so many bytes beside its models. Any thread."""
        self.reservations.saw(type, values, device, bytes)

    def lasted(self, job: Job, seconds: float) -> None:
        """A job gave its values after so long."""
        if seconds >= SLOW_S:
            self.models.telemetry.lasted(job.type.id, seconds)
        values, device = {**job.literals, **self.runner.inputs(job)}, job.device or "cpu"
        for row in {self.reservations.row(job.type, values, device), any_size(job.type, device)}:
            self._durations.saw(row, seconds, passes_of(job.type, values))

    def usual_s(self, type: NodeType, values: Mapping[str, Any], device: str) -> float | None:
        """How long a job of this type and size may be expected to compute, where none of its size was seen one of any; None
        while there was none. A size that hangs on what is not computed yet is not known."""
        passes = passes_of(type, values)
        found = self._durations.usual_s(self.reservations.row(type, values, device), passes)
        return self._durations.usual_s(any_size(type, device), passes) if found is None else found

    def close(self) -> None:
        """Keeps what was learned."""
        self.reservations.close()
        self._durations.save()

    def admit(self, job: Job, inputs: Mapping[str, Any]) -> bool:
        """May the job begin? If not, `left` names it later."""
        device, process = job.device or "cpu", "" if job.device or not self._divided else "server "
        admitted = self.reservations.ask(job.id, job.key, device, job.type, job.literals, inputs, process)
        if not admitted:
            self.waiting[job.id] = (job, time.perf_counter())
        return admitted

    def left(self, job: int) -> list[int]:
        """The job is over, or will not begin; returns those that begin now."""
        begun = self.reservations.left(job)
        if self.waiting:
            self.waiting.pop(job, None)
            for number in begun:
                if (kept := self.waiting.pop(number, None)) is not None:
                    other, since = kept
                    device = other.device or "cpu"
                    self.models.telemetry.waited("memory", since, device, "", other.run, other.node)
        return begun

    def too_large(self, job: Job, error: AnyloomError) -> tuple[bool, str]:
        """It ran out of memory: whether to try once more, and the numbers for people."""
        assert isinstance(error, OutOfMemory)
        values = {**job.literals, **self.runner.inputs(job)}
        return self.reservations.too_large(job.id, job.key, job.type, values, job.device or "cpu", error)

    # --- what comes next ----------------------------------------------------------------------------------------------

    def expected(self, job: Job, models: Mapping[str, Any]) -> list[Expected]:
        """The models that a job of a device uses, and those that its run uses after it, as far as that is known."""
        task = self.runner.scheduler.jobs.get(job.id)
        mine = models_of(job.type, job.literals, models)
        found = [Expected(spec, 0) for spec in mine]
        upcoming = outlook(task.owner) if task is not None else []
        for one in with_residents_first(upcoming, lambda one: self._are_here(one.type, one.literals, one.models, mine)):
            again = min((use for use in one.again.values() if use is not None), default=None)
            arrived = self._arrived(one.models)
            working = self.working_bytes(one.type, {**one.literals, **arrived}, job.device)
            specs = models_of(one.type, one.literals, arrived)
            found += [Expected(spec, one.after, again, working) for spec in specs]
        return found

    def is_here(self, task: Task) -> bool:
        """Whether a task of a device finds all models it uses in memory."""
        step, models = task.owner.step, named_models(task.owner)
        return step is not None and models is not None and self._are_here(step.type, step.literals, models)

    def _are_here(
        self, type: NodeType, literals: Mapping[str, Any], models: Mapping[str, Ref], also: Sequence[ModelSpec] = ()
    ) -> bool:
        """also: what will be in memory by then."""
        wanted = models_of(type, literals, self._arrived(models))
        return all(spec in also or self.models.is_here(spec) for spec in wanted)

    def _arrived(self, models: Mapping[str, Ref]) -> dict[str, Any]:
        """The specs that references stand for, as far as they are in memory."""
        arrived: dict[str, Any] = {}
        for port, ref in models.items():
            artifact = self._vault.find(ref.key)
            if artifact is not None:
                value = artifact.outputs[ref.output]
                arrived[port] = value if ref.item is None else value[ref.item]
        return arrived


def any_size(type: NodeType, device: str) -> str:
    """The row of all jobs of a type on such a device."""
    return row_of(type.id, type.version, device, 0)
