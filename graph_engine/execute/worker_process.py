"""The inside of a device's process: it has node types, models and folders of its own, and does one job after the other.

The main thread works; another one listens, so that a job hears at once that it should stop. The process ends with the
server, whatever happens to that: when its end of the socket closes, and by the kernel's word (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

from graph_engine.errors import AnyloomError
from graph_engine.execute.call import call, explain
from graph_engine.execute.context import JobContext
from graph_engine.execute.executor import Interrupted, Raised, Report, Work
from graph_engine.execute.worker_forms import job_from, report_form
from graph_engine.execute.worker_models import holdings_form
from graph_engine.execute.worker_parcel import Parcel
from graph_engine.execute.worker_wire import Message, Wire
from graph_engine.graph.registry import Registry
from graph_engine.memory.ahead import Expected
from graph_engine.memory.devices import is_host
from graph_engine.memory.divided import DividedPool
from graph_engine.models.catalog import Catalog
from graph_engine.models.spec import ModelSpec
from graph_engine.schedule.messages import Job
from graph_engine.store.folders import Folders

PR_SET_PDEATHSIG = 1
DEAF = 70
"""Exit code, as sysexits.h has it for what should not happen."""
Task = tuple[int, Parcel, int]
SPANS_AT_ONCE = 1_000
NOTES_S = 0.25
"""How long what was noted may lie here while a job goes on."""


class TellingPool(DividedPool):
    """Says so when it has loaded a model, in the middle of a job: that may take most of its time."""

    def __init__(self, catalog: Catalog, budgets: Mapping[str, int], tell: Callable[[], None]) -> None:
        super().__init__(catalog, budgets)
        self._tell = tell

    def lease(self, spec: ModelSpec, device: str, next_use: int | None = None) -> Any:
        before = self.loads
        module = super().lease(spec, device, next_use)
        if self.loads != before:
            self._tell()
        return module


class Process:
    """One per process. setup: device, budgets, room_bytes (0: ask the device), custom_nodes, scratch."""

    def __init__(self, wire: Wire, setup: Mapping[str, Any]) -> None:
        self._wire = wire
        self._device: str = setup["device"]
        self._scratch = Path(setup["scratch"])
        if not is_host(self._device):
            import torch  # what a node asks for before it says where must not open another process's device

            torch.cuda.set_device(torch.device(self._device))
        self._registry = Registry.discover([Path(folder) for folder in setup["custom_nodes"]])
        budgets = dict(setup["budgets"])
        if setup["room_bytes"]:
            budgets[self._device] = setup["room_bytes"]
        self._models = TellingPool(Catalog.discover(), budgets, self._tell)
        self._folders: dict[tuple[str, ...], Folders] = {}
        self._tasks: SimpleQueue[Task | Literal["warm"] | None] = SimpleQueue()
        self._libraries = deque(self._registry.libraries)
        self._warming = False
        self._contexts: dict[int, JobContext] = {}
        self._stopped: set[int] = set()
        self._told: dict[str, Any] = {}
        self._noted_s = 0.0
        self._answered: tuple[float, float] | None = None
        """Of the message from the server that took least time as far as the clocks say: when it was sent, and when it was
        here."""

    def work(self) -> None:
        """In the main thread, until the server says that it is over."""
        threading.Thread(target=self._listen, name="listen", daemon=True).start()
        self._tell()
        while (task := self._tasks.get()) is not None:
            if task == "warm":
                self._warm()
            else:
                self._do(*task)

    def _warm(self) -> None:
        """Import what jobs will, one library after the other, as long as there is no job. In the thread of the jobs: libraries
        that import lazily break when two threads make them do it at once."""
        while self._libraries:
            if not self._tasks.empty():
                self._tasks.put("warm")
                return
            self._warming = True
            with suppress(Exception):  # whatever it is, the job that needs it will meet it and say what is wrong
                importlib.import_module(self._libraries.popleft())
            self._warming = False
        self._wire.send("warm")

    # --- one job --------------------------------------------------------------------------------------------------------

    def _do(self, number: int, parcel: Parcel, extra_bytes: int) -> None:
        self._wire.send("begun", number)
        self._models.take(self._device, extra_bytes)
        job: Job | None = None
        try:
            form = parcel.opened()
            job = job_from(form, self._registry)
            context = self._context(job, form)
            report: Report = Interrupted() if number in self._stopped else call(Work(job, form["inputs"], context))
        except AnyloomError as error:
            report = Raised(error)
        except Exception as error:  # memory that is not there for what arrived
            report = Raised(
                AnyloomError(f"{type(error).__name__}: {error}.") if job is None else explain(error, job.type)
            )
        self._answer(number, job, report)

    def _context(self, job: Job, form: Mapping[str, Any]) -> JobContext | None:
        given = form.get("context")
        if given is None:
            return None
        models = {port: form["inputs"][port] for port in job.next_use if port in form["inputs"]}
        context = self._contexts[job.id] = JobContext(
            job,
            given["document"],
            self._folders_of(given["folders"]),
            Path(given["models_dir"]),
            self._models,
            self._post,
            models,
            given["working_bytes"],
            None if given["expected"] is None else [Expected(*one) for one in given["expected"]],
            lambda bytes: self._wire.send("saw", job.id, bytes),
            scratch_root=self._scratch,
        )
        if job.id in self._stopped:  # the word came while it was made
            context.stop()
        return context

    def _folders_of(self, roots: Mapping[str, str]) -> Folders:
        key = (roots["input"], roots["output"], roots["temp"])
        found = self._folders.get(key)
        if found is None:
            found = self._folders[key] = Folders(*map(Path, key))
        return found

    def _answer(self, number: int, job: Job | None, report: Report) -> None:
        context = self._contexts.pop(number, None)
        if context is not None:
            context.release()
        self._stopped.discard(number)
        name = job.type.id if job is not None else "the job"
        try:
            parcel = Parcel.of(report_form(report), f"what {name} gave")
        except AnyloomError as error:
            parcel = Parcel.of(report_form(Raised(_not_sent(error, name))))
        except MemoryError as error:
            failed = explain(error, job.type) if job is not None else AnyloomError(str(error))
            parcel = Parcel.of(report_form(Raised(failed)))
        del report, context  # what the node gave is in the parcel; nothing is kept here
        self._tell()
        self._note()
        try:
            self._wire.send("report", number, parcel.tree, parcel.body, fd=parcel.fd)
        finally:
            parcel.drop()

    def _post(self, job: int, type: str, data: dict[str, Any]) -> None:
        self._wire.send("post", job, type, data)
        if time.perf_counter() - self._noted_s > NOTES_S:
            self._note()

    def _note(self) -> None:
        """What happened to memory and time since the last word of it."""
        self._noted_s = time.perf_counter()
        while spans := self._models.telemetry.taken(SPANS_AT_ONCE):
            self._wire.send("spans", spans, time.perf_counter(), *(self._answered or ()))

    def _tell(self) -> None:
        """What models there are, when that has changed."""
        form = holdings_form(self._models, self._device)
        if form != self._told:
            self._told = form
            self._wire.send("memory", form)

    # --- what the server says ---------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        try:
            while True:
                self._hear(self._wire.receive())
        except (EOFError, ConnectionError):  # the server is gone; nobody wants what the main thread is at
            os._exit(0)
        except BaseException:  # deaf, it would be of no use
            traceback.print_exc()
            os._exit(DEAF)

    def _hear(self, message: Message) -> None:
        kind, *rest = message.parts
        if kind == "job":
            number, tree, body, extra_bytes, sent = rest
            here = time.perf_counter()
            if self._answered is None or sent - here > self._answered[0] - self._answered[1]:
                self._answered = (sent, here)
            self._tasks.put((number, Parcel(tree, body, message.fd), extra_bytes))
        elif kind == "stop":
            self._stop(rest[0])
        elif kind == "give":
            self._wire.send("given", self._models.give(self._device, rest[0]))
        elif kind == "forget":
            self._models.forget(rest[0])
        elif kind == "clear":
            self._models.clear(*rest)
        elif kind == "close":
            self._close()
        elif kind == "warm":
            self._tasks.put("warm")

    def _stop(self, job: int) -> None:
        self._stopped.add(job)
        context = self._contexts.get(job)
        if context is not None:
            context.stop()
        for old in sorted(self._stopped)[:-100]:  # of jobs that had ended when the word came
            self._stopped.discard(old)

    def _close(self) -> None:
        if self._warming:  # there is no job that would have to end, and an import cannot be told to
            os._exit(0)
        self._tasks.put(None)
        for context in list(self._contexts.values()):
            context.stop()


def _not_sent(error: AnyloomError, name: str) -> AnyloomError:
    return AnyloomError(
        f"{error.message.rstrip('.')}: so {name} cannot hand it to another process.",
        remedy="Give plain values, tensors or arrays, or start the server with --workers none.",
        code=error.problem.code,
    )


def _die_with(parent: int) -> None:
    """Raises SystemExit when the parent is gone already."""
    with suppress(OSError, AttributeError):  # a system without prctl: the socket must do
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit("the server was gone before this process began")


def main(end: int, parent: int) -> None:
    """end: descriptor of this side of the socket pair; parent: pid of the server."""
    _die_with(parent)
    faulthandler.enable(all_threads=False)
    wire = Wire(socket.socket(fileno=end))
    try:
        _, setup = wire.receive().parts
        Process(wire, setup).work()
    except (EOFError, ConnectionError):  # the server went away
        pass
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
