"""Nodes that steer a workflow: constants, branches, lists, loops, text, arithmetic, seeds, waiting."""

from __future__ import annotations

from nodes.control.arithmetic import compare, compare_text, logic, math, round_number
from nodes.control.branch import fail_if, first, select, skip_if, switch
from nodes.control.constant import boolean, integer, json, number, text
from nodes.control.listing import gather, item, list_length, range_list
from nodes.control.loop import map_items, repeat
from nodes.control.seed import seed
from nodes.control.sleep import async_sleep, sleep
from nodes.control.template import template
from nodes.control.words import join_text, replace_text, split_text, to_number, to_text

__all__ = [
    "async_sleep",
    "boolean",
    "compare",
    "compare_text",
    "fail_if",
    "first",
    "gather",
    "integer",
    "item",
    "join_text",
    "json",
    "list_length",
    "logic",
    "map_items",
    "math",
    "number",
    "range_list",
    "repeat",
    "replace_text",
    "round_number",
    "seed",
    "select",
    "skip_if",
    "sleep",
    "split_text",
    "switch",
    "template",
    "text",
    "to_number",
    "to_text",
]
