"""Tables: read in every form, written back, changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph_engine import NodeError
from graph_engine.errors import KindError
from nodes.data import (
    append_tables,
    filter_rows,
    load_table,
    save_table,
    select_columns,
    sort_table,
    summarise,
    table_from_json,
    table_from_text,
    table_to_text,
)
from nodes.data.kinds import TABLE
from nodes.data.table_text import cell_of, from_csv, from_markdown, to_csv, to_markdown, written
from tests.contexts import FolderContext

CITIES = {
    "columns": ["city", "people", "area", "port"],
    "rows": [["Aba", 12, 3.5, True], ["Ulm", 45, 7, False], ["Rom", 31, None, True]],
}


@pytest.mark.parametrize("form", ["markdown", "csv", "json"])
def test_what_is_written_comes_back(form: str) -> None:
    assert table_from_text(table_to_text(CITIES, form), "any") == CITIES


_cells = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**15), 10**15),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8).filter(
        lambda text: isinstance(cell_of(text), str) and text == text.strip() and not text.endswith("\\")
    ),
)


@given(st.lists(st.lists(_cells, min_size=2, max_size=2), max_size=5))
def test_any_cells_survive_csv_and_markdown(rows: list[list[object]]) -> None:
    table = {"columns": ["a", "b"], "rows": [row for row in rows if any(written(x) for x in row)]}  # type: ignore[arg-type]
    for back in (from_csv(to_csv(table), ","), from_markdown(to_markdown(table))):
        assert back == table


def test_a_table_in_the_middle_of_an_answer_is_found() -> None:
    answer = "Here it is:\n\n| a \\| b | n |\n| :- | -: |\n| x | 1 |\n| 007 | 2.5 |\n\nThat is all."
    assert table_from_text(answer) == {"columns": ["a | b", "n"], "rows": [["x", 1], ["007", 2.5]]}


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_found(separator: str) -> None:
    text = "\n".join(separator.join(row) for row in (["name", "n"], ["x y", "1"], ["z", ""]))
    assert table_from_text(text, "csv")["rows"] == [["x y", 1], ["z", None]]


@pytest.mark.parametrize(
    ("value", "rows"),
    [
        ([{"a": 1}, {"b": [2]}], [[1, None], [None, "[2]"]]),
        ([["a", "b"], [1, 2]], [[1, 2]]),
        ({"a": [1, 3], "b": [2, 4]}, [[1, 2], [3, 4]]),
        ({"red": 3, "blue": 1}, [["red", 3], ["blue", 1]]),
        (CITIES, CITIES["rows"]),
    ],
)
def test_json_of_every_form(value: object, rows: list[object]) -> None:
    assert table_from_json(value)["rows"] == rows


@pytest.mark.parametrize(
    ("text", "form", "says"),
    [
        ("", "any", "it is empty"),
        ("a,b\n1\n", "csv", "line 2 has 1 cells, the first has 2"),
        ("no table", "markdown", "no Markdown table"),
        ('[{"a": 1,]', "any", "no JSON"),
        ('{"a": [1], "b": [1, 2]}', "json", "unequal lengths"),
        ("[1, 2]", "json", "neither a list of objects"),
        ("a,a\n1,2\n", "csv", "twice: 'a'"),
        ('[["a"], [NaN]]', "json", "finite number"),
    ],
)
def test_what_is_no_table_is_said(text: str, form: str, says: str) -> None:
    with pytest.raises(NodeError) as caught:
        table_from_text(text, form)
    assert caught.value.problem.code == "no_table"
    assert caught.value.problem.port == "text"
    assert says in caught.value.message


@pytest.mark.parametrize("value", [3, {"columns": [], "rows": []}, {"columns": ["a"], "rows": [[1, 2]]}])
def test_the_kind_refuses(value: object) -> None:
    with pytest.raises(KindError, match="TABLE"):
        TABLE.check(value)


def test_files_are_read_and_written(tmp_path: Path) -> None:
    context = FolderContext(tmp_path)
    (tmp_path / "input").mkdir(exist_ok=True)
    for format in ("csv", "md", "json"):
        file = save_table(context, CITIES, "cities", format)
        path = context.path_of(file)
        assert (file["rows"], file["columns"]) == (3, 4)
        (tmp_path / "input" / path.name).write_bytes(path.read_bytes())
        assert load_table(context, path.name) == CITIES
    (tmp_path / "input" / "odd.csv").write_bytes(b"a,b\n\xff,1\n")
    with pytest.raises(NodeError, match="no UTF-8"):
        load_table(context, "odd.csv")


def test_columns_rows_and_sums() -> None:
    assert select_columns(CITIES, "AREA, city") == {
        "columns": ["area", "city"],
        "rows": [[3.5, "Aba"], [7, "Ulm"], [None, "Rom"]],
    }
    assert [row[0] for row in sort_table(CITIES, "area", descending=True)["rows"]] == ["Ulm", "Aba", "Rom"]
    assert [row[0] for row in sort_table(CITIES, "people", first=1)["rows"]] == ["Aba"]
    names = {"columns": ["n"], "rows": [["item 10"], [3], ["item 9"], [True], [None]]}
    assert [row[0] for row in sort_table(names, "n")["rows"]] == [3, True, "item 9", "item 10", None]
    both = append_tables(b2=[{"columns": ["people"], "rows": [[1]]}], b1=[CITIES])
    assert both["rows"][-1] == [None, 1, None, None]
    assert summarise(CITIES, "port")["rows"] == [[True, 2], [False, 1]]
    assert summarise(CITIES, "port", "people", "mean") == {
        "columns": ["port", "mean of people"],
        "rows": [[True, 21.5], [False, 45]],
    }
    assert summarise(CITIES, "", "area", "largest")["rows"] == [["all", 7]]


@pytest.mark.parametrize(
    ("column", "relation", "value", "left"),
    [
        ("people", ">", "12", "Ulm Rom"),
        ("people", "≤", "31", "Aba Rom"),
        ("city", "=", "ulm", "Ulm"),
        ("city", "≠", "ulm", "Aba Rom"),
        ("city", "contains", "M", "Ulm Rom"),
        ("area", "is empty", "", "Rom"),
        ("area", "is not empty", "", "Aba Ulm"),
        ("area", "<", "zebra", ""),
        ("port", "=", "true", "Aba Rom"),
    ],
)
def test_rows_that_fit(column: str, relation: str, value: str, left: str) -> None:
    kept = filter_rows(CITIES, column, relation, value)  # type: ignore[arg-type]
    assert " ".join(row[0] for row in kept["rows"]) == left


def test_mistakes_name_what_there_is() -> None:
    with pytest.raises(NodeError, match="'people'") as caught:
        sort_table(CITIES, "peeple")
    assert caught.value.problem.port == "column"
    with pytest.raises(NodeError, match="no number"):
        summarise(CITIES, "", "city", "sum")
    with pytest.raises(NodeError, match="no table"):
        append_tables()


def test_json_text_is_json() -> None:
    assert json.loads(table_to_text(CITIES, "json"))[2] == {"city": "Rom", "people": 31, "area": None, "port": True}
