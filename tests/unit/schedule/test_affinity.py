"""Who finds its models in memory goes first, within bounds: nobody is passed over more than a few times."""

from __future__ import annotations

from heapq import heappush
from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from graph_engine.schedule.affinity import LOOK_AHEAD, PATIENCE, Affinity
from graph_engine.schedule.policy import Lane


def task(name: str) -> Any:
    return SimpleNamespace(key=name, dead=False, job=0)


def heap(*names: str) -> list[Any]:
    ready: list[Any] = []
    for order, name in enumerate(names):
        heappush(ready, (order, order, task(name)))
    return ready


def drain(affinity: Affinity, ready: list[Any]) -> str:
    found = []
    while (taken := affinity.take(ready)) is not None:
        found.append(taken.key)
    return "".join(found)


def test_what_is_in_memory_goes_first() -> None:
    assert drain(Affinity(lambda task: task.key in "ce"), heap(*"abcde")) == "ceabd"


def test_without_a_reason_the_order_is_the_plans() -> None:
    assert drain(Affinity(lambda task: False), heap(*"abcde")) == "abcde"
    assert drain(Affinity(lambda task: True), heap(*"abcde")) == "abcde"


def test_what_nobody_wants_any_more_is_passed_over() -> None:
    ready = heap(*"abc")
    ready[0][2].dead, ready[1][2].job = True, 7
    assert drain(Affinity(lambda task: False), ready) == "c"


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_waiting_is_bounded(data: st.DataObject) -> None:
    """Whatever is in memory when, and however many tasks arrive behind it."""
    here: set[str] = set()
    affinity = Affinity(lambda task: task.key in here)
    ready: list[Any] = []
    passed: dict[str, int] = {}
    count = 0
    for _ in range(data.draw(st.integers(1, 25))):
        for _ in range(data.draw(st.integers(0, 5))):
            name = f"t{count}"
            heappush(ready, (count, count, task(name)))
            passed[name] = 0
            count += 1
            if data.draw(st.booleans()):
                here.add(name)
        before = sorted(ready)
        taken = affinity.take(ready)
        if taken is None:
            assert before == []
            continue
        place = next(index for index, entry in enumerate(before) if entry[2] is taken)
        assert place < LOOK_AHEAD
        for entry in before[:place]:
            passed[entry[2].key] += 1
            assert passed[entry[2].key] <= PATIENCE
        assert sorted(ready) == [entry for entry in before if entry[2] is not taken], "nobody is lost"


def test_runs_take_turns_and_priorities_count_as_before() -> None:
    """Another run's resident models are no reason to serve it out of turn."""

    def run(name: str, number: int, priority: int) -> Any:
        return SimpleNamespace(id=name, number=number, priority=priority, ready={}, share={})

    lane = Lane("device", 1)
    lane.affinity = Affinity(lambda task: task.key.startswith("y"))
    runs = {"x": run("x", 1, 0), "y": run("y", 2, 0), "z": run("z", 3, 5)}
    for name in "xyz":
        for order in range(3):
            lane.push(task(f"{name}{order}"), runs[name], order)
    found = []
    while (taken := lane.pop()) is not None:
        found.append(taken.key)
    assert found == ["z0", "z1", "z2", "x0", "y0", "x1", "y1", "x2", "y2"]
