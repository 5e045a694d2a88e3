"""What every executor does: start jobs, stop them, report. Local threads today; other processes and machines by the
same protocol and the same contract tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from graph_engine.graph.context import NodeContext
from graph_engine.graph.outcome import Grow, Need
from graph_engine.schedule.messages import Job


class Work(NamedTuple):
    """A job with its inputs at hand. `context` is None when the node does not ask for one.

    then   jobs that the thread may go on with, each reading the one before it: their inputs that are a `Coming` are
           outputs of that one. Whoever does not go on with them reports each of them as `NotBegun`.
    """

    job: Job
    inputs: dict[str, Any]
    context: NodeContext | None
    then: tuple[Work, ...] = ()


class Coming(NamedTuple):
    """The value of an output of the job before."""

    output: int


class Outputs(NamedTuple):
    """The checked values of a finished job, one per output port (a value may be a `Skip`), and what they cost."""

    values: tuple[Any, ...]
    seconds: float


class Raised(NamedTuple):
    error: BaseException


class NotBegun(NamedTuple):
    """A following job that was left alone."""


class Interrupted(NamedTuple):
    """The job was told to stop and did."""


Report = Outputs | Need | Grow | Raised | NotBegun | Interrupted


class ReportTo(Protocol):
    def __call__(self, job: int, report: Report) -> None:
        """May be called from any thread, exactly once per started job."""


class Executor(Protocol):
    @property
    def lanes(self) -> Mapping[str, int]:
        """Jobs at a time, by lane."""

    @property
    def devices(self) -> tuple[str, ...]: ...

    async def open(self) -> None:
        """Before the first job, on the loop that starts them. What is not prepared here is prepared when it is needed."""

    def prepare(self) -> None:
        """A run that wants devices was accepted: what takes long may begin."""

    def start(self, work: Work) -> None:
        """Begin and return at once."""

    def stop(self, job: int) -> None:
        """Ask a job to end at its next check. One that has not begun ends without having run."""

    def abandon(self, job: int) -> None:
        """A job did not stop in time: do without the thread it sits in, or end the process. It is reported when it has ended
        there, or as interrupted."""

    async def close(self) -> None: ...
