"""Pauses of the garbage collector end, whatever happens in them."""

from __future__ import annotations

import gc
import threading

import pytest

from graph_engine import collector
from graph_engine.collector import paused


def test_it_is_off_meanwhile_and_on_again_after() -> None:
    assert gc.isenabled()
    assert paused(gc.isenabled) is False
    assert gc.isenabled()


def test_an_error_ends_the_pause_and_nested_pauses_count() -> None:
    def fails() -> None:
        assert paused(gc.isenabled) is False
        assert not gc.isenabled(), "the outer pause goes on"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        paused(fails)
    assert gc.isenabled()


def test_pauses_of_several_threads_overlap() -> None:
    first, second = threading.Event(), threading.Event()

    def wait() -> None:
        first.set()
        second.wait(10)

    other = threading.Thread(target=paused, args=(wait,))
    other.start()
    first.wait(10)
    assert paused(gc.isenabled) is False
    assert not gc.isenabled(), "the other thread is still at it"
    second.set()
    other.join(10)
    assert gc.isenabled()


def test_what_somebody_else_switched_off_stays_off() -> None:
    gc.disable()
    try:
        assert paused(gc.isenabled) is False
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_was_made_in_a_pause_is_old_after_it() -> None:
    class Thing: ...

    made = paused(lambda: [Thing() for _ in range(1000)])
    assert not any(thing is made[0] for generation in (0, 1) for thing in gc.get_objects(generation))
    assert any(thing is made[0] for thing in gc.get_objects(2))


def test_no_pause_joins_one_that_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "LONGEST_S", 0.0)
    joined, leave = threading.Event(), threading.Event()

    def long() -> None:
        joined.set()
        leave.wait(10)

    first = threading.Thread(target=paused, args=(long,))
    first.start()
    joined.wait(10)

    def second() -> bool:
        leave.set()
        first.join(10)
        return gc.isenabled()

    assert paused(second) is True, "it ended with the pause that was there before"
    assert gc.isenabled()
