"""Nodes for tables, charts, heat maps and reports."""

from __future__ import annotations

from nodes.data.chart import chart
from nodes.data.heat_map import heat_map, matrix_to_mask, read_heat_map
from nodes.data.report import report
from nodes.data.show import show
from nodes.data.table import load_table, save_table, table_from_json, table_from_text, table_to_text
from nodes.data.table_edit import append_tables, filter_rows, select_columns, sort_table, summarise
from nodes.data.table_picture import table_picture

__all__ = [
    "append_tables",
    "chart",
    "filter_rows",
    "heat_map",
    "load_table",
    "matrix_to_mask",
    "read_heat_map",
    "report",
    "save_table",
    "select_columns",
    "show",
    "sort_table",
    "summarise",
    "table_from_json",
    "table_from_text",
    "table_picture",
    "table_to_text",
]
