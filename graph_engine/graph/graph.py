"""Graph: a document whose every name was found and every port checked. A Graph that exists is valid and acyclic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from graph_engine.errors import GraphError, KindError, Problem
from graph_engine.graph.document import Document, DocumentNode
from graph_engine.graph.expand import Flat, expand
from graph_engine.graph.kinds import ANY, Kind
from graph_engine.graph.node import NodeType
from graph_engine.graph.port import Input
from graph_engine.graph.subgraph import definition_of
from graph_engine.tuples import made

if TYPE_CHECKING:
    import networkx

    from graph_engine.graph.registry import Registry

OUTER = "@"
"""The source of a link to something outside the graph: an input of the step that grew it."""


class Link(NamedTuple):
    node: str
    output: int


class GraphNode(NamedTuple):
    id: str
    type: NodeType
    literals: dict[str, Any]
    links: dict[str, Link]


class Graph:
    """nodes: what the targets need, sources before readers (depth first, so that a branch ends before the next begins).

    outer: names of the things outside that links with node "@" refer to, by index.
    """

    def __init__(self, nodes: dict[str, GraphNode], targets: tuple[str, ...], outer: tuple[str, ...] = ()) -> None:
        self.nodes, self.targets, self.outer = nodes, targets, outer

    @cached_property
    def digraph(self) -> networkx.DiGraph:
        """Node ids and links for whoever wants to reason about the shape."""
        import networkx

        digraph = networkx.DiGraph()
        digraph.add_nodes_from(self.nodes)
        digraph.add_edges_from(
            (link.node, node.id) for node in self.nodes.values() for link in node.links.values() if link.node != OUTER
        )
        return digraph


def resolve(
    document: Document,
    registry: Registry,
    targets: Sequence[str] | None = None,
    outer: Mapping[str, Kind] | None = None,
) -> Graph:
    """Check a document against the node types that exist. Raises GraphError with every problem found.

    Nodes that the targets do not need must exist and fit, but may lack inputs: they are still being built.
    Subgraphs are written out first: no node of a graph is an instance of one.
    """
    named = list(targets) if targets else list(document.targets)
    if not document.subgraphs:
        return _resolve(document, registry, named, outer)
    flat = expand(document)
    named = flat.targets(named, lambda type: (found := registry.get(type)) is not None and found.is_output)
    try:
        return _resolve(flat.document, registry, named, outer, flat)
    except GraphError as error:
        raise GraphError(flat.located(error.problems)) from None


def _resolve(
    document: Document,
    registry: Registry,
    targets: list[str],
    outer: Mapping[str, Kind] | None,
    flat: Flat | None = None,
) -> Graph:
    problems: list[Problem] = []
    types: dict[str, NodeType] = {}
    every_active = True
    for id, (_, name, _, _, mode, _) in document.nodes.items():
        type = registry.get(name)
        if type is None:
            problems.append(_unknown(id, name, registry))
        else:
            types[id] = type
        if mode != "active":
            every_active = False
    if problems:
        raise GraphError(problems)
    nodes = document.nodes if every_active else _without_inactive(document.nodes, types)
    wanted = _targets(nodes, types, targets, problems)
    if problems:
        raise GraphError(problems)
    order = _order(nodes, wanted)
    if not wanted:
        raise GraphError(
            [Problem("no_targets", "the workflow has no node to run for.", "Add an output node.", place="/nodes")]
        )
    checker = _Checker(types, dict(outer or {}), problems)
    graph_nodes = {id: checker.node(nodes[id]) for id in order}
    for id in nodes.keys() - graph_nodes.keys():
        checker.names(nodes[id], nodes)
    if flat is not None:
        problems += flat.borders(graph_nodes, checker.kind_of)
    if problems:
        raise GraphError(problems)
    return Graph(graph_nodes, tuple(wanted), tuple(checker.outer))


def _unknown(id: str, name: str, registry: Registry) -> Problem:
    place, subgraph = f"/nodes/{id}/type", definition_of(name)
    if subgraph is None:
        return Problem("unknown_node", f"there is no node type {name!r}.", registry.suggest(name), id, place=place)
    message = f"there is no subgraph {subgraph!r} in this workflow."
    return Problem("unknown_subgraph", message, "Add its definition, or take the node out.", id, place=place)


def _targets(
    nodes: Mapping[str, DocumentNode], types: Mapping[str, NodeType], named: list[str], problems: list[Problem]
) -> list[str]:
    """The named targets, else all output nodes, else the nodes that nobody reads."""
    if named:
        for id in named:
            if id not in types:
                problems.append(
                    Problem("unknown_target", f"target {id!r} is no node of this workflow.", "Name a node id.")
                )
        return [id for id in dict.fromkeys(named) if id in nodes]
    outputs = [id for id in nodes if types[id].is_output]
    if outputs:
        return outputs
    read = {source for node in nodes.values() for source, _ in node.links.values()}
    return [id for id in nodes if id not in read]


def _order(nodes: Mapping[str, DocumentNode], targets: Iterable[str]) -> list[str]:
    """What the targets need, sources first, by a depth-first walk without recursion. Raises GraphError for a cycle."""
    order: list[str] = []
    done: dict[str, bool] = {}  # False: on the path
    stack: list[str] = []
    for target in targets:
        stack.append(target)
        while stack:
            id = stack[-1]
            before = done.get(id)
            if before is None:
                done[id] = False
                ahead = []
                for source, _ in nodes[id].links.values():
                    known = done.get(source)
                    if known is None:
                        if source in nodes:
                            ahead.append(source)
                    elif not known:
                        raise GraphError([_cycle(nodes)])
                if ahead:
                    ahead.reverse()
                    stack += ahead
                    continue
            stack.pop()
            if not before:  # else another reader of it came first
                done[id] = True
                order.append(id)
    if not order and nodes:
        raise GraphError([_cycle(nodes)])
    return order


def _cycle(nodes: Mapping[str, DocumentNode]) -> Problem:
    import networkx

    digraph = networkx.DiGraph(
        (source, node.id) for node in nodes.values() for source, _ in node.links.values() if source in nodes
    )
    try:
        cycle = [source for source, _ in networkx.find_cycle(digraph)]
    except networkx.NetworkXNoCycle:
        return Problem("no_targets", "the workflow has no node to run for.", "Add an output node.", place="/nodes")
    path = " -> ".join([*cycle, cycle[0]])
    return Problem(
        "cycle",
        f"the links form a cycle: {path if len(cycle) <= 20 else f'{len(cycle)} nodes, from {cycle[0]} to {cycle[-1]}'}.",
        "Remove one of these links; repeat work with control.repeat.",
        cycle[0],
        place=f"/nodes/{cycle[0]}/links",
    )


class _Checker:
    """Checks node after node in topological order, because kinds tied by a TypeVar follow from their sources."""

    def __init__(self, types: Mapping[str, NodeType], outer: dict[str, Kind], problems: list[Problem]) -> None:
        self.types, self.outer, self.problems = types, outer, problems
        self.outer_index = {name: index for index, name in enumerate(outer)}
        self.kinds: dict[str, dict[str, Kind]] = {}
        """node id -> kinds of its TypeVars"""

    def node(self, node: DocumentNode) -> GraphNode:
        id, _, values, raw_links, _, _ = node
        type = self.types[id]
        links: dict[str, Link] = {}
        for port, (source, output) in raw_links.items():
            link = self._link(node, type, port, source, output)
            if link is not None:
                links[port] = link
        literals: dict[str, Any] = {}
        left = len(values)
        for input in type.inputs:
            name = input.name
            if name in values:
                left -= 1
                if name not in links:
                    self._literal(node, input, values[name], literals)
            elif name in links:
                continue
            elif input.required:
                if name not in raw_links:
                    self._missing(node, input)
            elif input.default is not None:
                literals[name] = input.default
        if left:
            self._more_literals(node, type, links, literals)
        return made(GraphNode, (id, type, literals, links))

    def _more_literals(
        self, node: DocumentNode, type: NodeType, links: Mapping[str, Link], literals: dict[str, Any]
    ) -> None:
        """Values for ports that the signature does not name."""
        for name, value in node.values.items():
            if name not in type.by_name:
                more = type.input(name)
                if more is None:
                    self._unknown_port(node, type, name, "values")
                elif name not in links:
                    self._literal(node, more, value, literals)

    def names(self, node: DocumentNode, nodes: Mapping[str, DocumentNode]) -> None:
        """The lighter check of a node that nobody needs yet."""
        type = self.types[node.id]
        for where, ports in (("values", node.values.keys()), ("links", node.links.keys())):
            for port in ports:
                if type.input(port) is None:
                    self._unknown_port(node, type, port, where)
        for port, (source, _) in node.links.items():
            if source not in nodes:
                self._unknown_source(node, port, source)

    def _link(self, node: DocumentNode, type: NodeType, port: str, source: str, output: str) -> Link | None:
        input = type.by_name.get(port) or type.input(port)
        if input is None:
            self._unknown_port(node, type, port, "links")
            return None
        if source == OUTER and output in self.outer:
            kind, index = self.outer[output], self.outer_index[output]
        else:
            source_type = self.types.get(source)
            if source_type is None:
                self._unknown_source(node, port, source)
                return None
            found = source_type.output_index.get(output)
            if found is None:
                have = ", ".join(source_type.output_index) or "none"
                message = f"node {source!r} ({source_type.id}) has no output {output!r}."
                self._problem("unknown_port", message, f"Its outputs: {have}.", node.id, port, "links")
                return None
            index, declared = found, source_type.outputs[found]
            kind = declared.kind
            if declared.match:
                kind = self.kinds.get(source, {}).get(declared.match, ANY)
        if input.kind is not kind and not input.kind.accepts(kind):
            message = f"it takes {input.kind}, but {source}.{output} gives {kind}."
            self._problem("wrong_kind", message, f"Link an output of kind {input.kind}.", node.id, port, "links")
            return None
        if input.match:
            tied = self.kinds.setdefault(node.id, {})
            if input.match in tied and not tied[input.match].accepts(kind):
                message = (
                    f"it takes {tied[input.match]} as this node's other inputs do, but {source}.{output} gives {kind}."
                )
                self._problem("wrong_kind", message, "Link outputs of one kind.", node.id, port, "links")
                return None
            tied.setdefault(input.match, kind)
        return made(Link, (source, index))

    def kind_of(self, source: str, output: str) -> str | None:
        """Of an output that was checked; None where there is none."""
        type = self.types.get(source)
        index = type.output_index.get(output) if type is not None else None
        if type is None or index is None:
            return None
        declared = type.outputs[index]
        return (self.kinds.get(source, {}).get(declared.match, ANY) if declared.match else declared.kind).name

    def _literal(self, node: DocumentNode, input: Input, value: Any, literals: dict[str, Any]) -> None:
        try:
            literals[input.name] = input.literal(value)
        except KindError as error:
            found = error.problem
            remedy = found.remedy or f"Enter a value of kind {input.kind}."
            self._problem(found.code, found.message, remedy, node.id, input.name, "values")

    def _missing(self, node: DocumentNode, input: Input) -> None:
        remedy = "Enter a value or link it." if input.kind.literal else f"Link it to an output of kind {input.kind}."
        message = f"the input {input.name!r} of kind {input.kind} is not connected."
        self._problem("missing_input", message, remedy, node.id, input.name, "links")

    def _unknown_port(self, node: DocumentNode, type: NodeType, port: str, where: str) -> None:
        have = ", ".join(type.by_name) or "none"
        self._problem("unknown_port", f"{type.id} has no input {port!r}.", f"Its inputs: {have}.", node.id, port, where)

    def _unknown_source(self, node: DocumentNode, port: str, source: str) -> None:
        message = f"it is linked to {source!r}, which is no node of this workflow."
        self._problem("unknown_link", message, "Link it to a node that is there.", node.id, port, "links")

    def _problem(self, code: str, message: str, remedy: str, node: str, port: str, where: str) -> None:
        self.problems.append(Problem(code, message, remedy, node, port, f"/nodes/{node}/{where}/{port}"))


def _without_inactive(nodes: Mapping[str, DocumentNode], types: Mapping[str, NodeType]) -> dict[str, DocumentNode]:
    """Muted nodes and whatever cannot run without them are gone; a bypassed node hands its inputs through by kind."""
    passed: dict[tuple[str, str], tuple[str, str] | None] = {}
    """Output of a bypassed node -> the output it hands through, or None."""

    def through(link: tuple[str, str]) -> tuple[str, str] | None:
        path: list[tuple[str, str]] = []
        end: tuple[str, str] | None = link
        while end is not None and end[0] in nodes and nodes[end[0]].mode == "bypassed":
            if end in passed:
                end = passed[end]
                break
            passed[end] = None  # so that bypassed nodes in a circle give nothing
            path.append(end)
            end = before(*end)
        passed.update(dict.fromkeys(path, end))
        return end

    def before(source: str, output: str) -> tuple[str, str] | None:
        index = types[source].output_index.get(output)
        kind = types[source].outputs[index].kind if index is not None else ANY
        for port, link in nodes[source].links.items():
            if (input := types[source].input(port)) is not None and kind.accepts(input.kind):
                return link
        return None

    def required(id: str, port: str) -> bool:
        return (input := types[id].input(port)) is not None and input.required

    active = {id: node for id, node in nodes.items() if node.mode == "active"}
    links = {id: {port: through(link) for port, link in node.links.items()} for id, node in active.items()}
    readers: dict[str, list[tuple[str, str]]] = {}
    for id, ports in links.items():
        for port, found in ports.items():
            if found is not None:
                readers.setdefault(found[0], []).append((id, port))
    gone = {id for id, node in nodes.items() if node.mode == "muted"}
    gone |= {
        id for id, ports in links.items() if any(found is None and required(id, port) for port, found in ports.items())
    }
    leaving = list(gone)
    while leaving:
        for id, port in readers.get(leaving.pop(), ()):
            if required(id, port) and id not in gone:
                gone.add(id)
                leaving.append(id)
    return {
        id: node._replace(links={port: found for port, found in links[id].items() if found and found[0] not in gone})
        for id, node in active.items()
        if id not in gone
    }
