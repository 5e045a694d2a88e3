"""One call of a node: what it is given, what it may answer, and what is said when it does otherwise."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated, Any, NamedTuple

import pytest
import torch
from works import context_of, typed, work

from graph_engine import LAZY, UNSET, AnyValue, Grow, Image, Need, Needs, NodeContext, NodeError, Skip, Values
from graph_engine.errors import AnyloomError, Cancelled, OutOfMemory
from graph_engine.execute.call import call, call_async
from graph_engine.execute.executor import Interrupted, Outputs, Raised, Work


class Two(NamedTuple):
    number: int
    text: str


def returning(answer: Any, hint: Any = int, **options: Any) -> Work:
    def function() -> None:
        return answer  # type: ignore[no-any-return]

    function.__annotations__["return"] = hint
    return work(typed(function, **options))


def values(work: Work) -> tuple[Any, ...]:
    report = call(work)
    assert isinstance(report, Outputs), report
    assert report.seconds >= 0
    return report.values


def error(work: Work) -> AnyloomError:
    report = call(work)
    assert isinstance(report, Raised), report
    assert isinstance(report.error, AnyloomError)
    return report.error


# --- what it may answer -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "hint", "outputs"),
    [
        (3, int, (3,)),
        (3.0, int, (3,)),
        (3, float, (3.0,)),
        (None, None, ()),
        (None, AnyValue, (None,)),
        ((1, 2), AnyValue, ((1, 2),)),
        (Two(1, "a"), Two, (1, "a")),
        ((1, "a"), Two, (1, "a")),
        (Values((1, "a")), Two, (1, "a")),
        (Values((1,)), int, (1,)),
        (Two(Skip("x"), "a"), Two, (Skip("x"), "a")),  # type: ignore[arg-type]
        (Skip("all"), Two, (Skip("all"), Skip("all"))),
        (Skip("all"), None, ()),
        ([1, 2.0], list[int], ([1, 2],)),
        ((1, 2), list[int], ([1, 2],)),
        ([1, Skip("hole")], list[int], ([1, Skip("hole")],)),
        ([], list[int], ([],)),
        (Skip("all"), list[int], (Skip("all"),)),
    ],
    ids=lambda part: repr(part)[:40],
)
def test_answers_become_one_value_per_port(answer: Any, hint: Any, outputs: tuple[Any, ...]) -> None:
    found = values(returning(answer, hint))
    assert found == outputs
    assert [type(one) for one in found] == [type(one) for one in outputs]


def test_a_named_tuple_of_one_port_is_that_port() -> None:
    class One(NamedTuple):
        number: int

    assert values(returning(One(3), One)) == (3,)
    assert values(returning(3, One)) == (3,)


def test_requests_are_handed_on_as_they_are() -> None:
    grow = Grow()
    assert call(returning(grow)) is grow
    assert call(returning(Need.of("a", "b"))) == Need(("a", "b"))


@pytest.mark.parametrize(
    ("answer", "hint", "code", "port", "words"),
    [
        ("x", int, "wrong_output", "int", ["a wrong value at its output 'int'", "got str 'x'"]),
        (True, int, "wrong_output", "int", ["got bool True"]),
        (None, int, "wrong_output", "int", ["NoneType"]),
        (float("nan"), float, "wrong_output", "float", ["finite"]),
        (torch.full((1, 2, 2, 3), 2.0), Image, "wrong_output", "image", ["IMAGE must lie in 0..1, got 2..2"]),
        (3, list[int], "wrong_output", "int", ["expected a list of INT, got int 3"]),
        ([1, "x"], list[int], "wrong_output", "int", ["got str 'x'"]),
        (Two(1, 2), Two, "wrong_output", "text", ["expected text, got int 2"]),  # type: ignore[arg-type]
        (1, Two, "wrong_outputs", "", ["2 outputs but gave 1 values"]),
        ((1, "a", 2), Two, "wrong_outputs", "", ["2 outputs but gave 3 values"]),
        (None, Two, "wrong_outputs", "", ["2 outputs but gave 1 values"]),
        (Values(()), int, "wrong_outputs", "", ["1 outputs but gave 0 values"]),
        (3, None, "wrong_outputs", "", ["0 outputs but gave 1 values"]),
    ],
)  # fmt: skip
def test_wrong_answers_are_refused_at_the_port(answer: Any, hint: Any, code: str, port: str, words: list[str]) -> None:
    found = error(returning(answer, hint)).problem
    assert (found.code, found.port) == (code, port)
    assert found.message.startswith("w.function ")
    assert found.remedy
    for word in words:
        assert word in found.message


def test_gradients_are_no_part_of_a_value() -> None:
    (found,) = values(returning(torch.zeros(1, 2, 2, 3, requires_grad=True), Image))
    assert not found.requires_grad


# --- what it is given -----------------------------------------------------------------------------------------------------


def seen(a: int, b: int = 2, c: int | None = None, **more: AnyValue) -> dict[str, Any]:
    return {"a": a, "b": b, "c": c, **more}


def test_literals_links_and_defaults_arrive_by_name() -> None:
    assert values(work(typed(seen), a=1)) == ({"a": 1, "b": 2, "c": None},)
    assert values(work(typed(seen), inputs={"a": 5, "b": 6, "z": 7}, b=1, y=8)) == (
        {"a": 5, "b": 6, "c": None, "z": 7, "y": 8},
    )


def lazy(flag: int, a: Annotated[AnyValue, LAZY] = 9, b: Annotated[AnyValue, LAZY] = 8) -> AnyValue:
    return [a, b]


def test_a_lazy_input_is_unset_until_asked_for_and_none_when_it_has_nothing() -> None:
    of = typed(lazy)
    both = Work(work(of, flag=1).job._replace(lazy=("a", "b")), {}, None)
    assert values(both) == ([UNSET, UNSET],)
    arrived = both._replace(job=both.job._replace(asked=frozenset("a")), inputs={"a": 3})
    assert values(arrived) == ([3, UNSET],)
    nothing = both._replace(job=both.job._replace(asked=frozenset("ab")))
    assert values(nothing) == ([None, None],)
    assert values(work(of, flag=1)) == ([9, 8],), "without a link it is an input like any other"
    assert values(work(of, flag=1, a=5)) == ([5, 8],)
    assert not UNSET


def narrow(a: int, b: list[int]) -> int:
    return a + sum(b)


def test_what_promised_no_kind_is_checked_where_it_arrives() -> None:
    of = typed(narrow)
    assert values(work(of, inputs={"a": 1.0, "b": [2.0]}, checks=("a", "b"))) == (3,)
    for inputs, port in (({"a": "x", "b": []}, "a"), ({"a": 1, "b": [1, None]}, "b")):
        found = error(work(of, inputs=inputs, checks=("a", "b"))).problem
        assert (found.code, found.port) == ("wrong_input", port)
        assert f"cannot use what arrived at its input {port!r}, which takes INT" in found.message


# --- how it may fail ------------------------------------------------------------------------------------------------------


def divide(a: int) -> float:
    return 1 / a


def test_an_exception_is_explained_with_file_and_line() -> None:
    found = error(work(typed(divide), a=0))
    line = divide.__code__.co_firstlineno + 1
    assert found.problem.code == "node_raised"
    assert found.message == f"w.divide raised ZeroDivisionError: division by zero ({os.path.basename(__file__)}:{line})"
    assert isinstance(found.__cause__, ZeroDivisionError)


def deep(a: str) -> int:
    return len(os.listdir(a))


def test_the_line_is_the_nodes_own_not_the_librarys() -> None:
    found = error(work(typed(deep), a="/nowhere/at/all"))
    assert f"({os.path.basename(__file__)}:{deep.__code__.co_firstlineno + 1})" in found.message


def test_what_a_node_says_itself_is_kept() -> None:
    said = NodeError("no good", remedy="better", code="mine")

    def function() -> int:
        raise said

    assert error(work(typed(function))) is said


@pytest.mark.parametrize("raised", [MemoryError("12 GB"), torch.OutOfMemoryError("CUDA out of memory")])
def test_running_out_of_memory_is_told_apart(raised: BaseException) -> None:
    def function() -> int:
        raise raised

    found = error(work(typed(function)))
    assert isinstance(found, OutOfMemory)
    assert found.problem.code == "out_of_memory"
    assert found.problem.remedy


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError()])
def test_a_node_cannot_end_the_thread_it_is_in(raised: BaseException) -> None:
    def function() -> int:
        raise raised

    found = error(work(typed(function)))
    assert f"raised {type(raised).__name__}" in found.message


def cancelling(context: NodeContext) -> int:
    raise Cancelled()


def test_only_who_was_cancelled_may_say_so(tmp_path: Any) -> None:
    """Else a node that raises `Cancelled` of its own accord would be started again for ever (law P14)."""
    of = typed(cancelling)
    given = work(of)
    context = context_of(given.job, tmp_path, lambda *_: None)
    given = given._replace(context=context)
    assert "raised Cancelled" in error(given).message
    assert isinstance(asyncio.run(call_async(work(typed(cancelling_async)))), Raised)
    context.stop()
    assert call(given) == Interrupted()


async def cancelling_async() -> int:
    raise Cancelled()


async def thrice(a: int) -> int:
    await asyncio.sleep(0)
    return 3 * a


async def ends_the_process(a: int) -> int:
    raise SystemExit(a)


def test_async_nodes_answer_alike() -> None:
    report = asyncio.run(call_async(work(typed(thrice), a=2)))
    assert isinstance(report, Outputs)
    assert report.values == (6,)
    for of in (typed(ends_the_process), typed(thrice)):
        report = asyncio.run(call_async(work(of, **({"a": 1} if of.id != "w.thrice" else {}), a2=1)))  # type: ignore[arg-type]
        assert isinstance(report, Raised)
        assert isinstance(report.error, NodeError)


def test_device_nodes_infer() -> None:
    def function() -> bool:
        return torch.is_grad_enabled()

    assert values(work(typed(function, needs=Needs(device=True)))) == (False,)
    assert values(work(typed(function))) == (True,)
