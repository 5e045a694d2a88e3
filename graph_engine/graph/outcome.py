"""What a node may answer: values, nothing, "give me more first", or "run this graph in my place"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, NamedTuple


class Unset(Enum):
    """The type of `UNSET`, the value of a lazy input that has not been asked for yet."""

    UNSET = "unset"

    def __bool__(self) -> bool:
        return False


UNSET: Final = Unset.UNSET


class Skip(NamedTuple):
    """This port has nothing. Readers whose port is required are skipped in turn; others see the port as unconnected."""

    message: str = ""

    def in_words(self) -> Skip:
        """With a message that is text, whatever the node gave."""
        return self if type(self.message) is str else Skip(str(self.message))


class Values(NamedTuple):
    """One entry per output port, in the order of the ports; an entry may be a `Skip`."""

    outputs: tuple[Any, ...]


class Need(NamedTuple):
    """Evaluate these lazy inputs and call the node again."""

    ports: tuple[str, ...]

    @classmethod
    def of(cls, *ports: str) -> Need:
        return cls(ports)


class NodeLink(NamedTuple):
    """The output `port` of the node `node` of a growing graph."""

    node: str
    port: str


class OwnInput(NamedTuple):
    """Whatever is connected to the input `port` of the node that grows."""

    port: str


@dataclass(slots=True)
class GrownNode:
    type: str
    values: dict[str, Any] = field(default_factory=dict)
    links: dict[str, NodeLink | OwnInput] = field(default_factory=dict)

    def __getitem__(self, port: str) -> NodeLink:
        return NodeLink(self.id, port)

    id: str = ""


@dataclass(slots=True)
class Grow:
    """Run this graph in my place; `outputs` names which of its outputs are mine.

    grow = Grow()
    small = grow.add("media.resize_image", image=grow.own("image"), width=64, height=64)
    return grow.returning(image=small["image"])

    Inputs of the new nodes are literals, any other Python value, outputs of new nodes (`small["image"]`) or the
    growing node's own inputs (`grow.own("image")`), which are handed on without being evaluated or copied.
    """

    nodes: dict[str, GrownNode] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)

    def add(self, type: str, /, _id: str = "", **inputs: Any) -> GrownNode:
        node = GrownNode(type, id=_id or f"{type.rpartition('.')[2]}{len(self.nodes)}")
        for port, value in inputs.items():
            if isinstance(value, NodeLink | OwnInput):
                node.links[port] = value
            else:
                node.values[port] = value
        self.nodes[node.id] = node
        return node

    @staticmethod
    def own(port: str) -> OwnInput:
        return OwnInput(port)

    def returning(self, outputs: Mapping[str, Any] | None = None, /, **named: Any) -> Grow:
        """Each output is a `NodeLink`, an `OwnInput`, a list of these (a list output), a `Skip`, or a plain value."""
        self.outputs.update(outputs or {}, **named)
        return self


Outcome = Values | Skip | Need | Grow
