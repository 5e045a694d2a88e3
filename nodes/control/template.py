"""Text with places to fill in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any

from graph_engine import AnyValue, Needs, NodeError, Widget, node

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


@node(id="control.template", title="Text template", category="control/text", needs=Needs(inline=True))
def template(template: Annotated[str, Widget(multiline=True)], **values: AnyValue) -> str:
    """Fill `{name}` with the input of that name. `{{` and `}}` are literal braces. Nothing else is interpreted."""
    return fill(template, values)


def fill(template: str, values: Mapping[str, Any]) -> str:
    """The filled text. Raises NodeError for a name without a value and for a brace that belongs to nothing."""

    def piece(match: re.Match[str]) -> str:
        found = match.group()
        if found in ("{{", "}}"):
            return found[0]
        if match.group(1) is None:
            raise NodeError(
                f"the template has a single {found!r} at character {match.start() + 1}.",
                remedy="Write {{ or }} for a literal brace, {name} for a value.",
                code="bad_template",
                port="template",
            )
        name = match.group(1).strip()
        if values.get(name) is None:
            given = ", ".join(sorted(key for key in values if values[key] is not None)) or "none"
            raise NodeError(
                f"the template asks for {{{name}}}, which has no value; the given values are: {given}.",
                remedy=f"Connect an input named {name!r}, or write {{{{{name}}}}} for the literal text.",
                code="missing_value",
                port="template",
            )
        return as_text(values[name])

    return _PIECE.sub(piece, template)


def as_text(value: Any) -> str:
    """Text as it is, JSON values as JSON, anything else in a few words."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        from graph_engine.graph.kinds import describe

        return describe(value)
