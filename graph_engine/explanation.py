"""Why was this computed again? For each node of a run: hit or miss, and which input changed since an earlier run. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from graph_engine.execute.events import Event
from graph_engine.graph.difference import Change, changes
from graph_engine.graph.node import Effect
from graph_engine.graph.plan import Plan

ENDS = frozenset({"done", "skipped", "failed", "blocked", "cancelled"})


class Past(NamedTuple):
    """A run, as far as it is known. outcomes: node -> cached, or the type of the event that ended it; None: not known any
    more; stamps: file -> what identified its content, None: not known any more."""

    plan: Plan
    outcomes: Mapping[str, str] | None
    stamps: Mapping[str, str] | None


def outcomes_of(events: Sequence[Event]) -> dict[str, str]:
    """Of the nodes of the workflow itself."""
    found: dict[str, str] = {}
    for event in events:
        if event.type == "cached":
            found.update(dict.fromkeys(event.data["nodes"], "cached"))
        elif event.type in ENDS:
            found[event.node] = event.type
    return found


def explain(now: Past, before: Past | None) -> list[dict[str, Any]]:
    """One entry per node, in the order of the plan: {node, type, outcome, cached, why: [{what, input?, node?, old?, new?}]}.

    outcome is `not_needed` for a node that nobody asked for, because what reads it was there already, and `waiting` for one
    that is not over. why is empty for a hit. Beside the changes of `difference.py`, `what` may be
        first          there is no earlier run to compare with
        effect         it does something outside, so it is done in every run
        upstream_effect   something before it (`node`) does
        unfinished     the earlier run did not get so far
        gone           equal work was done, and its result is not kept any more
    """
    found = changes(now.plan, before.plan, now.stamps, before.stamps) if before is not None else {}
    names = [step.node for step in now.plan.steps]
    outcomes = now.outcomes or {}
    entries = []
    for step in now.plan.steps:
        outcome = outcomes.get(step.node, "")
        hit = outcome == "cached"
        why: list[Change] = []
        if outcome in ("done", "failed", "cancelled") or (not outcome and now.outcomes is None):
            sources = [
                names[link.source] for link in step.links if link.source >= 0 and now.plan.steps[link.source].local
            ]
            why = _why(step.node, step.type.effect is Effect.EXTERNAL, sources, found.get(step.node), before)
        entries.append({
            "node": step.node,
            "type": step.type.id,
            "outcome": outcome or _without(step.node, now, outcomes),
            "cached": hit,
            "why": [change.to_dict() for change in why],
        })  # fmt: skip
    return entries


def _why(
    node: str, external: bool, local_sources: list[str], found: list[Change] | None, before: Past | None
) -> list[Change]:
    if external:
        return [Change("effect"), *(found or [])]
    if before is None or found is None:
        return [Change("first")]
    effects = [Change("upstream_effect", node=source) for source in local_sources]
    if found or effects:
        return [*found, *effects]
    if before.outcomes is not None and before.outcomes.get(node) not in ("done", "cached", "skipped"):
        # Not asked for in the earlier run either, whose readers had their results: then it was made before that.
        return [Change("gone" if before.outcomes.get(node) is None and _read(node, before) else "unfinished")]
    return [Change("gone")]


def _read(node: str, past: Past) -> bool:
    """Did something that reads the node get its result, in that run or before?"""
    index = next(step.position for step in past.plan.steps if step.node == node)
    seen, stack = {index}, [index]
    while stack:
        for reader in past.plan.readers[stack.pop()]:
            if past.outcomes is not None and past.outcomes.get(past.plan.steps[reader].node) == "cached":
                return True
            if reader not in seen:
                seen.add(reader)
                stack.append(reader)
    return False


def _without(node: str, now: Past, outcomes: Mapping[str, str]) -> str:
    """Of a node that no event tells of."""
    if now.outcomes is None:
        return "unknown"
    return "not_needed" if _read(node, now) or all(step.node in outcomes for step in _targets(now)) else "waiting"


def _targets(past: Past) -> list[Any]:
    return [past.plan.steps[index] for index in past.plan.targets]
