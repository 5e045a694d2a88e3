"""Text with places to fill in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any

from graph_engine import AnyValue, Needs, NodeError, Widget, node

MAX_CHARACTERS = 32 << 20
"""Of a text that a node makes: as much as media.load_text reads. It is made on the engine's loop, where all wait for it."""
_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


@node(id="control.template", title="Text template", category="control/text", needs=Needs(inline=True))
def template(template: Annotated[str, Widget(multiline=True)], **values: AnyValue) -> str:
    """Fill `{name}` with the input of that name. `{{` and `}}` are literal braces. Nothing else is interpreted."""
    return fill(template, values)


def fill(template: str, values: Mapping[str, Any]) -> str:
    """The filled text. Raises NodeError for a name without a value, for a brace that belongs to nothing, and for too long a
    text."""
    length = len(template)
    texts: dict[str, str] = {}

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
        if name not in texts:
            texts[name] = as_text(values[name])
        nonlocal length
        length += len(texts[name]) - len(found)
        refuse_long(length, "template")
        return texts[name]

    return _PIECE.sub(piece, template)


def refuse_long(characters: int, port: str = "") -> None:
    """Raises NodeError for a text that would have more characters than a text may have. Call it before making the text."""
    if characters > MAX_CHARACTERS:
        raise NodeError(
            f"the text would have more than {MAX_CHARACTERS:,} characters.",
            remedy="Shorten what is put in, or put it in less often.",
            code="too_large",
            port=port,
        )


def as_text(value: Any) -> str:
    """Text as it is, JSON values as JSON, anything else in a few words."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        from graph_engine.graph.kinds import describe

        return describe(value)
