"""The scheduler's language: events that go in, instructions that come out, and the job between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from graph_engine.graph.node import NodeType
from graph_engine.graph.outcome import Skip
from graph_engine.graph.plan import GrownPlan, Plan
from graph_engine.store.artifacts import Shape

NOTHING: dict[str, Any] = {}
"""No news beside the type of an event, no inputs: never written to."""


class Ref(NamedTuple):
    """A value by reference: output number `output` of the artifact `key`, or one item of it if it is a list."""

    key: str
    output: int
    item: int | None = None


class Job(NamedTuple):
    """One attempt of one step.

    inputs   port -> Ref, or a list of Refs for a port that takes the whole list; lazy ports not asked for are absent
    next_use port of a model kind -> how many uses of models later this run uses it again (None: never)
    """

    id: int
    key: str
    run: str
    node: str
    type: NodeType
    literals: Mapping[str, Any]
    inputs: Mapping[str, Ref | list[Ref]]
    device: str
    attempt: int
    next_use: Mapping[str, int | None]
    lazy: tuple[str, ...]
    """Linked lazy ports."""
    checks: tuple[str, ...]
    """Linked ports whose value may be of another kind than theirs."""
    asked: frozenset[str]
    """Lazy ports the node asked for; one of these without an input was skipped."""
    local: bool
    """The result holds for this run only."""


# --- events: what happened ----------------------------------------------------------------------------------------


class Submit(NamedTuple):
    """present: shapes of the results that are there already, by key, for the keys `Scheduler.keys(plan, run)` gave.

    breakpoints: nodes before which the run pauses once their inputs are there, until `Continue`. One whose result is there
    already is not come to.
    accepted: the run is durable. Until it is (see `Accept`), nothing with an effect outside is begun.
    """

    run: str
    plan: Plan
    present: Mapping[str, Shape]
    priority: int = 0
    breakpoints: frozenset[str] = frozenset()
    accepted: bool = True


class Accept(NamedTuple):
    """A run that was submitted before it was durable is durable now."""

    run: str


class Done(NamedTuple):
    """The job's values lie under its key."""

    job: int
    shape: Shape
    ms: float = 0.0


class Needed(NamedTuple):
    job: int
    ports: tuple[str, ...]


class Grown(NamedTuple):
    """constants: key and shape of each value that the step put into its graph."""

    job: int
    grown: GrownPlan
    present: Mapping[str, Shape]
    constants: Mapping[str, tuple[str, Shape]]


class Failed(NamedTuple):
    """retryable: another attempt may succeed (a lost worker, a node that said so by `Needs.retries`)."""

    job: int
    error: Mapping[str, Any]
    retryable: bool = False


class Lost(NamedTuple):
    """The job could not start because these keys, thought present, are gone."""

    job: int
    keys: tuple[str, ...]


class Unstarted(NamedTuple):
    """A job of `Start.then` was not begun: what came before it took long, or gave no plain values."""

    job: int


class Stopped(NamedTuple):
    """A job that was told to stop has ended without a result."""

    job: int


class GraceOver(NamedTuple):
    """A job that was told to stop did not; the run ends without it, its lane stays taken until it reports."""

    job: int


class Cancel(NamedTuple):
    run: str


class Continue(NamedTuple):
    """Go on at the breakpoint `node`, or at every one that the run has come to."""

    run: str
    node: str = ""


class Prioritise(NamedTuple):
    run: str
    priority: int


class Hold(NamedTuple):
    """Start no job (`on`), whoever it is for; or start them again. What runs goes on."""

    on: bool


class Resume(NamedTuple):
    """The answer to `Pause`."""


class Reminded(NamedTuple):
    """The answer to `Remind`, when the time is over."""

    key: str


Event = (
    Submit
    | Accept
    | Done
    | Needed
    | Grown
    | Failed
    | Lost
    | Unstarted
    | Stopped
    | GraceOver
    | Cancel
    | Continue
    | Prioritise
    | Hold
    | Resume
    | Reminded
)


# --- instructions: what to do -------------------------------------------------------------------------------------


class Start(NamedTuple):
    """then: the job's only reader, that one's only reader and so on, which the same thread may go on with at once.

    Each needs nothing but what is there and what the one before it gives. Handing a value from thread to thread costs more
    than most small nodes do.
    """

    job: Job
    then: tuple[Job, ...] = ()


class Stop(NamedTuple):
    job: int


class Assemble(NamedTuple):
    """Make the artifact `key` out of parts that exist; one entry per output port."""

    key: str
    outputs: tuple[Ref | Skip | list[Ref | Skip], ...]
    keep: bool
    """Other runs may want it."""


class Take(NamedTuple):
    """A run counts on this value, which was there already: hold it, if it is in memory, whatever the cache does."""

    key: str


class Drop(NamedTuple):
    """No run holds this value any more; the cache may keep it."""

    key: str


class Notify(NamedTuple):
    """A state event for the watchers of a run."""

    run: str
    type: str
    node: str
    data: dict[str, Any]


class Output(NamedTuple):
    """A target of the run has its result; a skipped one has no artifact, only a shape.

    fleeting: it holds for this run only, although its key does not say so.
    """

    run: str
    node: str
    key: str
    shape: Shape
    fleeting: bool = False


class Pause(NamedTuple):
    """There is more to decide; come back with `Resume` after others had their turn."""


class Remind(NamedTuple):
    """Work that waits for a busy device will not wait longer than this; the scheduler has no clock of its own."""

    key: str
    seconds: float


class Ended(NamedTuple):
    """errors: one per failed step, {node, ...}."""

    run: str
    status: str
    errors: list[dict[str, Any]]


class Fault(NamedTuple):
    """Something in the scheduler itself broke over a run: it is to be ended, the others go on."""

    run: str
    error: Exception


Instruction = Start | Stop | Assemble | Take | Drop | Notify | Output | Pause | Remind | Ended | Fault
