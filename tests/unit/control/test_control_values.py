"""Constants, lists, text, arithmetic, seeds."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph_engine import NodeError
from graph_engine.graph.registry import Registry
from nodes import control
from nodes.control.template import fill


def test_every_node_is_published_documented_and_versioned() -> None:
    registry = Registry()
    registry.add_module(control)
    assert len(registry) == len(control.__all__)
    for type in registry:
        assert type.id.startswith("control.")
        assert type.description
        assert type.category.startswith("control/")


def test_importing_stays_light() -> None:
    code = (
        "import sys, nodes.control; print([m for m in ('torch', 'numpy', 'av', 'PIL', 'asyncio') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_constants_are_themselves() -> None:
    assert control.text("灯塔") == "灯塔"
    assert (control.integer(3), control.number(0.5), control.boolean(False)) == (3, 0.5, False)
    assert control.json({"a": [1]}) == {"a": [1]}


@given(st.integers(0, 2**64 - 1), st.integers(-(2**40), 2**40))
def test_seed_stays_in_range(seed: int, offset: int) -> None:
    assert 0 <= control.seed(seed, offset) < 2**64


def test_gather_joins_in_natural_order() -> None:
    assert control.gather(value10="c", value2=["b", "b"], value1="a", value3=None) == ["a", "b", "b", "c"]
    assert control.gather() == []


def test_range_and_length_and_item() -> None:
    assert control.range_list(5, 3, -2) == [5, 3, 1]
    assert control.list_length(["a", "b"]) == 2
    assert (control.item(["a", "b"], -1), control.item(["a", "b"], 0)) == ("b", "a")
    for items in (["a"], []):
        with pytest.raises(NodeError) as caught:
            control.item(items, 3)
        assert caught.value.problem.code == "no_such_item"
        assert caught.value.problem.remedy


def test_template_fills_names_and_keeps_doubled_braces() -> None:
    assert control.template("{a} & {{b}} & { c }", a="x", c=1.5) == "x & {b} & 1.5"
    assert control.template("{d}", d={"k": "灯"}) == '{"k": "灯"}'


def test_template_does_not_read_what_it_inserts() -> None:
    assert control.template("{a}", a="{b}", b="no") == "{b}"
    with pytest.raises(NodeError, match=r"asks for \{a\.__class__\}"):
        control.template("{a.__class__}", a="x")


@given(st.text())
def test_a_text_with_doubled_braces_is_itself(text: str) -> None:
    assert fill(text.replace("{", "{{").replace("}", "}}"), {}) == text


@pytest.mark.parametrize(
    ("template", "code", "words"),
    [
        ("{absent}", "missing_value", "'absent'"),
        ("a { b", "bad_template", "character 3"),
        ("a } b", "bad_template", "character 3"),
        ("{}", "missing_value", "has no value"),
        ("{none}", "missing_value", "the given values are: a"),
    ],
)
def test_template_errors_say_what_to_do(template: str, code: str, words: str) -> None:
    with pytest.raises(NodeError) as caught:
        control.template(template, a="x", none=None)
    assert caught.value.problem.code == code
    assert caught.value.problem.port == "template"
    assert words in str(caught.value)


def test_join_split_replace() -> None:
    assert control.join_text(b="2", a=["1", ""]) == "1\n\n2"
    assert control.join_text(", ", True, b="2", a=["1", ""]) == "1, 2"
    assert control.split_text(" a \n\n b ") == ["a", "b"]
    assert control.split_text("a,,b", ",", skip_empty=False) == ["a", "", "b"]
    assert control.split_text("a  b\tc", "") == ["a", "b", "c"]
    assert control.replace_text("aXa", "X", "b") == "aba"
    assert control.replace_text("aXa", "", "b") == "aXa"


def test_a_small_text_cannot_become_one_that_fills_the_memory() -> None:
    """10 GB each, were they made."""
    letters, long = "x" * 100_000, "y" * 100_000
    for make, port in (
        (lambda: control.replace_text(letters, "x", long), "replacement"),
        (lambda: control.join_text(long, a=list(letters)), ""),
        (lambda: control.join_text("", a=[long] * 100_000), ""),
        (lambda: control.template("{a}" * 100_000, a=long), "template"),
    ):
        with pytest.raises(NodeError, match="more than 33,554,432 characters") as caught:
            make()
        assert (caught.value.problem.code, caught.value.problem.port) == ("too_large", port)
        assert caught.value.problem.remedy
    edge = 32 << 20
    assert len(control.replace_text("x" * (edge // 2), "x", "yy")) == edge
    assert len(control.replace_text("x" * (edge + 1), "x", "y")) == edge + 1, "what does not grow is taken"
    assert len(control.join_text("", a=["x" * (edge // 2)] * 2)) == edge
    assert len(control.template("{a}{a}", a="x" * (edge // 2))) == edge
    half = ["a"] * 500_000
    assert len(control.gather(a=half, b=half)) == 1_000_000
    with pytest.raises(NodeError, match="more than 1,000,000 entries"):
        control.gather(a=half, b=half, c="a")


def test_numbers_and_texts() -> None:
    assert control.to_number(" -12.5e1 ") == (-125.0, -125)
    assert control.to_text([1, True]) == "[1, true]"
    assert "object" in control.to_text(object())
    for text in ("", "twelve", "nan", "1e999"):
        with pytest.raises(NodeError) as caught:
            control.to_number(text)
        assert caught.value.problem.code == "no_number"


@pytest.mark.parametrize(
    ("operation", "number"),
    [
        ("add", 9.5),
        ("subtract", 5.5),
        ("multiply", 15.0),
        ("divide", 3.75),
        ("floor divide", 3.0),
        ("modulo", 1.5),
        ("power", 56.25),
        ("minimum", 2.0),
        ("maximum", 7.5),
    ],
)
def test_math(operation: str, number: float) -> None:
    assert control.math(7.5, 2.0, operation) == (number, round(number))


@pytest.mark.parametrize(("a", "b", "operation"), [(1, 0, "divide"), (1e308, 10, "multiply"), (-1, 0.5, "power")])
def test_math_without_result(a: float, b: float, operation: str) -> None:
    with pytest.raises(NodeError) as caught:
        control.math(a, b, operation)
    assert caught.value.problem.code == "no_result"
    assert caught.value.problem.remedy


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_comparisons_agree_with_each_other(a: float, b: float) -> None:
    less, equal, greater = (control.compare(a, b, how) for how in ("less", "equal", "greater"))
    assert [less, equal, greater].count(True) == 1
    assert control.compare(a, b, "less or equal") == (less or equal)
    assert control.compare(a, b, "greater or equal") == (greater or equal)
    assert control.compare(a, b, "not equal") != equal


def test_compare_with_tolerance_text_logic_and_rounding() -> None:
    assert control.compare(0.1 + 0.2, 0.3, "equal", 1e-9)
    assert not control.compare(0.1 + 0.2, 0.3, "equal")
    assert control.compare_text("Lighthouse", "light", "starts with", True)
    assert not control.compare_text("Lighthouse", "light", "contains")
    assert control.compare_text("a", "b", "not equal")
    assert control.compare_text("ab", "b", "ends with")
    assert (control.logic(True, False, "xor"), control.logic(True, operation="not a")) == (True, False)
    assert (control.logic(True, True, "and"), control.logic(False, True, "or")) == (True, True)
    assert [control.round_number(-2.5, how) for how in ("nearest", "down", "up", "zero")] == [-2, -3, -2, -2]
