"""Dispatch: tasks wait in lanes, become jobs, and report. One task per key, however many steps want it."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

from graph_engine.schedule.ledger import Ledger
from graph_engine.schedule.messages import NOTHING, Job, Notify, Ref, Start, Stop
from graph_engine.schedule.policy import Lane
from graph_engine.schedule.states import StepState, Task
from graph_engine.schedule.wiring import make_job, may_follow, order_of, refs_of
from graph_engine.tuples import made

QUICK_MS = 0.2

FOLLOW_AT_ONCE = 32
"""Steps that one thread may do in a row before the scheduler has its say."""


class Dispatch(Ledger):
    def __init__(self, lanes: Mapping[str, int], devices: tuple[str, ...]) -> None:
        super().__init__()
        self.lanes = {name: Lane(name, slots) for name, slots in lanes.items()}
        self.lanes["device"] = Lane("device", len(devices), devices)
        self._lanes = tuple(self.lanes.values())
        self.tasks: dict[str, Task] = {}
        self.jobs: dict[int, Task] = {}
        self._job_count = 0
        self.held = False
        """No job is started."""
        self._new: list[Task] = []
        """Tasks that became ready while the present events were handled."""
        self.lasted_ms: dict[str, float] = {}
        """Node type -> how long its last job took."""
        self._heard: Task | None = None
        """The task that the present event is about."""

    def watchers(self, job: int) -> list[tuple[str, str]]:
        """(run, node) of every step that waits for this job; who gets its progress."""
        task = self.jobs.get(job)
        return [(state.run.id, state.id) for state in task.subscribers] if task is not None else []

    def sources(self, job: int) -> dict[str, tuple[Ref, bool]]:
        """Linked port -> (what is linked, whether that holds for this run only), for the keys of growth."""
        task = self.jobs.get(job)
        return refs_of(task.owner) if task is not None and not task.dead else {}

    def _fill_lanes(self) -> None:
        new = self._new
        if new:
            alone, lane = len(new) == 1 and not self.held, self.lanes[new[0].lane]
            if alone and not new[0].dead and lane.admit(new[0].owner.group.run):
                self._start(new[0], lane)
            else:
                for one in new:
                    self.lanes[one.lane].push(one, one.owner.group.run, order_of(one.owner))
            new.clear()
        if self.held:
            return
        for lane in self._lanes:
            while lane.queue and lane.slots > 0 and (task := lane.pop()) is not None:
                self._start(task, lane)

    def _enqueue(self, task: Task) -> None:
        task.job = 0
        self.tasks[task.key] = task
        for run, state in {state.run: state for state in task.subscribers}.items():
            self.lanes[task.lane].push(task, run, order_of(state))

    def _retire(self, task: Task) -> None:
        """The task is over; what is left of it in the lanes is passed over."""
        task.dead = True
        if self.tasks.get(task.key) is task:
            del self.tasks[task.key]

    def _start(self, task: Task, lane: Lane) -> None:
        if lane.devices and not self._choose_device(task, lane):
            return
        self._job_count += 1
        task.job = self._job_count
        task.weight = self._weight(task) if lane.name == "pool" else 1.0
        lane.slots -= task.weight
        task.device = lane.devices.pop(0) if lane.devices else ""
        task.has_slot = True
        self.jobs[task.job] = task
        job = make_job(task)
        self._out.append(made(Start, (job, self._followers(task) if lane.name == "pool" else ())))
        data: dict[str, Any] = {"attempt": task.attempt} if task.attempt > 1 else NOTHING
        if task.device:
            data = {**data, "device": task.device}
        for state in task.subscribers:
            self._out.append(made(Notify, (state.group.run.id, "running", state.id, data)))

    def _weight(self, task: Task) -> float:
        """Jobs that take next to no time may queue up eight to a thread, or the thread would wait for each of them."""
        assert task.owner.step is not None
        return 0.125 if self.lasted_ms.get(task.owner.step.type.id, 1.0) < QUICK_MS else 1.0

    def _followers(self, task: Task) -> tuple[Job, ...]:
        """The steps that the thread of this task may go on with."""
        if len(task.owner.readers) != 1:
            return ()
        jobs: list[Job] = []
        while len(jobs) < FOLLOW_AT_ONCE and len(task.subscribers) == 1:
            state = task.owner
            assert state.step is not None
            if len(state.readers) != 1 or state.item is not None or state.step.type.list_flags:
                break
            reader = state.readers[0]
            if not may_follow(state, reader) or reader.key in self.tasks or reader.key in self.known:
                break
            following = Task(reader.key, reader, "pool")
            self._job_count += 1
            following.job, following.weight = self._job_count, task.weight
            task.has_slot, following.has_slot, following.follows = False, True, True
            self.tasks[following.key] = following
            self.jobs[following.job] = following
            reader.task = following
            jobs.append(make_job(following, state))
            task = following
        return tuple(jobs)

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

    def _report(self, job: int, *, began: bool = True) -> Task | None:
        """A job came to an end: free its place. None when nobody waits for its result (P3)."""
        task = self.jobs.pop(job, None)
        if task is None:
            return None
        self._heard = task
        lane = self.lanes[task.lane]
        if task.has_slot:
            task.has_slot = False
            lane.slots += task.weight
        if task.device:
            lane.devices.append(task.device)
        task.job = 0
        if task.dead:
            self._stopped(job)
            self._release_unheld(task.key)
            return None
        if task.follows and began:
            for state in task.subscribers:
                self._notify(state.run, "running", state.id, NOTHING)
        return task

    @abc.abstractmethod
    def _choose_device(self, task: Task, lane: Lane) -> bool:
        """Bring the device that the task is to have to the front of those that are free. False when it waits for another."""

    @abc.abstractmethod
    def _stopped(self, job: int) -> None:
        """A job that nobody wants any more has ended, or is not waited for any longer."""
