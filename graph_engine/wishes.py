"""What a submission wants beside its document and values: what to run for, what to take as given, where to stop."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from graph_engine.errors import RequestError
from graph_engine.graph.plan import Plan
from graph_engine.store.artifacts import Artifact


class Wishes(NamedTuple):
    """targets: nodes to run for; none: those of the document.

    pins         node -> key of the artifact that its outputs are taken from; nothing is computed for it
    breakpoints  nodes before which the run pauses
    """

    targets: tuple[str, ...] = ()
    pins: Mapping[str, str] = {}
    breakpoints: frozenset[str] = frozenset()

    def check(self, nodes: Iterable[str]) -> None:
        """Raise RequestError for a pin or breakpoint that is none of the nodes of the run."""
        known = set(nodes) if self.pins or self.breakpoints else set()
        for field, names in (("pins", self.pins), ("breakpoints", sorted(self.breakpoints))):
            for name in names:
                if name not in known:
                    raise RequestError(
                        f"{name[:80]!r} is no node of this run.",
                        remedy="Name a node that the targets need.",
                        code="unknown_node",
                        place=f"/{field}/{name[:80]}",
                    )

    def to_text(self) -> str:
        """As the queue keeps it: the list of targets alone where there is nothing else, as it always was."""
        if not (self.pins or self.breakpoints):
            return json.dumps(list(self.targets))
        return json.dumps(
            {"targets": list(self.targets), "pins": dict(self.pins), "breakpoints": sorted(self.breakpoints)}
        )

    @classmethod
    def of_text(cls, text: str) -> Wishes:
        found: Any = json.loads(text)
        if isinstance(found, list):
            return cls(tuple(found))
        return cls(tuple(found["targets"]), dict(found["pins"]), frozenset(found["breakpoints"]))


def check_priority(priority: object) -> None:
    if isinstance(priority, bool) or not isinstance(priority, int) or not -1_000_000 <= priority <= 1_000_000:
        raise RequestError(f"priority {priority!r} is no whole number in -1000000..1000000.", remedy="Use 0.")


def check_pins(plan: Plan, pinned: Mapping[str, Artifact]) -> None:
    """Raise RequestError for an artifact that has another number of outputs than the node it is pinned to."""
    for step in plan.steps if pinned else ():
        found = pinned.get(step.node)
        if found is not None and len(found.outputs) != len(step.type.outputs):
            raise RequestError(
                f"{step.node!r} ({step.type.id}) has {len(step.type.outputs)} outputs, what it is pinned to has "
                f"{len(found.outputs)}.",
                remedy="Pin it to a result of the same node type.",
                code="pin_mismatch",
                node=step.node,
            )
