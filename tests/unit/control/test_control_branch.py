"""Branches answer with a wish for what they need, and only for that."""

from __future__ import annotations

import pytest

from graph_engine import UNSET, Need, NodeError, Skip
from nodes.control import fail_if, first, select, skip_if, switch


@pytest.mark.parametrize(("condition", "port"), [(True, "on_true"), (False, "on_false")])
def test_switch_asks_for_the_chosen_side_only(condition: bool, port: str) -> None:
    assert switch(condition, on_true=UNSET, on_false=UNSET) == Need((port,))
    assert switch(condition, **{port: "here"}, **{"on_false" if condition else "on_true": UNSET}) == "here"


def test_switch_gives_false_zero_and_empty_text_on_as_values() -> None:
    assert [switch(True, on_true=value, on_false=UNSET) for value in (False, 0, "")] == [False, 0, ""]


def test_switch_with_an_absent_side_gives_nothing() -> None:
    answer = switch(False, on_true=UNSET, on_false=None)
    assert isinstance(answer, Skip)
    assert "on_false" in answer.message


def test_switch_ports() -> None:
    type = switch.node_type
    assert [port.lazy for port in type.inputs] == [False, True, True]
    assert {port.match for port in (*type.inputs[1:], *type.outputs)} == {"T"}
    assert type.lane == "inline"


def test_select_counts_in_natural_order() -> None:
    options = {f"option{number}": UNSET for number in (10, 2, 1)}
    assert select(2, **options) == Need(("option10",))
    assert select(2, **{**options, "option10": "ten"}) == "ten"
    assert isinstance(select(0, **{**options, "option1": None}), Skip)


@pytest.mark.parametrize(("options", "words"), [({}, "none"), ({"a": 1, "b": 2}, "a, b")])
def test_select_outside_names_what_is_there(options: dict[str, int], words: str) -> None:
    with pytest.raises(NodeError) as caught:
        select(5, **options)
    assert caught.value.problem.code == "no_such_option"
    assert words in caught.value.message
    assert caught.value.problem.remedy
    assert caught.value.problem.port == "index"


def test_first_takes_the_first_that_has_a_value() -> None:
    assert first(b="b", a=None, c="c") == "b"
    assert first(a=0, b=1) == 0
    assert isinstance(first(a=None), Skip)
    assert isinstance(first(), Skip)


def test_skip_if_and_fail_if() -> None:
    assert skip_if("x", False) == "x"
    assert skip_if("x", True, "not today") == Skip("not today")
    assert fail_if("x", False) == "x"
    with pytest.raises(NodeError, match="too dark") as caught:
        fail_if("x", True, "too dark")
    assert caught.value.problem.code == "check_failed"
