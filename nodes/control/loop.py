"""Loops: a node that answers with a graph in which another node stands once per round."""

from __future__ import annotations

from typing import Annotated, Any, cast

from graph_engine import AnyValue, Grow, Json, Needs, NodeError, Widget, node
from graph_engine.graph.kinds import describe

CATEGORY = "control/loop"
BLOCK = 16
"""Rounds of one growth of `control.repeat`; the rest is a nested repeat, so no graph is larger than this."""
_LITERAL = (str, int, float, bool, type(None))


@node(id="control.map", title="Map", category=CATEGORY, needs=Needs(inline=True))
def map_items(
    items: list[AnyValue],
    node: Annotated[str, Widget(placeholder="media.invert_image")],
    port: Annotated[str, Widget(placeholder="image")],
    output: Annotated[str, Widget(placeholder="image")],
    constants: Json = None,
    **more: AnyValue,
) -> list[AnyValue]:
    """Run the node type `node` once per entry of the list, the entry at its input `port`; a list of its `output`.

    constants: JSON object of further inputs; **more: further inputs by link, the same in every round.
    """
    grow = Grow()
    further = _further(grow, constants, more, port)
    rounds = [grow.add(node, f"item{number}", **{**further, port: item}) for number, item in enumerate(items)]
    return cast(list[Any], grow.returning(value=[each[output] for each in rounds]) if rounds else [])


@node(id="control.repeat", title="Repeat", category=CATEGORY, needs=Needs(inline=True))
def repeat(
    value: AnyValue,
    node: Annotated[str, Widget(placeholder="media.invert_image")],
    port: Annotated[str, Widget(placeholder="image")],
    output: Annotated[str, Widget(placeholder="image")],
    count: Annotated[int, Widget(min=0, max=10_000)] = 1,
    constants: Json = None,
    **more: AnyValue,
) -> AnyValue:
    """Run the node type `node` `count` times, feeding its `output` back into its input `port`, from `value` on.

    constants: JSON object of further inputs; **more: further inputs by link, the same in every round.
    """
    if count == 0:
        return value
    grow = Grow()
    further = _further(grow, constants, more, port)
    current: Any = value if isinstance(value, _LITERAL) else grow.own("value")
    for number in range(min(count, BLOCK)):
        current = grow.add(node, f"round{number}", **{**further, port: current})[output]
    if count > BLOCK:
        links = {name: link for name, link in further.items() if name in more}
        rest = {"node": node, "port": port, "output": output, "count": count - BLOCK, "constants": constants}
        current = grow.add("control.repeat", "rest", value=current, **rest, **links)["value"]
    return grow.returning(value=current)


def _further(grow: Grow, constants: Any, more: dict[str, Any], port: str) -> dict[str, Any]:
    """The inputs that are the same in every round: constants as literals, links handed on as links."""
    if constants is not None and not isinstance(constants, dict):
        raise NodeError(
            f"constants must be a JSON object of input names and values, got {describe(constants)}.",
            remedy='Write {"width": 64}, say.',
            code="bad_constants",
            port="constants",
        )
    for name in (constants or {}, more):
        if port in name:
            raise NodeError(
                f"the input {port!r} is given twice: by the loop and as a further input.",
                remedy=f"Remove {port!r} from the constants and the further inputs.",
                code="given_twice",
                port="port",
            )
    own = {name: value if isinstance(value, _LITERAL) else grow.own(name) for name, value in more.items()}
    return {**(constants or {}), **own}
