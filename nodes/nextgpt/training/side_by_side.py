"""Stages of a recipe side by side, in processes of their own: what waits for nobody is trained at once.

A small model keeps a processor of several cores, or an accelerator, waiting most of the time: one stage alone cannot give
either enough to do. Each stage gives what it gives alone, bit for bit, since its seeds are its own and it waits for those
whose weights it reads (`dependencies.py`).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from graph_engine.errors import WorkerLost
from nodes.nextgpt.training.dependencies import dependencies, urgency
from nodes.nextgpt.training.loop import OnEvent, Report, log, train
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import Plan


@dataclass(frozen=True)
class Site:
    """Where a recipe is trained: its folder, where published weights lie, and the devices, handed to processes in turn."""

    folder: Path
    models_dir: Path
    devices: Sequence[str]


def train_side_by_side(
    plans: Mapping[str, Plan],
    site: Site,
    processes: int,
    *,
    resume: bool = False,
    seconds: float | None = None,
    on_event: OnEvent | None = None,
    on_report: Callable[[Report], None] | None = None,
) -> list[Report]:
    """Follow all plans (in the order of the recipe), up to `processes` at a time; reports in the order of their ends.

    After `seconds`, and on Ctrl-C, every stage saves where it is; Ctrl-C is raised again. A stage that fails takes along
    only those that wait for it; what it raised is raised when the others are done. Raises WorkerLost for a process that
    died (of memory, mostly), and what `train` raises.
    """
    yard = _Yard(plans, site, processes, resume, seconds)
    reports: list[Report] = []
    try:
        while yard.begin_what_can():
            for kind, told in yard.hear():
                if kind == "event" and on_event is not None:
                    on_event(told)
                elif kind == "report":
                    reports.append(told)
                    if on_report is not None:
                        on_report(told)
    finally:
        yard.close()
    if yard.failed:
        raise next(iter(yard.failed.values()))
    return reports


class _Yard:
    """The processes, and which stages are left, under way, finished or failed."""

    def __init__(
        self, plans: Mapping[str, Plan], site: Site, processes: int, resume: bool, seconds: float | None
    ) -> None:
        self.plans, self.site, self.resume = plans, site, resume
        self.until = None if seconds is None else time.monotonic() + seconds
        self.waits = dependencies(plans)
        urgent = urgency(plans, self.waits)
        self.left = sorted(plans, key=lambda name: -urgent[name])
        self.finished: set[str] = set()
        self.failed: dict[str, BaseException] = {}
        self._processes = processes
        self._context = multiprocessing.get_context("spawn")
        self._stop = self._context.Event()
        self._hands: list[_Hand] = []
        self._made = 0

    def begin_what_can(self) -> bool:
        """Hands stages that wait for nobody to processes that have none. Whether anything is under way."""
        for name in [name for name in self.left if self.waits[name] <= self.finished]:
            if self.until is not None and time.monotonic() > self.until:
                break
            hand = next((hand for hand in self._hands if hand.stage is None), None)
            if hand is None and len(self._hands) < self._processes:
                hand = self._new_hand()
            if hand is None:
                break
            hand.stage = name
            self.left.remove(name)
            with contextlib.suppress(OSError):  # a process that has died says so when it is listened to
                hand.pipe.send((name, self.plans[name], self.resume, self.until))
        return any(hand.stage for hand in self._hands)

    def _fail(self, stage: str, error: BaseException) -> None:
        """Only the first one is raised, at the end; each is told at once."""
        self.failed[stage] = error
        log.error("%s failed: %s", stage, error)

    def hear(self) -> list[tuple[str, Any]]:
        """What processes say next: "event" and its facts, or "report" and the Report of a stage that ended."""
        ready = wait([hand.pipe for hand in self._hands if hand.stage])
        told: list[tuple[str, Any]] = []
        for hand in [hand for hand in self._hands if hand.pipe in ready]:
            stage = hand.stage or ""
            try:
                kind, what = hand.pipe.recv()
            except (EOFError, OSError):
                hand.process.join()
                self._hands.remove(hand)
                code = hand.process.exitcode
                lost = WorkerLost(
                    f"the process that trained {stage} ended with code {code}.",
                    remedy="If memory was short, train fewer stages at a time. Go on with --resume from the last snapshot.",
                )
                self._fail(stage, lost)
                continue
            if kind != "event":
                hand.stage = None
            if kind == "failed":
                self._fail(stage, what)
                # The process ends: what failed on a device may have left nothing there that works.
                hand.process.join()
                self._hands.remove(hand)
                continue
            if kind == "report" and what.status != "stopped":
                self.finished.add(stage)
            told.append((kind, what))
        return told

    def close(self) -> None:
        """Lets every stage save where it is, and waits for that."""
        self._stop.set()
        for hand in self._hands:
            hand.pipe.close()
        for hand in self._hands:
            hand.process.join()

    def _new_hand(self) -> _Hand:
        device = self.site.devices[self._made % len(self.site.devices)]
        threads = max(1, len(os.sched_getaffinity(0)) // self._processes)
        own, others = self._context.Pipe()
        process = self._context.Process(
            target=_work, args=(others, self._stop, self.site, device, threads, os.getpid()), daemon=True
        )
        process.start()
        others.close()
        self._made += 1
        self._hands.append(_Hand(process, own))
        return self._hands[-1]


@dataclass
class _Hand:
    process: Any
    pipe: Connection
    stage: str | None = None


def _work(pipe: Connection, stop: Any, site: Site, device: str, threads: int, parent: int) -> None:
    """One process: stages as they are handed to it, until there are no more or nobody is left to hear of them."""
    import torch

    # Ctrl-C reaches every process of a terminal; the parent alone decides, and tells.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)

    def stopped() -> bool:
        return stop.is_set() or os.getppid() != parent

    def say(kind: str, what: object) -> None:
        try:
            pipe.send((kind, what))
        except OSError:  # the parent is gone, or hears no more; what was trained is in the folder
            stop.set()

    while True:
        try:
            name, plan, resume, until = pipe.recv()
        except (EOFError, OSError):
            return
        # Anew for each stage: what another process left in the folder is read from there.
        parts = Parts(plan.preset, site.folder, site.models_dir, device, plan.seed, not plan.own_weights)
        try:
            report = train(
                plan,
                parts,
                name,
                resume=resume,
                # The clock is one for all processes, and importing took some of the time.
                seconds=None if until is None else max(0.0, until - time.monotonic()),
                on_event=lambda event: say("event", dict(event)),
                stopped=stopped,
            )
        except Exception as error:  # whatever it is, it is raised where the recipe is followed
            say("failed", _sendable(error))
            return
        say("report", report)


def _sendable(error: Exception) -> Exception:
    """The error, or what it says, where it holds what cannot go to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # any class may have any reason
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
