"""The context that the engine gives to a node: everything goes to the runner, nothing is global."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from graph_engine.graph.context import NodeContext
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
    ) -> None:
        """models: what arrived at the ports of model kinds, by port; working_bytes: what the job needs beside models."""
        self.node, self.run, self.document = job.node, job.run, document
        self.device = job.device or "cpu"
        self._job, self._folders, self._models_dir, self._pool, self._post = job, folders, models_dir, pool, post
        self._stop = threading.Event()
        self._scratch: Path | None = None
        self._leases: list[Any] = []
        self._models = models or {}
        self._wanted, self._reserved = working_bytes, 0

    def stop(self) -> None:
        self._stop.set()

    def begin(self) -> None:
        """Before the node is called, in its thread: have the memory that it needs beside models. Raises OutOfMemory."""
        if self._wanted:
            self._pool.reserve(self.device, self._wanted)
            self._reserved = self._wanted

    def release(self) -> None:
        """The job is over: give back models, memory and scratch space."""
        for spec in self._leases:
            self._pool.release(spec, self.device)
        self._leases.clear()
        if self._reserved:
            self._pool.unreserve(self.device, self._reserved)
            self._reserved = 0
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def progress(self, done: float, total: float, message: str = "") -> None:
        self.check()
        data: dict[str, Any] = {"done": done, "total": total}
        if message:
            data["message"] = message
        self._post(self._job.id, "progress", data)

    def preview(self, data: bytes, media_type: str) -> None:
        self._post(self._job.id, "preview", {"media_type": media_type, "image": data})

    def chunk(self, value: str) -> None:
        self.check()
        self._post(self._job.id, "chunk", {"text": value})

    def log(self, message: str) -> None:
        self._post(self._job.id, "log", {"message": message})

    @property
    def cancelled(self) -> bool:
        return self._stop.is_set()

    def wait(self, seconds: float) -> bool:
        return self._stop.wait(seconds)

    def model(self, spec: Any) -> Any:
        self.check()
        began = time.perf_counter()
        module = self._pool.lease(spec, self.device, self._next_use(spec))
        self._pool.telemetry.waited("weights", began, self.device, spec.family, self.run, self.node)
        self._leases.append(spec)
        return module

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
            self._scratch = Path(tempfile.mkdtemp(prefix="job-", dir=self._folders.roots["temp"]))
        return self._scratch

    def input_path(self, name: str) -> Path:
        return self._folders.existing(name)

    def output_path(self, name: str, suffix: str, *, temporary: bool = False) -> Path:
        return self._folders.fresh("temp" if temporary else "output", name, suffix)

    def file(self, path: Path, media_type: str, **facts: Any) -> dict[str, Any]:
        return self._folders.describe(path, media_type, **facts)

    @property
    def models_dir(self) -> Path:
        return self._models_dir
