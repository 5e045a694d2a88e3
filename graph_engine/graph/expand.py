"""Expand: a document whose subgraphs are written out. Pure; what comes out is an ordinary document without any.

The node `blur` in the instance `first` is called "first/blur". What passes a border is linked as if there was none, so keys,
plans and events are those of the same nodes written flat. What is wrong afterwards is told where a person can see it: on the
port of the instance that a value was entered at, or on the node within, by its path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from graph_engine.errors import GraphError, Problem
from graph_engine.graph.document import Document, DocumentNode
from graph_engine.graph.kinds import fits
from graph_engine.graph.subgraph import BORDER, Subgraph, definition_of

End = tuple[str, str]
"""(node, port)"""


class Site(NamedTuple):
    """A port of an instance that something passed. place: of the instance in the text, or of a default that was taken."""

    node: str
    port: str
    kind: str
    place: str
    side: str


class _Way(NamedTuple):
    """Where an input of a node gets its value: a link, a value, or nothing. sites: the borders, from the reader outwards."""

    sites: tuple[Site, ...]
    link: End | None = None
    value: Any = None
    given: bool = False


class _Scope:
    """The document itself, or one instance of a subgraph."""

    def __init__(
        self, path: str, place: str, nodes: dict[str, DocumentNode], definition: Subgraph | None, parent: _Scope | None
    ) -> None:
        self.path, self.place, self.nodes, self.definition, self.parent = path, place, nodes, definition, parent
        self.children: dict[str, _Scope] = {}
        self.mode = "active"

    @property
    def prefix(self) -> str:
        return f"{self.path}/" if self.path else ""

    @property
    def holder(self) -> DocumentNode:
        """The instance, as it stands in the parent."""
        assert self.parent is not None
        return self.parent.nodes[self.path.rpartition("/")[2]]

    @property
    def holder_place(self) -> str:
        assert self.parent is not None
        return f"{self.parent.place}/nodes/{self.path.rpartition('/')[2]}"


class Flat(NamedTuple):
    """document: without subgraphs; ways: what its inputs got through borders; places: of its nodes in the text."""

    document: Document
    scopes: dict[str, _Scope]
    ways: dict[End, _Way]
    places: dict[str, str]

    def targets(self, names: Iterable[str], is_output: Callable[[str], bool]) -> list[str]:
        """For an instance: the output nodes in it, and what its outputs come from. is_output: of a node type."""
        found: list[str] = []
        for name in names:
            if name not in self.scopes:
                found.append(name)
                continue
            inner = [id for id in self.within(name) if is_output(self.document.nodes[id].type)]
            inner += self.feeds(name)
            found += inner or list(self.within(name))[-1:]
        return list(dict.fromkeys(found))

    def within(self, instance: str) -> list[str]:
        return [id for id in self.document.nodes if id.startswith(f"{instance}/")]

    def feeds(self, instance: str) -> list[str]:
        """The nodes of an instance that its outputs come from."""
        scope = self.scopes[instance]
        assert scope.definition is not None
        ways = [_way(scope, output.link) for output in scope.definition.outputs.values() if output.link is not None]
        ends = [way.link[0] for way in ways if isinstance(way, _Way) and way.link is not None]
        return list(dict.fromkeys(id for id in ends if id.startswith(f"{instance}/") and id in self.document.nodes))

    def entries(self, instance: str) -> list[str]:
        """The nodes of an instance that read nothing within it."""
        prefix = f"{instance}/"
        return [
            id
            for id in self.within(instance)
            if not any(source.startswith(prefix) for source, _ in self.document.nodes[id].links.values())
        ]

    def borders(self, readers: Iterable[str], kind_of: Callable[[str, str], str | None]) -> list[Problem]:
        """What comes along a link must be what each port on its way says. kind_of: of an output, None if there is none."""
        problems: dict[End, Problem] = {}
        wanted = set(readers)
        for (reader, _), (sites, link, _, _) in self.ways.items():
            kind = kind_of(*link) if link is not None and reader in wanted else None
            for site in reversed(sites) if kind is not None and link is not None else ():
                if not fits(site.kind, kind or "*"):
                    gives = f"{link[0]}.{link[1]} gives {kind}" if link is not None else ""
                    if site.side == "input":
                        message = f"it takes {site.kind}, but {gives}."
                        remedy = f"Link an output of kind {site.kind}."
                    else:
                        message = f"it is said to give {site.kind}, but {gives}."
                        remedy = "Expose another output, or give the port that kind."
                    place = f"{site.place}/links/{site.port}"
                    found = Problem("wrong_kind", message, remedy, site.node, site.port, place)
                    problems.setdefault((site.node, site.port), found)
                    break
        return list(problems.values())

    def located(self, problems: Sequence[Problem]) -> list[Problem]:
        """The problems of the flat graph, told where a person can do something about them."""
        told = {(problem.node, problem.port) for problem in problems if problem.code == "wrong_kind"}
        found = []
        for problem in problems:
            way = self.ways.get((problem.node, problem.port))
            place = problem.place
            prefix = f"/nodes/{problem.node}"
            if problem.node in self.places and place.startswith(prefix):
                place = self.places[problem.node] + place[len(prefix) :]
            if way is not None and problem.node in self.places:  # in the text it is a link, whatever came along it
                place = f"{self.places[problem.node]}/links/{problem.port}"
            if way is not None and problem.code == "wrong_kind":
                if any((site.node, site.port) in told for site in way.sites):
                    continue  # the border says it
            elif way is not None and problem.code not in ("unknown_port", "unknown_link", "cycle"):
                site = next((site for site in reversed(way.sites) if site.side == "input"), None)
                if site is not None:  # what it got, or did not get, comes from there
                    where = site.place if site.place.endswith("/default") else f"{site.place}/values/{site.port}"
                    problem = problem._replace(node=site.node, port=site.port)
                    place = where
            found.append(problem._replace(place=place))
        return list(dict.fromkeys(found))


def expand(document: Document) -> Flat:
    """Raises GraphError with everything that is wrong at borders: unknown definitions and ports, links past a border."""
    problems: list[Problem] = []
    root = _Scope("", "", dict(document.nodes), None, None)
    scopes: dict[str, _Scope] = {}
    _enter(root, document.subgraphs, scopes, problems)
    nodes: dict[str, DocumentNode] = {}
    ways: dict[End, _Way] = {}
    places: dict[str, str] = {}
    _write_out(root, nodes, ways, places, problems)
    if problems:
        raise GraphError(list(dict.fromkeys(problems)))
    return Flat(document._replace(nodes=nodes, subgraphs={}), scopes, ways, places)


def _enter(
    scope: _Scope, subgraphs: Mapping[str, Subgraph], scopes: dict[str, _Scope], problems: list[Problem]
) -> None:
    """Find the instances in a scope, and what is in them. As deep as subgraphs may lie in each other, and no deeper."""
    for id, node in scope.nodes.items():
        name = definition_of(node.type)
        if name is None:
            continue
        path, place = f"{scope.prefix}{id}", f"{scope.place}/nodes/{id}"
        definition = subgraphs.get(name)
        if definition is None:
            message = f"there is no subgraph {name!r} in this workflow."
            remedy = f"Its subgraphs: {', '.join(subgraphs) or 'none'}; add the definition, or take the node out."
            problems.append(Problem("unknown_subgraph", message, remedy, path, place=f"{place}/type"))
            continue
        for where, ports in (("values", node.values), ("links", node.links)):
            for port in ports:
                if port not in definition.inputs and (where == "links" or "." not in port):
                    _unknown(definition, "input", port, path, f"{place}/{where}/{port}", problems)
        child = _Scope(path, f"/subgraphs/{name}", _written(definition, node, path, place, problems), definition, scope)
        child.mode = node.mode if scope.mode == "active" else "muted"
        scope.children[id] = scopes[path] = child
        for index, output in enumerate(definition.outputs.values()):
            if output.link is not None and output.link[0] not in (BORDER, *definition.nodes):
                message = f"{output.name!r} comes from {output.link[0]!r}, which is no node of the subgraph {name!r}."
                where = f"/subgraphs/{name}/outputs/{index}/link"
                remedy = "Link the output to a node that is there."
                problems.append(Problem("unknown_link", message, remedy, path, output.name, where))
        _enter(child, subgraphs, scopes, problems)


def _written(
    definition: Subgraph, holder: DocumentNode, path: str, place: str, problems: list[Problem]
) -> dict[str, DocumentNode]:
    """The nodes of a definition with what one instance writes over their values."""
    nodes = dict(definition.nodes)
    for name, value in holder.values.items():
        where, dot, port = name.partition(".")
        if not dot:
            continue
        id, _, rest = where.partition("/")
        node = nodes.get(id)
        if node is None or not port or (rest and definition_of(node.type) is None):
            message = f"{name!r} names no input within the subgraph {definition.name!r}."
            remedy = f'Write "node.input"; its nodes: {", ".join(list(nodes)[:12])}.'
            problems.append(Problem("unknown_override", message, remedy, path, name, f"{place}/values/{name}"))
            continue
        input = f"{rest}.{port}" if rest else port
        links = {key: link for key, link in node.links.items() if key != input}
        nodes[id] = node._replace(values={**node.values, input: value}, links=links)
    return nodes


def _write_out(
    scope: _Scope,
    nodes: dict[str, DocumentNode],
    ways: dict[End, _Way],
    places: dict[str, str],
    problems: list[Problem],
) -> None:
    for id, node in scope.nodes.items():
        if definition_of(node.type) is not None:
            if id in scope.children:
                _write_out(scope.children[id], nodes, ways, places, problems)
            continue
        flat = f"{scope.prefix}{id}"
        places[flat] = f"{scope.place}/nodes/{id}"
        values, links = node.values, node.links
        for port, link in node.links.items():
            if scope.definition is None and link[0] not in scope.children and "/" not in link[0]:
                continue  # nothing to do, as in most of a document
            way = _way(scope, link)
            if isinstance(way, Problem):
                problems.append(way._replace(node=flat, port=port, place=f"{places[flat]}/links/{port}"))
                continue
            links = {key: end for key, end in links.items() if key != port}
            if way.link is not None:
                links[port] = way.link
            elif way.given:
                values = {**values, port: way.value}
            if way.sites:
                ways[flat, port] = way
        mode = node.mode if scope.mode == "active" else "muted"
        nodes[flat] = node._replace(id=flat, values=values, links=links, mode=mode)


def _way(scope: _Scope, link: End) -> _Way | Problem:
    """Follow a link to the output, the value or the gap that it begins at, through all borders."""
    sites: list[Site] = []
    seen: set[tuple[str, End]] = set()
    while True:
        if (scope.path, link) in seen:
            return Problem("cycle", "the links form a cycle through borders.", "Remove one of these links.")
        seen.add((scope.path, link))
        node, port = link
        definition = scope.definition
        if node == BORDER and definition is not None:
            exposed = definition.inputs.get(port)
            if exposed is None:
                return _not_exposed(definition, port)
            holder = scope.holder
            place = scope.holder_place
            takes_default = port not in holder.links and port not in holder.values and exposed.given
            if takes_default:
                place = f"{scope.place}/inputs/{list(definition.inputs).index(port)}/default"
            sites.append(Site(scope.path, port, exposed.kind, place, "input"))
            if port in holder.links:
                assert scope.parent is not None
                scope, link = scope.parent, holder.links[port]
                continue
            value = holder.values.get(port, exposed.default)
            return _Way(tuple(sites), None, value, port in holder.values or exposed.given)
        child = scope.children.get(node)
        if child is None or child.definition is None:
            head = node.partition("/")[0]
            if "/" in node and head in scope.children:
                message = f"it is linked to {node!r}, past the border of a subgraph."
                return Problem("not_exposed", message, f"Expose that output, and link to {head!r}.")
            return _Way(tuple(sites), (f"{scope.prefix}{node}", port))
        output = child.definition.outputs.get(port)
        if output is None:
            found: list[Problem] = []
            _unknown(child.definition, "output", port, child.path, "", found)
            return found[0]
        around = _around(child, output.kind) if child.mode == "bypassed" else None
        if around is not None:
            link = around
            continue
        sites.append(Site(child.path, port, output.kind, child.holder_place, "output"))
        if output.link is None:
            message = f"the output {port!r} of {child.path!r} has nothing to give: nothing is linked to it inside."
            return Problem("unknown_link", message, "Enter the subgraph and link it.")
        scope, link = child, output.link


def _around(child: _Scope, kind: str) -> End | None:
    """What a bypassed instance hands on instead: what comes to its first input of that kind."""
    assert child.definition is not None
    for port, link in child.holder.links.items():
        exposed = child.definition.inputs.get(port)
        if exposed is not None and fits(kind, exposed.kind):
            return link
    return None


def _not_exposed(definition: Subgraph, port: str) -> Problem:
    have = ", ".join(definition.inputs) or "none"
    message = f"the subgraph {definition.name!r} exposes no input {port!r}."
    return Problem("not_exposed", message, f"Expose it, or link to one that is there: {have}.")


def _unknown(definition: Subgraph, side: str, port: str, path: str, place: str, problems: list[Problem]) -> None:
    have = ", ".join(definition.inputs if side == "input" else definition.outputs) or "none"
    message = f"the subgraph {definition.title or definition.name!r} has no {side} {port!r}."
    problems.append(Problem("unknown_port", message, f"Its {side}s: {have}.", path, port, place))
