"""The context that the engine gives to a node: everything goes to the runner, nothing is global."""

from __future__ import annotations

import math
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from graph_engine.graph.context import NodeContext
from graph_engine.memory.ahead import Expected
from graph_engine.memory.devices import torch_name
from graph_engine.memory.pool import ModelPool
from graph_engine.schedule.messages import Job
from graph_engine.store.folders import Folders

Post = Callable[[int, str, dict[str, Any]], None]
"""(job, type, data): hand an event to the runner, from any thread."""


class JobContext(NodeContext):
    """One per job whose node asks for it."""

    def __init__(
        self,
        job: Job,
        document: Mapping[str, Any] | None,
        folders: Folders,
        models_dir: Path,
        pool: ModelPool,
        post: Post,
        models: Mapping[str, Any] | None = None,
        working_bytes: int = 0,
        expected: Sequence[Expected] | None = None,
        saw: Callable[[int], None] | None = None,
        scratch_root: Path | None = None,
    ) -> None:
        """models: what arrived at the ports of model kinds, by port; working_bytes: what the job needs beside models.

        expected: the models that this job and the run after it use; None: say nothing about them. saw: told what the job
        took beside its models, where the device says it. scratch_root: where its scratch folder is made, else in the
        folder `temp`.
        """
        self.node, self.run, self.document = job.node, job.run, document
        self._place = job.device or "cpu"
        self.device = torch_name(self._place)
        self._job, self._folders, self._models_dir, self._pool, self._post = job, folders, models_dir, pool, post
        self._stop = threading.Event()
        self._scratch: Path | None = None
        self._scratch_root = scratch_root or folders.roots["temp"]
        self._leases: list[Any] = []
        self._used: set[str] = set()
        """Keys of all models that it had."""
        self._models = models or {}
        self.working_bytes, self._reserved = working_bytes, 0
        self._watches = False
        self._expected, self._saw = expected, saw

    def stop(self) -> None:
        self._stop.set()

    def form(self) -> dict[str, Any]:
        """What a process of a device needs to make one like it."""
        return {
            "document": dict(self.document) if self.document is not None else None,
            "folders": {name: str(root) for name, root in self._folders.roots.items()},
            "models_dir": str(self._models_dir),
            "working_bytes": self.working_bytes,
            "expected": None if self._expected is None else [list(one) for one in self._expected],
        }

    def saw(self, bytes: int) -> None:
        """What the process that it ran in says it took beside its models."""
        if self._saw is not None:
            self._saw(bytes)

    def relay(self, type: str, data: dict[str, Any]) -> None:
        """News of this job from the process that it runs in."""
        self._post(self._job.id, type, data)

    def begin(self) -> None:
        """Before the node is called, in its thread: have the memory that it needs beside models. Raises OutOfMemory."""
        if self._job.attempt > 1:  # when it ran out of memory, what was idle began to leave
            self._pool.let_go()
        if self.working_bytes:
            self._pool.reserve(self._place, self.working_bytes)
            self._reserved = self.working_bytes
        self._watches = self._job.type.needs.device and self._pool.watch(self._place)

    def release(self) -> None:
        """The job is over: give back models, memory and scratch space. What fails of it is raised when all the rest is back."""
        with ExitStack() as last_first:
            if self._scratch is not None:
                last_first.callback(shutil.rmtree, self._scratch, ignore_errors=True)
            if self._reserved:
                last_first.callback(self._pool.unreserve, self._place, self._reserved)
            for spec in self._leases:
                last_first.callback(self._pool.release, spec, self._place)
            reserved, self._reserved, self._leases = self._reserved, 0, []
            watches, self._watches = self._watches, False
            if watches and self._saw is not None and (took := self._pool.taken(self._place, reserved)) is not None:
                self._saw(took)

    def progress(self, done: float, total: float, message: str = "") -> None:
        self.check()
        data: dict[str, Any] = {"done": _number(done), "total": _number(total)}
        if message:
            data["message"] = str(message)
        self._post(self._job.id, "progress", data)

    def preview(self, data: bytes, media_type: str) -> None:
        self._post(self._job.id, "preview", {"media_type": str(media_type), "image": bytes(data)})

    def chunk(self, value: str) -> None:
        self.check()
        self._post(self._job.id, "chunk", {"text": str(value)})

    def log(self, message: str) -> None:
        self._post(self._job.id, "log", {"message": str(message)})

    @property
    def cancelled(self) -> bool:
        return self._stop.is_set()

    def wait(self, seconds: float) -> bool:
        return self._stop.wait(seconds)

    def model(self, spec: Any, again: int | None = None) -> Any:
        self.check()
        began = time.perf_counter()
        next_use = self._next_use(spec) if again is None else again
        module = self._pool.lease(spec, self._place, next_use)
        self._pool.telemetry.waited("weights", began, self._place, spec.family, self.run, self.node)
        self._leases.append(spec)
        self._used.add(spec.key)
        if self._expected is not None:  # what comes next is brought while this computes
            rest = [one for one in self._expected if one.after > 0 or one.spec.key not in self._used]
            # A bundle is one model to the plan, whichever of its parts are used and how often.
            uses = min(len(self._used), max(1, len(self._models)))
            self._pool.expect(self.run, self._place, rest, uses)
        return module

    def give_back(self, spec: Any) -> None:
        if spec in self._leases:
            self._leases.remove(spec)
            self._pool.release(spec, self._place)

    def _next_use(self, spec: Any) -> int | None:
        """Of the port that the spec came by. A node may have made it of another (one trunk of an encoder): then the files
        tell; else the soonest of all counts."""
        ports = self._job.next_use
        files = frozenset(file.path for file in getattr(spec, "files", ()))
        same = [port for port in ports if self._models.get(port) == spec]
        near = [port for port in ports if files & {file.path for file in getattr(self._models.get(port), "files", ())}]
        return min((use for port in same or near or ports if (use := ports[port]) is not None), default=None)

    def rng(self, seed: int) -> Any:
        import torch

        return torch.Generator("cpu").manual_seed(seed & 0xFFFF_FFFF_FFFF_FFFF)

    def scratch(self) -> Path:
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="job-", dir=self._scratch_root))
        return self._scratch

    def input_path(self, name: str) -> Path:
        return self._folders.existing(name)

    def input_folder(self, name: str) -> Path:
        return self._folders.existing_folder(name)

    def output_path(self, name: str, suffix: str, *, temporary: bool = False) -> Path:
        return self._folders.fresh("temp" if temporary else "output", name, suffix)

    def file(self, path: Path, media_type: str, **facts: Any) -> dict[str, Any]:
        return self._folders.describe(path, media_type, **facts)

    @property
    def models_dir(self) -> Path:
        return self._models_dir


def _number(value: float) -> float:
    """As JSON has it: of numpy's and torch's numbers too, and 0 for one that is not finite."""
    if type(value) is int:
        return value
    number = float(value)
    return number if math.isfinite(number) else 0.0
