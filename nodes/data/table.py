"""Tables in and out: from files, texts and JSON, and back."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from graph_engine import Effect, File, Json, NodeContext, NodeError, Widget, node
from graph_engine.errors import KindError
from nodes.data import table_text
from nodes.data.kinds import TABLE, Table
from nodes.data.table_text import TableTextError

CATEGORY = "data/table"
LIMIT_BYTES = 64 << 20
MEDIA_TYPES = {"csv": "text/csv", "md": "text/markdown", "json": "application/json"}
Form = Literal["any", "csv", "markdown", "json"]


@node(id="data.load_table", category=CATEGORY)
def load_table(context: NodeContext, file: Annotated[str, Widget(upload="text")], form: Form = "any") -> Table:
    """Read a table from a CSV, Markdown or JSON file in UTF-8. form: `any` goes by the file's name."""
    path = context.input_path(file)
    size = path.stat().st_size
    if size > LIMIT_BYTES:
        raise NodeError(
            f"{path.name} has {size:,} bytes, more than the limit of {LIMIT_BYTES:,}.",
            remedy="Split the file.",
            code="too_large",
            port="file",
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise NodeError(
            f"{path.name} is no UTF-8 text: byte {error.start} fits no character.",
            remedy="Save it as UTF-8, or read it by media.load_text with its encoding and data.table_from_text.",
            code="wrong_encoding",
            port="file",
        ) from None
    by_name = {".md": "markdown", ".markdown": "markdown", ".json": "json"}.get(path.suffix.lower(), "csv")
    return parse(text, by_name if form == "any" else form, "file", path.name)


@node(id="data.table_from_text", category=CATEGORY)
def table_from_text(text: Annotated[str, Widget(multiline=True)], form: Form = "any") -> Table:
    """The table in a text, such as the answer of a language model.

    form: `any` takes JSON if it is JSON, else the first Markdown table, else lines of separated values.
    """
    return parse(text, form, "text", "the text")


@node(id="data.table_from_json", category=CATEGORY)
def table_from_json(value: Json) -> Table:
    """A list of objects (a row each), a list of lists (names first), or an object (of columns, or of names and values)."""
    try:
        return _checked(table_text.from_json(value))
    except TableTextError as error:
        raise _no_table("the value", error, "value") from None


@node(id="data.table_to_text", category=CATEGORY)
def table_to_text(table: Table, form: Literal["markdown", "csv", "json"] = "markdown") -> str:
    """A table as text: Markdown for people and language models, CSV or JSON (a list of objects) for programs."""
    return written(table, form)


@node(id="data.save_table", category=CATEGORY, effect=Effect.EXTERNAL, output=True)
def save_table(
    context: NodeContext, table: Table, name: str = "table", format: Literal["csv", "md", "json"] = "csv"
) -> File:
    """Write a table to the output folder."""
    from nodes.media.file_faults import complete_or_gone

    path = context.output_path(name, format)
    with complete_or_gone(path, "table"):
        path.write_text(written(table, "markdown" if format == "md" else format), encoding="utf-8", newline="\n")
    return context.file(path, MEDIA_TYPES[format], rows=len(table["rows"]), columns=len(table["columns"]))


def parse(text: str, form: str, port: str, what: str) -> Any:
    """A TABLE out of a text. Raises NodeError that names the port."""
    try:
        if form == "any":
            form = _recognise(text)
        if form == "json":
            return _checked(table_text.from_json(json.loads(text)))
        return _checked(table_text.from_markdown(text) if form == "markdown" else table_text.from_csv(text))
    except json.JSONDecodeError as error:
        reason = TableTextError(f"it is no JSON: {error.msg} in line {error.lineno}, column {error.colno}")
        raise _no_table(what, reason, port) from None
    except TableTextError as error:
        raise _no_table(what, error, port) from None


def written(table: Any, form: str) -> str:
    writers = {"markdown": table_text.to_markdown, "csv": table_text.to_csv, "json": table_text.to_json}
    return writers[form](table)


def _recognise(text: str) -> str:
    if text.lstrip()[:1] in ("[", "{"):
        return "json"
    try:
        table_text.from_markdown(text)
    except TableTextError:
        return "csv"
    return "markdown"


def _checked(table: Any) -> Any:
    try:
        return TABLE.check(table)
    except KindError as error:
        raise TableTextError(str(error.message).removesuffix(".")) from None


def _no_table(what: str, reason: TableTextError, port: str) -> NodeError:
    return NodeError(
        f"{what} gives no table: {reason}.",
        remedy="Give it a header line and rows of as many cells, or choose the form it has.",
        code="no_table",
        port=port,
    )
