"""Tables written as text: comma-separated values, Markdown, JSON; and back."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Sequence
from typing import Any

Cell = str | int | float | bool | None
Grid = dict[str, Any]
_INTEGER = re.compile(r"[+-]?(0|[1-9]\d{0,17})$")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
_WORDS: dict[str, Cell] = {"": None, "true": True, "false": False}


class TableTextError(ValueError):
    """A text that holds no table: what is wrong, and where."""


def cell_of(text: str) -> Cell:
    """A written cell as its value. What has leading zeros, such as a post code, stays text."""
    text = text.strip()
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INTEGER.match(text):
        return int(text)
    if _NUMBER.match(text) and not re.match(r"[+-]?0\d", text) and math.isfinite(float(text)):
        return float(text)
    return text


def written(cell: Cell) -> str:
    """A cell as text, such that `cell_of` gives it back."""
    if cell is None:
        return ""
    return str(cell).lower() if isinstance(cell, bool) else str(cell)


def from_csv(text: str, separator: str = "") -> Grid:
    """separator: empty to find out which of , ; tab | it is. Raises TableTextError."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    separator = separator or max(",;\t|", key=first.count)
    try:
        lines = [row for row in csv.reader(io.StringIO(text.lstrip()), delimiter=separator, strict=True) if any(row)]
    except csv.Error as error:
        raise TableTextError(f"it is no text of separated values: {error}") from None
    return _of_lines(lines, "line")


def from_markdown(text: str) -> Grid:
    """The first Markdown table of a text, whatever stands around it. Raises TableTextError."""
    lines = [line.strip() for line in text.splitlines()]
    for number, line in enumerate(lines[1:], 1):
        if re.fullmatch(r"\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?", line) and "|" in lines[number - 1] + line:
            body = []
            for row in lines[number + 1 :]:
                if "|" not in row:
                    break
                body.append(_split(row))
            return _of_lines([_split(lines[number - 1]), *body], "row")
    raise TableTextError("there is no Markdown table in it: a line | a | b | with a line | - | - | below")


def from_json(value: Any) -> Grid:
    """Rows as objects, rows as lists with the names first, columns as lists, or {columns, rows}. Raises TableTextError."""
    if isinstance(value, dict) and set(value) == {"columns", "rows"}:
        return value
    if isinstance(value, dict) and value and all(isinstance(column, list) for column in value.values()):
        lengths = {name: len(column) for name, column in value.items()}
        if len(set(lengths.values())) != 1:
            raise TableTextError(f"its columns have unequal lengths: {lengths}")
        return {"columns": list(value), "rows": [list(row) for row in zip(*value.values(), strict=True)]}
    if isinstance(value, dict) and value:
        return {"columns": ["name", "value"], "rows": [[name, _plain(entry)] for name, entry in value.items()]}
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        columns = list(dict.fromkeys(str(name) for row in value for name in row))
        return {"columns": columns, "rows": [[_plain(row.get(name)) for name in columns] for row in value]}
    if isinstance(value, list) and len(value) > 1 and all(isinstance(row, list) for row in value):
        return {"columns": [str(name) for name in value[0]], "rows": [[_plain(x) for x in row] for row in value[1:]]}
    raise TableTextError("it is neither a list of objects, nor a list of lists, nor an object of lists or of values")


def to_csv(table: Grid, separator: str = ",") -> str:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator, lineterminator="\n")
    writer.writerow(table["columns"])
    writer.writerows([written(cell) for cell in row] for row in table["rows"])
    return out.getvalue()


def to_markdown(table: Grid) -> str:
    """Numbers are set to the right."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", "<br>") for cell in cells) + " |"

    rules = ["---:" if is_number(column) else "---" for column in columns_of(table).values()]
    rows = [line([written(cell) for cell in row]) for row in table["rows"]]
    return "\n".join([line(table["columns"]), "| " + " | ".join(rules) + " |", *rows]) + "\n"


def to_json(table: Grid) -> str:
    """A list of objects, one per row."""
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    return json.dumps(rows, ensure_ascii=False, indent=1)


def columns_of(table: Grid) -> dict[str, list[Cell]]:
    return {name: [row[place] for row in table["rows"]] for place, name in enumerate(table["columns"])}


def is_number(column: Sequence[Cell]) -> bool:
    """Does a column hold numbers, and nothing else where it holds anything?"""
    known = [cell for cell in column if cell is not None]
    return bool(known) and all(isinstance(cell, int | float) and not isinstance(cell, bool) for cell in known)


def _of_lines(lines: Sequence[Sequence[str]], what: str) -> Grid:
    if not lines:
        raise TableTextError("it is empty")
    columns = [name.strip() or f"column {place}" for place, name in enumerate(lines[0], 1)]
    rows = []
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(columns):
            raise TableTextError(f"{what} {number} has {len(line)} cells, the first has {len(columns)}")
        rows.append([cell_of(cell) for cell in line])
    return {"columns": columns, "rows": rows}


def _split(line: str) -> list[str]:
    """The cells of a Markdown row; \\| is a character of a cell."""
    cells = re.split(r"(?<!\\)\|", line.strip().removeprefix("|").removesuffix("|"))
    return [cell.strip().replace("\\|", "|").replace("<br>", "\n") for cell in cells]


def _plain(value: Any) -> Cell:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return json.dumps(value, ensure_ascii=False)
