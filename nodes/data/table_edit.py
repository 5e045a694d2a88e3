"""Tables out of tables: columns chosen, rows ordered, filtered, put together, summed up."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from graph_engine import NodeError, Widget, node
from nodes.control.port_order import natural
from nodes.data.kinds import Table
from nodes.data.table_text import Cell, cell_of, written

CATEGORY = "data/table"


@node(id="data.select_columns", category=CATEGORY)
def select_columns(table: Table, columns: Annotated[str, Widget(placeholder="city, people")]) -> Table:
    """Some columns of a table, in the order in which they are named, separated by commas."""
    places = [place_of(table, name.strip(), "columns") for name in columns.split(",")]
    names = [table["columns"][place] for place in places]
    return {"columns": names, "rows": [[row[place] for place in places] for row in table["rows"]]}


@node(id="data.sort_table", category=CATEGORY)
def sort_table(table: Table, column: str, descending: bool = False, first: Annotated[int, Widget(min=0)] = 0) -> Table:
    """Rows in the order of a column: numbers before words, empty cells last. first: keep so many; 0 keeps all."""
    place = place_of(table, column, "column")
    known = [row for row in table["rows"] if row[place] is not None]
    known.sort(key=lambda row: _rank(row[place]), reverse=descending)
    rows = known + [row for row in table["rows"] if row[place] is None]
    return {"columns": table["columns"], "rows": rows[: first or None]}


@node(id="data.filter_rows", category=CATEGORY)
def filter_rows(
    table: Table,
    column: str,
    relation: Literal["=", "≠", "<", "≤", ">", "≥", "contains", "is empty", "is not empty"] = "=",
    value: str = "",
) -> Table:
    """The rows whose cell fits. Numbers are compared as numbers, words without regard to case."""
    place, wanted = place_of(table, column, "column"), cell_of(value)

    def fits(cell: Cell) -> bool:
        if relation.endswith("empty"):
            return (cell is None) == (relation == "is empty")
        if relation == "contains":
            return value.casefold() in written(cell).casefold()
        if cell is None or wanted is None:
            return (relation == "=") == (cell is wanted) if relation in "=≠" else False
        mine, other = _rank(cell), _rank(wanted)
        if relation in ("=", "≠"):
            return (mine == other) == (relation == "=")
        if mine[0] != other[0]:
            return False
        return {"<": mine < other, "≤": mine <= other, ">": mine > other, "≥": mine >= other}[relation]

    return {"columns": table["columns"], "rows": [row for row in table["rows"] if fits(row[place])]}


@node(id="data.append_tables", category=CATEGORY)
def append_tables(**tables: list[Table]) -> Table:
    """Tables below one another, in the natural order of the port names; cells of columns that one lacks are empty."""
    parts = [table for name in natural(tables) for table in tables[name] or []]
    if not parts:
        raise NodeError("there is no table to append.", remedy="Connect at least one.", code="nothing_to_do")
    columns = list(dict.fromkeys(name for table in parts for name in table["columns"]))
    rows = []
    for table in parts:
        for row in table["rows"]:
            cells = dict(zip(table["columns"], row, strict=True))
            rows.append([cells.get(name) for name in columns])
    return {"columns": columns, "rows": rows}


_SUMS: dict[str, Callable[[Sequence[Any]], Any]] = {
    "sum": sum,
    "mean": statistics.fmean,
    "median": statistics.median,
    "smallest": min,
    "largest": max,
}


@node(id="data.summarise", category=CATEGORY)
def summarise(
    table: Table,
    by: Annotated[str, Widget(label="group by")] = "",
    column: str = "",
    what: Literal["count", "sum", "mean", "median", "smallest", "largest"] = "count",
) -> Table:
    """One row per value of the column `by` (or one for all rows): their count, or a figure of the numbers in `column`."""
    place = place_of(table, by, "by") if by else None
    groups: dict[Cell, list[list[Cell]]] = {}
    for row in table["rows"]:
        groups.setdefault("all" if place is None else row[place], []).append(row)
    head = by or "rows"
    if what == "count":
        return {"columns": _apart(head, "count"), "rows": [[key, len(rows)] for key, rows in groups.items()]}
    source = place_of(table, column, "column")
    out = []
    for key, rows in groups.items():
        numbers = [_number(row[source], column) for row in rows if row[source] is not None]
        out.append([key, _SUMS[what](numbers) if numbers else None])
    return {"columns": _apart(head, f"{what} of {column}"), "rows": out}


def place_of(table: Any, column: str, port: str) -> int:
    """Where a column stands. Raises NodeError that names the columns there are."""
    if column in table["columns"]:
        return int(table["columns"].index(column))
    folded = [name.casefold() for name in table["columns"]]
    if folded.count(column.casefold()) == 1:
        return folded.index(column.casefold())
    raise NodeError(
        f"the table has no column {column!r}; it has {', '.join(map(repr, table['columns'][:20]))}.",
        remedy="Name one of these.",
        code="no_such_column",
        port=port,
    )


def _apart(first: str, second: str) -> list[str]:
    return [first, second if second != first else f"{second} (2)"]


def _rank(cell: Cell) -> tuple[int, Any]:
    """Numbers before truth values before words; "item 9" before "item 10"."""
    if isinstance(cell, bool):
        return 1, cell
    if isinstance(cell, int | float):
        return 0, cell
    parts = re.split(r"(\d+)", str(cell).casefold())
    return 2, [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def _number(cell: Cell, column: str) -> float:
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        return cell
    raise NodeError(
        f"column {column!r} holds {cell!r}, which is no number.",
        remedy="Choose a column of numbers, or filter the rows first.",
        code="no_number",
        port="column",
    )
