"""The scheduler's memory: runs, the plans they instantiate, the state of every step, and tasks that several steps share."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Any

from graph_engine.graph import fingerprint
from graph_engine.graph.plan import Plan, Step, StepLink
from graph_engine.store.artifacts import Shape


class State(IntEnum):
    IDLE = 0
    """Nobody asked for it yet."""
    WAITING = 1
    """For its inputs, for the graph it grew, for the calls it was mapped into, or for its task."""
    DONE = 2
    """Its shape is known; a skipped step is one whose every output is a Skip."""
    FAILED = 3
    BLOCKED = 4
    """Something before it failed."""
    CANCELLED = 5


IDLE, WAITING, DONE = State.IDLE, State.WAITING, State.DONE


_NONE: frozenset[str] = frozenset()


class Group:
    """One instance of a plan within a run: the workflow itself, or a graph that a step grew.

    outer: what links to the outside refer to, by index. root: the step of the workflow that it grew from; grower: the step
    that it grew from at once.
    """

    __slots__ = ("grower", "order", "outer", "plan", "prefix", "root", "run", "states")

    def __init__(
        self,
        run: Run,
        plan: Plan,
        outer: tuple[Source, ...],
        prefix: str,
        order: int | None,
        root: str = "",
        grower: StepState | None = None,
    ) -> None:
        self.run, self.plan, self.outer, self.prefix, self.order = run, plan, outer, prefix, order
        self.root, self.grower = root, grower
        self.states: list[StepState | None] = [None] * len(plan.steps)

    def state(self, index: int) -> StepState:
        found = self.states[index]
        if found is None:
            step = self.plan.steps[index]
            key = fingerprint.run_key(step.key, self.run.id) if step.local else step.key
            found = self.states[index] = StepState(self, step, key, len(self.plan.readers[index]))
        return found


class StepState:
    """One step of one run; or one call of it when it is mapped (`item`); or a constant (`step` is None)."""

    __slots__ = (
        "cause",
        "fleeting",
        "group",
        "held",
        "id",
        "is_target",
        "item",
        "key",
        "let_go",
        "mapped",
        "parts",
        "provided",
        "readers",
        "shape",
        "state",
        "step",
        "task",
        "uses",
        "waiting",
    )

    def __init__(self, group: Group, step: Step | None, key: str, uses: int) -> None:
        self.group, self.step, self.key, self.uses = group, step, key, uses
        self.id = "" if step is None else group.prefix + step.node
        self.state = IDLE
        self.shape: Shape = ()
        self.waiting = 0
        self.readers: list[StepState] = []
        self.held = False
        self.fleeting = False
        """Its result holds for this run only, which its plan could not know: it rests on a grown graph with something external
        or a file in it."""
        self.is_target = False
        self.let_go = False
        """It has grown, and so no use for what it reads: the graph in its place counts its own."""
        self.item: int | None = None
        self.mapped: dict[str, int] | None = None
        """On an item: port -> length of the list it takes its item from."""
        self.provided = _NONE
        """Lazy ports that the node asked for."""
        self.parts: tuple[Any, ...] | None = None
        """Where the outputs come from when other steps make them: one entry per port, Source | [Source] | Skip."""
        self.task: Task | None = None
        self.cause = ""

    @property
    def run(self) -> Run:
        return self.group.run

    def source(self, link: StepLink) -> Source:
        outer = link.source < 0
        found = self.group.outer[-1 - link.source] if outer else (self.group.state(link.source), link.output, None)
        if self.mapped is not None:
            length = self.mapped.get(link.input.name)
            if length is not None and self.item is not None:
                return found[0], found[1], min(self.item, length - 1)
        return found

    def active(self, link: StepLink) -> bool:
        """Is the input wanted now? Lazy ones are once the node asked."""
        return not link.input.lazy or link.input.name in self.provided


Source = tuple[StepState, int, int | None]
"""(state, output, item)"""


class Task:
    """The work behind one key. Steps of any number of runs subscribe to it; it is done once."""

    __slots__ = (
        "attempt",
        "dead",
        "device",
        "follows",
        "has_slot",
        "job",
        "key",
        "lane",
        "owner",
        "subscribers",
        "weight",
    )

    def __init__(self, key: str, owner: StepState, lane: str) -> None:
        self.key, self.owner, self.lane = key, owner, lane
        self.subscribers: list[StepState] = [owner]
        self.job = 0
        """Number of the attempt that runs now; 0 while the task is ready."""
        self.attempt = 1
        self.device = ""
        self.weight = 1.0
        """How much of a slot its job takes."""
        self.follows = False
        """A thread may go on with it after another; it counts as running once it reports that it did."""
        self.has_slot = False
        """Its end frees a slot of its lane; of jobs that follow each other in one thread, only the last one's does."""
        self.dead = False
        """Nobody wants it any more."""


class Breakpoint(Task):
    """Stands where the task of a step would be until the run may go on, so steps without one pay nothing for it."""

    __slots__ = ()

    def __init__(self, owner: StepState) -> None:
        super().__init__("", owner, "")


class Run:
    __slots__ = (
        "accepted",
        "cached",
        "cancelled",
        "errors",
        "extras",
        "fleeting",
        "groups",
        "id",
        "number",
        "open",
        "paused",
        "present",
        "priority",
        "ready",
        "share",
        "stopping",
        "targets",
        "unaccepted",
    )

    def __init__(self, id: str, number: int, priority: int, present: dict[str, Shape], accepted: bool = True) -> None:
        self.id, self.number, self.priority, self.present = id, number, priority, present
        self.accepted = accepted
        self.unaccepted: list[StepState] = []
        """Steps with effects outside that wait until the run is accepted."""
        self.groups: list[Group] = []
        self.extras: list[StepState] = []
        """States that belong to no group: constants, and the calls of mapped steps."""
        self.open = 0
        """Steps that were asked for and have not come to an end."""
        self.targets: list[StepState] = []
        self.errors: list[dict[str, Any]] = []
        self.stopping: set[int] = set()
        self.cancelled = False
        self.fleeting = False
        """Some step of it is."""
        self.share: dict[str, float] = {}
        """Jobs started on its behalf, by lane; the run with the smallest share of its priority goes first."""
        self.ready: dict[str, list[tuple[int, int, Task]]] = {}
        self.cached: list[str] = []
        self.paused: dict[str, StepState] = {}
        """Steps whose breakpoint it has come to."""

    def every_state(self) -> Iterator[StepState]:
        """Of all groups, as far as anybody asked for them, and those that belong to none."""
        yield from self.extras
        for group in self.groups:
            yield from (state for state in group.states if state is not None)
