"""Plan: the steps of a graph in order, each with its content key and its readers. A Plan that exists can run.

Equal documents give equal plans, whatever their nodes are called. A plan belongs to no run: it may be used many times.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any, NamedTuple

from graph_engine.errors import GraphError, Problem
from graph_engine.graph import fingerprint
from graph_engine.graph.document import Document, DocumentNode
from graph_engine.graph.graph import OUTER, Graph, resolve
from graph_engine.graph.kinds import ANY, Kind
from graph_engine.graph.node import Effect, NodeType
from graph_engine.graph.outcome import Grow, NodeLink, OwnInput, Skip
from graph_engine.graph.port import Input
from graph_engine.graph.registry import Registry
from graph_engine.tuples import made

Stamp = Callable[[str], str]
"""File name in the input folder, or `MODELS` and a name in the models folder -> what identifies its content; empty when
there is no such file."""
MODELS = "models:"


class Unread(Exception):
    """A stamp that is not known at once: the large file `args[0]` has to be read for it."""


class StepLink(NamedTuple):
    """Where an input comes from: output number `output` of step `source`, or of `outer[-1 - source]`.

    check: the source promises another kind (or none), so the value is checked again when it arrives.
    """

    input: Input
    source: int
    output: int
    check: bool


class Step(NamedTuple):
    position: int
    """Its index in the plan."""
    node: str
    type: NodeType
    literals: dict[str, Any]
    links: tuple[StepLink, ...]
    key: str
    local: bool
    """Something external had a part in it: the result holds for one run only."""


class Plan(NamedTuple):
    """readers[i]: indices of the steps that read step i, ascending. They are also its next uses, in plan order."""

    steps: tuple[Step, ...]
    targets: tuple[int, ...]
    readers: tuple[tuple[int, ...], ...]
    outer: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Equal for equal work."""
        return fingerprint.digest([step.key for step in self.steps], self.targets)


def wanted_steps(plan: Plan, present: Container[str]) -> frozenset[int]:
    """The steps that a run computes when the results of the keys `present` are there. Lazy inputs count as asked for."""
    wanted: set[int] = set()
    asked = list(plan.targets)
    while asked:
        index = asked.pop()
        step = plan.steps[index]
        if index not in wanted and (step.local or step.key not in present):
            wanted.add(index)
            asked.extend(link.source for link in step.links if link.source >= 0)
    return frozenset(wanted)


def make_plan(
    graph: Graph,
    stamp: Stamp,
    outer_keys: Mapping[str, tuple[str, bool]] | None = None,
    pins: Mapping[str, str] | None = None,
) -> Plan:
    """outer_keys: name -> (content key of what is outside, whether it holds for one run only).

    pins: node -> content key of a result that stands for its own, whatever it would read. A pinned step reads nothing.
    """
    pins = pins or {}
    outer = [(outer_keys or {})[name] for name in graph.outer]
    index_of: dict[str, int] = {}
    steps: list[Step] = []
    readers: list[list[int] | None] = []
    occurrences: dict[str, int] = {}
    for index, node in enumerate(graph.nodes.values()):
        id, type, literals, node_links = node
        if id in pins:
            index_of[id] = index
            steps.append(Step(index, id, type, literals, (), pins[id], False))
            readers.append(None)
            continue
        links: list[StepLink] = []
        key_links: list[tuple[str, str, int]] = []
        external = local = type.effect is Effect.EXTERNAL
        for port, (source, output) in node_links.items():
            input = type.by_name.get(port) or type.input(port)
            assert input is not None
            kind = input.kind
            if source == OUTER:
                links.append(StepLink(input, -1 - output, 0, kind != ANY))
                key, source_local = outer[output]
                key_links.append((port, key, 0))
            else:
                at = index_of[source]
                _, _, source_type, _, _, key, source_local = steps[at]
                promised = source_type.outputs[output].kind
                check = kind is not promised and kind is not ANY and kind != ANY and kind != promised
                links.append(made(StepLink, (input, at, output, check)))
                key_links.append((port, key, output))
                known = readers[at]
                if known is None:
                    readers[at] = [index]
                elif known[-1] != index:
                    known.append(index)
            local = local or source_local
        key_links.sort()
        stamps = _stamps(type, literals, stamp, node_links) if type.takes_files or type.reads is not None else {}
        local = local or stamps is None
        key = fingerprint.step_key(type, literals, key_links, stamps or {})
        if external:
            occurrence = occurrences[key] = occurrences.get(key, -1) + 1
            key = fingerprint.occurrence_key(key, occurrence)
        index_of[id] = index
        steps.append(made(Step, (index, id, type, literals, tuple(links), key, local)))
        readers.append(None)
    targets = tuple(index_of[id] for id in graph.targets)
    return Plan(tuple(steps), targets, tuple([tuple(entry) if entry else () for entry in readers]), graph.outer)


class _Literals(dict[str, Any]):
    """The literals of a node, for whoever says which files it reads. `hidden`: it asked for one that comes by a link."""

    def __init__(self, literals: Mapping[str, Any], links: Container[str]) -> None:
        super().__init__(literals)
        self.links, self.hidden = links, False

    def get(self, name: str, default: Any = None) -> Any:
        self.hidden = self.hidden or name in self.links
        return super().get(name, default)

    def __missing__(self, name: str) -> Any:
        if name not in self.links:
            raise KeyError(name)
        self.hidden = True
        return ""


def _stamps(type: NodeType, literals: Mapping[str, Any], stamp: Stamp, links: Container[str]) -> dict[str, str] | None:
    """Digests of the files that literals name, so that a changed file is other work. None where a name comes by a link:
    which file it will be, and what is in it, nobody knows yet."""
    stamps = {}
    for input in type.inputs:
        if input.widget is not None and input.widget.upload:
            if input.name in links:
                return None
            named = literals.get(input.name)
            if isinstance(named, str):
                stamps[input.name] = stamp(named)
            elif isinstance(named, list):
                stamps[input.name] = " ".join(map(stamp, named))
    if type.reads is not None:
        given = _Literals(literals, links)
        names = list(type.reads(given))
        if given.hidden:
            return None
        stamps |= {MODELS + name: stamp(MODELS + name) for name in names}
    return stamps


class GrownPlan(NamedTuple):
    """What a step grew into.

    outputs    one entry per output port of the step: Source, a list of Sources, or a Skip
    constants  Python values that the step put into its graph, by name, each with whether it is a whole list of values;
               `outer` of the plan refers to them
    """

    plan: Plan
    outputs: tuple[Any, ...]
    constants: dict[str, tuple[Any, bool]]


class GrownSource(NamedTuple):
    """Step number `source` of the grown plan (or `outer[-1 - source]`) and the number of its output."""

    source: int
    output: int


def grow_plan(
    grow: Grow,
    parent: NodeType,
    parent_key: str,
    own: Mapping[str, tuple[str, bool, Kind]],
    literals: Mapping[str, Any],
    registry: Registry,
    stamp: Stamp,
) -> GrownPlan:
    """Plan the graph that a step answered with. Raises GraphError.

    own: the parent's linked inputs as (content key, local, kind); literals: its other inputs.
    """
    constants: dict[str, tuple[Any, bool]] = {}
    outer: dict[str, Kind] = {}
    keys: dict[str, tuple[str, bool]] = {}

    def constant(name: str, value: Any, kind: Kind, as_list: bool = False) -> tuple[str, str]:
        whole = as_list and isinstance(value, list | tuple)
        constants[name], outer[name] = (list(value) if whole else value, whole), kind
        keys[name] = (fingerprint.constant_key(parent_key, name), False)
        return OUTER, name

    def own_input(port: str) -> tuple[str, str]:
        if port in own:
            key, local, kind = own[port]
            outer[port], keys[port] = kind, (key, local)
            return OUTER, port
        input = parent.input(port)
        if input is None:
            raise _bad_growth(parent, f"it hands on its input {port!r}, which it does not have")
        return constant(f"={port}", literals.get(port), input.kind, input.as_list)

    nodes: dict[str, DocumentNode] = {}
    for id, grown in grow.nodes.items():
        type = registry.get(grown.type)
        values: dict[str, Any] = {}
        links: dict[str, tuple[str, str]] = {}
        for port, value in grown.values.items():
            input = type.input(port) if type is not None else None
            if input is None or (input.kind.literal and _is_json(value)):
                values[port] = value
            else:
                links[port] = constant(f"={id}.{port}", value, input.kind, input.as_list)
        for port, link in grown.links.items():
            links[port] = own_input(link.port) if isinstance(link, OwnInput) else (link.node, link.port)
        nodes[id] = DocumentNode(id, grown.type, values, links)

    def source(value: Any, name: str, kind: Kind) -> Any:
        if isinstance(value, Skip):
            return value.in_words()
        if isinstance(value, NodeLink):
            return value
        if isinstance(value, OwnInput):
            return NodeLink(*own_input(value.port))
        return NodeLink(*constant(name, value, kind))

    wanted: list[Any] = []
    for output in parent.outputs:
        if output.name not in grow.outputs:
            raise _bad_growth(parent, f"its answer names no output {output.name!r}")
        value = grow.outputs[output.name]
        if output.as_list and isinstance(value, list):
            wanted.append([source(entry, f"={output.name}.{n}", output.kind) for n, entry in enumerate(value)])
        else:
            wanted.append(source(value, f"={output.name}", output.kind))
    flat = [link for entry in wanted for link in (entry if isinstance(entry, list) else [entry])]
    targets = list(dict.fromkeys(link.node for link in flat if isinstance(link, NodeLink) and link.node != OUTER))
    for id in targets:
        if id not in nodes:
            raise _bad_growth(parent, f"it names the node {id!r}, which it did not add")
    targets += [
        id for id, node in nodes.items() if id not in targets and (t := registry.get(node.type)) and t.is_output
    ]
    if targets:
        document = Document("", "", nodes, (), (), {})
        graph = resolve(document, registry, targets, outer)
    else:
        graph = Graph({}, (), tuple(outer))
    plan = make_plan(graph, stamp, keys)
    index_of = {step.node: step.position for step in plan.steps}
    outer_of = {name: -1 - number for number, name in enumerate(plan.outer)}

    def locate(link: Any) -> Any:
        if isinstance(link, Skip):
            return link
        if link.node == OUTER:
            return GrownSource(outer_of[link.port], 0)
        step = plan.steps[index_of[link.node]]
        if link.port not in step.type.output_index:
            raise _bad_growth(parent, f"{link.node!r} ({step.type.id}) has no output {link.port!r}")
        return GrownSource(step.position, step.type.output_index[link.port])

    outputs = tuple([locate(one) for one in entry] if isinstance(entry, list) else locate(entry) for entry in wanted)
    return GrownPlan(plan, outputs, constants)


def _is_json(value: Any) -> bool:
    if value is None or isinstance(value, str | int | float | bool):
        return True
    if isinstance(value, list):
        return all(map(_is_json, value))
    return isinstance(value, dict) and all(isinstance(key, str) for key in value) and all(map(_is_json, value.values()))


def _bad_growth(parent: NodeType, what: str) -> GraphError:
    return GraphError(
        [Problem("bad_growth", f"{parent.id} grew a graph that does not fit: {what}.", "This is a bug of the node.")]
    )
