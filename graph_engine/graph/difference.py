"""What makes the work of a node other work than before: two plans, compared node by node. Pure.

Keys say that something changed; the plans say what. A node whose inputs changed only because of what comes before it points
there, so the first cause is found by following `node`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from graph_engine.graph.plan import MODELS, Plan, Step

SHOWN = 200
"""Characters of a literal that are shown."""


class Change(NamedTuple):
    """what     new (no such node before), type, version, literal, link (comes from elsewhere), upstream (what comes from there
    is other work), file (same name, other content)
    """

    what: str
    input: str = ""
    node: str = ""
    old: Any = None
    new: Any = None

    def to_dict(self) -> dict[str, Any]:
        entry: dict[str, Any] = {"what": self.what}
        if self.input:
            entry["input"] = self.input
        if self.node:
            entry["node"] = self.node
        if self.old is not None or self.new is not None:
            entry |= {"old": shown(self.old), "new": shown(self.new)}
        return entry


def changes(
    now: Plan,
    before: Plan,
    stamps_now: Mapping[str, str] | None = None,
    stamps_before: Mapping[str, str] | None = None,
) -> dict[str, list[Change]]:
    """Node -> what changed; an empty list for equal work. Nodes are matched by their ids.

    stamps: file -> what identified its content (`Planned.stamps`); None when nobody knows any more.
    """
    old = {step.node: step for step in before.steps}
    found: dict[str, list[Change]] = {}
    for step in now.steps:
        was = old.get(step.node)
        found[step.node] = (
            _of(step, was, now, before, stamps_now, stamps_before) if was is not None else [Change("new")]
        )
    return found


def _of(
    step: Step,
    was: Step,
    now: Plan,
    before: Plan,
    stamps_now: Mapping[str, str] | None,
    stamps_before: Mapping[str, str] | None,
) -> list[Change]:
    if step.type.id != was.type.id:
        return [Change("type", old=was.type.id, new=step.type.id)]
    found: list[Change] = []
    if step.type.version != was.type.version:
        found.append(Change("version", old=was.type.version, new=step.type.version))
    links, old_links = _links(step, now), _links(was, before)
    for name in dict.fromkeys([*step.literals, *was.literals]):
        old, new = was.literals.get(name), step.literals.get(name)
        if name not in links and name not in old_links and (old != new or type(old) is not type(new)):
            found.append(Change("literal", name, old=old, new=new))
    for name in dict.fromkeys([*links, *old_links]):
        (node, output, key), (old_node, old_output, old_key) = links.get(name, _NONE), old_links.get(name, _NONE)
        if (node, output) != (old_node, old_output):
            old, new = _source(old_node, old_output, was, name), _source(node, output, step, name)
            if key != old_key or output != old_output:  # a node that only has another name now is the same work
                found.append(Change("link", name, node, old, new))
        elif key != old_key:
            found.append(Change("upstream", name, node))
    if stamps_now is not None and stamps_before is not None:
        for file in _files(step):
            old_stamp, new_stamp = stamps_before.get(file), stamps_now.get(file)
            if old_stamp != new_stamp and old_stamp is not None:
                found.append(Change("file", new=file.removeprefix(MODELS), old=file.removeprefix(MODELS)))
    return found


_NONE = ("", "", "")


def _links(step: Step, plan: Plan) -> dict[str, tuple[str, str, str]]:
    """Port -> (node, name of its output, key of its work)"""
    found = {}
    for link in step.links:
        if link.source >= 0:
            source = plan.steps[link.source]
            found[link.input.name] = (source.node, source.type.outputs[link.output].name, source.key)
    return found


def _source(node: str, output: str, step: Step, name: str) -> Any:
    return f"{node}.{output}" if node else step.literals.get(name)


def _files(step: Step) -> list[str]:
    """What literals name: files of the input folder, and of the models folder with `MODELS` before their names."""
    files: list[str] = []
    for input in step.type.inputs:
        if input.widget is not None and input.widget.upload:
            named = step.literals.get(input.name)
            files += [one for one in (named if isinstance(named, list) else [named]) if isinstance(one, str)]
    if step.type.reads is not None:
        files += [MODELS + name for name in step.type.reads(step.literals)]
    return files


def shown(value: Any) -> Any:
    """A literal, or its beginning."""
    text = value if isinstance(value, str) else repr(value)
    if len(text) <= SHOWN:
        return value
    return f"{text[:SHOWN]}… ({len(text):,} characters)"
