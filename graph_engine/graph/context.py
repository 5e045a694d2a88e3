"""All that a node may ask of the engine while it runs."""

from __future__ import annotations

import abc
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class NodeContext(abc.ABC):
    """Declare a parameter of this type and the engine fills it in. Safe to call from any thread."""

    node: str
    """Id of the node on the canvas (`"sample"`, or `"sample/decode2"` for a node that another one grew)."""
    run: str
    """Id of the run."""
    document: Mapping[str, Any] | None
    """The workflow being run, for media files that carry it."""
    device: str
    """The torch device that this job was given: "cpu", "cuda:0"."""

    @abc.abstractmethod
    def progress(self, done: float, total: float, message: str = "") -> None:
        """Tell watchers how far the node is. Also a cancellation point."""

    @abc.abstractmethod
    def preview(self, data: bytes, media_type: str) -> None:
        """Show an intermediate result (an encoded picture, say). Watchers may miss all but the latest."""

    @abc.abstractmethod
    def chunk(self, value: str) -> None:
        """Stream a piece of text output. Chunks arrive complete and in order."""

    @abc.abstractmethod
    def log(self, message: str) -> None:
        """A line for the person who watches the run."""

    @property
    @abc.abstractmethod
    def cancelled(self) -> bool:
        """True once somebody cancelled the run. Long loops check it, or call `check`."""

    def check(self) -> None:
        """Raise `Cancelled` once the run was cancelled."""
        if self.cancelled:
            from graph_engine.errors import Cancelled

            raise Cancelled()

    def wait(self, seconds: float) -> bool:
        """Sleep, or wake when the run is cancelled; returns whether it was."""
        until = time.monotonic() + seconds
        while not self.cancelled and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.02))
        return self.cancelled

    @abc.abstractmethod
    def model(self, spec: Any, again: int | None = None) -> Any:
        """The torch module of a `ModelSpec`, on `device`, leased to this job until it ends.

        again: of a model that is given back early: after how many other models of this job it is asked for once more.
        """

    def give_back(self, spec: Any) -> None:  # noqa: B027  (contexts that lease nothing have nothing to do)
        """The job computes no more with a model: others may take its room before the job ends. It may be asked for again."""

    @abc.abstractmethod
    def rng(self, seed: int) -> Any:
        """A `torch.Generator` on the CPU, so that the same seed gives the same noise on every device."""

    @abc.abstractmethod
    def scratch(self) -> Path:
        """A folder of this job's own, removed when it ends."""

    @abc.abstractmethod
    def input_path(self, name: str) -> Path:
        """An existing file in the input folder (or, as `output/NAME` and `temp/NAME`, in those).
        Raises PathError, NotFoundError."""

    @abc.abstractmethod
    def input_folder(self, name: str) -> Path:
        """An existing folder there, a data set of many files. Raises PathError, NotFoundError."""

    @abc.abstractmethod
    def output_path(self, name: str, suffix: str, *, temporary: bool = False) -> Path:
        """A fresh path `NAME_00001.SUFFIX` in the output folder; `name` may have folders. Raises PathError."""

    @abc.abstractmethod
    def file(self, path: Path, media_type: str, **facts: Any) -> dict[str, Any]:
        """A FILE value for a file that this node wrote under `output_path`: folder, name, media type, bytes, facts."""

    @property
    @abc.abstractmethod
    def models_dir(self) -> Path:
        """Where model files are looked for."""
