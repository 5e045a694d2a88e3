"""The obvious interpreter: recursive, one node after another. What the scheduler does must mean the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graph_engine.graph.node import NodeType
from graph_engine.graph.outcome import UNSET, Grow, Need, NodeLink, OwnInput, Skip
from graph_engine.graph.registry import Registry


class Fail:
    """A step that failed, or was blocked by one that did."""

    def __repr__(self) -> str:
        return "Fail"


FAIL = Fail()


class Listed(list):
    """A list output, as opposed to a value that happens to be a list."""


def run(document: Mapping[str, Any], registry: Registry) -> dict[str, Any]:
    """{target: its value, a Listed, a Skip or FAIL}"""
    nodes = {
        name: (
            registry[entry["type"]],
            dict(entry.get("values", {})),
            {port: NodeLink(*link.split(".")) for port, link in entry.get("links", {}).items()},
        )
        for name, entry in document["nodes"].items()
    }
    scope = Scope(nodes, {}, registry)
    return {target: scope.value(target) for target in document["targets"]}


class Scope:
    def __init__(self, nodes: Mapping[str, Any], own: Mapping[str, Any], registry: Registry) -> None:
        self.nodes, self.own, self.registry = nodes, own, registry
        self.known: dict[str, Any] = {}

    def value(self, name: str) -> Any:
        if name not in self.known:
            type, values, links = self.nodes[name]
            self.known[name] = self.evaluate(type, values, links, frozenset())
        return self.known[name]

    def follow(self, link: Any) -> Any:
        if isinstance(link, OwnInput):
            found = self.own[link.port]
            return found() if callable(found) else found
        return self.value(link.node)

    def evaluate(self, type: NodeType, values: dict[str, Any], links: dict[str, Any], asked: frozenset[str]) -> Any:
        arrived: dict[str, Any] = {}
        for port, link in links.items():
            input = type.input(port)
            assert input is not None
            if not input.lazy or port in asked:
                arrived[port] = self.follow(link)
        if any(value is FAIL for value in arrived.values()):
            return FAIL
        lengths = [
            len(value)
            for port, value in arrived.items()
            if isinstance(value, Listed) and not type.by_name[port].as_list
        ]
        for port, value in arrived.items():
            if isinstance(value, Skip) and type.by_name[port].required and not type.by_name[port].as_list:
                return value
        if not lengths:
            return self.call(type, values, links, arrived, asked, None)
        results = []
        for index in range(0 if 0 in lengths else max(lengths)):
            results.append(self.item(type, values, links, arrived, asked, index))
        if any(result is FAIL for result in results):
            return FAIL
        flat = Listed()
        for result in results:
            if isinstance(result, Listed) and type.outputs[0].as_list:
                flat.extend(result)
            else:
                flat.append(result)
        return flat

    def item(
        self,
        type: NodeType,
        values: dict[str, Any],
        links: Any,
        arrived: dict[str, Any],
        asked: frozenset[str],
        index: int,
    ) -> Any:
        taken = {}
        for port, value in arrived.items():
            if isinstance(value, Listed) and not type.by_name[port].as_list:
                value = value[min(index, len(value) - 1)] if value else Skip("empty")
            if isinstance(value, Skip) and type.by_name[port].required and not type.by_name[port].as_list:
                return value
            taken[port] = value
        return self.call(type, values, links, taken, asked, index)

    def call(
        self,
        type: NodeType,
        values: dict[str, Any],
        links: dict[str, Any],
        arrived: dict[str, Any],
        asked: frozenset[str],
        index: int | None,
    ) -> Any:
        given = dict(values)
        for port, value in arrived.items():
            input = type.by_name[port]
            if input.as_list:
                value = [] if isinstance(value, Skip) else value if isinstance(value, Listed) else [value]
                given[port] = [one for one in value if not isinstance(one, Skip)]
            elif not isinstance(value, Skip):
                given[port] = value
        for input in type.inputs:
            if input.lazy and input.name in links and input.name not in given:
                given[input.name] = None if input.name in asked else UNSET
            if input.name not in given:
                given[input.name] = input.default
        try:
            answer = type.function(**given)
        except ValueError:
            return FAIL
        if isinstance(answer, Need):
            asked = asked | set(answer.ports)
            if index is None:
                return self.evaluate(type, values, links, asked)
            more = {port: self.follow(links[port]) for port in answer.ports}
            if any(value is FAIL for value in more.values()):
                return FAIL
            return self.item(type, values, links, {**arrived, **more}, asked, index)
        if isinstance(answer, Grow):
            return self.grow(type, given, arrived, answer)
        if type.outputs[0].as_list and not isinstance(answer, Skip):
            return Listed(answer)
        return answer

    def grow(self, type: NodeType, given: dict[str, Any], arrived: dict[str, Any], grow: Grow) -> Any:
        own = {**given, **arrived}
        nodes = {
            id: (self.registry[grown.type], dict(grown.values), dict(grown.links)) for id, grown in grow.nodes.items()
        }
        scope = Scope(nodes, own, self.registry)
        wanted = grow.outputs[type.outputs[0].name]
        if not isinstance(wanted, list):
            return wanted if isinstance(wanted, Skip) else scope.follow(wanted)
        parts = [part if isinstance(part, Skip) else scope.follow(part) for part in wanted]
        if any(part is FAIL for part in parts):
            return FAIL
        flat = Listed()
        for part in parts:
            flat.extend(part) if isinstance(part, Listed) else flat.append(part)
        return flat
