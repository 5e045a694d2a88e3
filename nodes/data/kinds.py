"""TABLE: columns with names, rows of plain cells.

    {"columns": ["city", "people"], "rows": [["Aba", 12], ["Ulm", None]]}

A cell is text, a number, true or false, or None where nothing is known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from graph_engine import Kind
from graph_engine.errors import KindError
from graph_engine.graph.kinds import describe

MOST_CELLS = 5_000_000


def _table(value: Any) -> Any:
    remedy = "A TABLE is {columns: [names], rows: [[cells]]}; data.table_from_json makes one."
    if not isinstance(value, Mapping) or "columns" not in value or "rows" not in value:
        raise KindError(f"TABLE must be a dict with columns and rows, got {describe(value)}.", remedy=remedy)
    columns, rows = [str(name) for name in value["columns"]], value["rows"]
    if not columns:
        raise KindError("a TABLE must have at least one column.", remedy=remedy)
    twice = sorted({name for name in columns if columns.count(name) > 1}) if len(set(columns)) < len(columns) else []
    if twice:
        raise KindError(f"a TABLE must name each column once; twice: {', '.join(map(repr, twice))}.", remedy=remedy)
    if len(rows) * len(columns) > MOST_CELLS:
        raise KindError(f"a TABLE has at most {MOST_CELLS:,} cells, this has {len(rows) * len(columns):,}.")
    for number, row in enumerate(rows):
        if not isinstance(row, list | tuple) or len(row) != len(columns):
            found = f"{len(row)} cells" if isinstance(row, list | tuple) else describe(row)
            raise KindError(f"row {number} of a TABLE must have {len(columns)} cells, it has {found}.", remedy=remedy)
        for name, cell in zip(columns, row, strict=True):
            if not (
                cell is None or isinstance(cell, str | bool | int) or (type(cell) is float and math.isfinite(cell))
            ):
                raise KindError(
                    f"cell {name!r} of row {number} must be text, a finite number, true, false or nothing, "
                    f"got {describe(cell)}.",
                    remedy=remedy,
                )
    return {"columns": columns, "rows": [list(row) for row in rows]}


TABLE = Kind("TABLE", _table, color="#80cbc4", description="{columns: [names], rows: [[text, number, boolean, null]]}")
Table = Annotated[Any, TABLE]
