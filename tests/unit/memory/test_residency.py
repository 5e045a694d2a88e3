"""Which models stay: never over the budget, never one in use, and with a plan at hand never more loads than needed."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph_engine.errors import OutOfMemory
from graph_engine.memory.residency import Residency


def use(residency: Residency, key: str, bytes: int, next_use: int | None) -> bool:
    """One step with a model, as the pool does it; returns whether it had to be loaded."""
    loaded = key not in residency.residents
    if loaded:
        residency.admit(key, bytes)
    residency.lease(key, next_use)
    residency.release(key)
    return loaded


def upcoming(sequence: Sequence[str], at: int) -> int | None:
    """How many steps later the model of step `at` is used again."""
    return next((later - at for later in range(at + 1, len(sequence)) if sequence[later] == sequence[at]), None)


def our_loads(sequence: Sequence[str], places: int) -> int:
    residency = Residency("cpu", places * 10)
    return sum(use(residency, key, 10, upcoming(sequence, at)) for at, key in enumerate(sequence))


def fewest_loads(sequence: Sequence[str], places: int) -> int:
    """By trying every choice of what leaves."""

    @cache
    def best(at: int, inside: frozenset[str]) -> int:
        if at == len(sequence):
            return 0
        key = sequence[at]
        if key in inside:
            return best(at + 1, inside)
        if len(inside) < places:
            return 1 + best(at + 1, inside | {key})
        return 1 + min(best(at + 1, inside - {other} | {key}) for other in inside)

    return best(0, frozenset())


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from("abcde"), max_size=12), st.integers(1, 4))
def test_no_other_choice_loads_less(sequence: list[str], places: int) -> None:
    assert our_loads(sequence, places) == fewest_loads(sequence, places)


def test_the_least_recently_used_would_load_more() -> None:
    """The case that tells the two apart: a loop one longer than the memory."""
    loop = "abc" * 5
    assert our_loads(loop, 2) == fewest_loads(loop, 2) == 9  # the least recently used would load all 15


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcdef"), st.integers(0, 60), st.none() | st.integers(1, 9), st.booleans()),
        max_size=30,
    )
)
def test_the_budget_is_kept_and_what_is_in_use_stays(script: list[tuple[str, int, int | None, bool]]) -> None:
    residency = Residency("cpu", 100)
    leased: list[str] = []
    for key, size, next_use, keep in script:
        if key not in residency.residents:
            before = copy.deepcopy(residency.residents)
            try:
                leaving = residency.admit(key, size)
            except OutOfMemory:
                assert residency.residents == before
                assert sum(before[other].bytes for other in set(leased)) + size > 100
                continue
            assert not set(leaving) & set(leased)
            assert set(before) - set(leaving) | {key} == set(residency.residents)
        assert residency.used_bytes <= 100
        residency.lease(key, next_use)
        leased.append(key)
        if not keep:
            residency.release(leased.pop(0))
        assert {k for k, resident in residency.residents.items() if resident.leases} == set(leased)


def test_nothing_leaves_without_need() -> None:
    residency = Residency("cpu", 100)
    for key in "ab":
        assert residency.admit(key, 30) == []
    assert residency.admit("c", 40) == []
    assert residency.used_bytes == 100


def test_what_is_needed_last_leaves_first_and_only_as_many_as_it_takes() -> None:
    residency = Residency("cpu", 100)
    for key, next_use in (("soon", 2), ("never", None), ("late", 50), ("never too", None)):
        use(residency, key, 25, next_use)
    assert residency.admit("small", 25) == ["never"]  # of two without a use the one not used for longer
    residency.lease("small", 1)
    assert residency.admit("large", 50) == ["never too", "late"]


def test_out_of_memory_says_the_numbers_and_changes_nothing() -> None:
    residency = Residency("cuda:0", 1_000)
    residency.admit("busy", 700)
    residency.lease("busy", None)
    use(residency, "idle", 200, 3)
    before = copy.deepcopy(residency.residents)
    with pytest.raises(OutOfMemory) as caught:
        residency.admit("new", 400)
    assert residency.residents == before
    for number in ("400 bytes", "1,000 bytes", "700 are in use", "cuda:0"):
        assert number in caught.value.message
    assert caught.value.problem.code == "out_of_memory"
    residency.release("busy")
    assert residency.admit("new", 400) == ["busy"]


def test_a_model_larger_than_the_budget_never_fits() -> None:
    with pytest.raises(OutOfMemory):
        Residency("cpu", 10).admit("large", 11)


def test_a_model_that_turns_out_larger_makes_others_leave() -> None:
    residency = Residency("cpu", 100)
    use(residency, "idle", 40, 5)
    residency.admit("new", 50)
    residency.lease("new", None)
    assert residency.resize("new", 70) == ["idle"]
    assert residency.used_bytes == 70
    assert residency.resize("new", 20) == []
    with pytest.raises(OutOfMemory, match="101 bytes"):
        residency.resize("new", 101)
    assert residency.used_bytes == 20


def test_of_two_plans_the_sooner_use_counts() -> None:
    residency = Residency("cpu", 30)
    use(residency, "shared", 10, 9)
    use(residency, "shared", 10, 2)
    use(residency, "other", 10, 5)
    use(residency, "third", 10, 4)
    assert residency.admit("new", 10) == ["other"]


def test_a_use_that_is_past_is_no_reason_to_stay() -> None:
    residency = Residency("cpu", 20)
    use(residency, "a", 10, 1)
    use(residency, "a", 10, None)
    assert residency.residents["a"].next_use == math.inf
    use(residency, "b", 10, 7)
    assert residency.admit("c", 10) == ["a"]


def test_a_discarded_model_frees_its_bytes() -> None:
    residency = Residency("cpu", 10)
    residency.admit("a", 10)
    residency.discard("a")
    residency.discard("a")
    residency.release("a")
    assert residency.used_bytes == 0
    assert residency.admit("b", 10) == []


# --- what jobs need beside models, and models that are streamed -----------------------------------------------------------


@pytest.mark.law("P5")
def test_what_is_reserved_is_not_given_to_models() -> None:
    residency = Residency("cpu", 100)
    use(residency, "idle", 50, 1)
    assert residency.reserve(60) == ["idle"]
    with pytest.raises(OutOfMemory, match="60 are kept for their activations"):
        residency.admit("new", 41)
    assert residency.admit("new", 40) == []
    residency.unreserve(60)
    assert residency.admit("other", 60) == []
    with pytest.raises(OutOfMemory, match="101 bytes beside its models"):
        residency.reserve(101)


def test_a_streamed_model_gets_all_the_room_there_is() -> None:
    residency = Residency("cpu", 100)
    use(residency, "idle", 30, 1)
    residency.admit("busy", 20)
    residency.lease("busy", None)
    assert residency.admit_streamed("large", 500, 40) == (80, ["idle"])
    assert residency.used_bytes == 100
    with pytest.raises(OutOfMemory, match="500 bytes, of which 101 have to be there"):
        Residency("cpu", 100).admit_streamed("large", 500, 101)


def test_a_streamed_model_in_use_makes_way_down_to_its_least() -> None:
    residency = Residency("cpu", 100)
    residency.admit_streamed("large", 500, 40)
    residency.lease("large", None)
    assert residency.admit("small", 25) == ["large"]
    assert residency.residents["large"].bytes == 75
    assert residency.admit_streamed("other", 300, 30) == (30, ["small", "large"])
    assert {key: entry.bytes for key, entry in residency.residents.items()} == {"large": 70, "other": 30}
    residency.lease("other", None)
    with pytest.raises(OutOfMemory, match="of which 100 are in use"):
        residency.reserve(31)
    assert residency.reserve(30) == ["large"]
    assert residency.residents["large"].bytes == 40


def test_an_idle_streamed_model_gives_what_is_needed_and_gets_it_back() -> None:
    residency = Residency("cpu", 100)
    residency.admit_streamed("large", 500, 40)
    assert residency.admit("small", 25) == ["large"]
    assert residency.residents["large"].bytes == 75
    assert residency.grow("large", 500) == (100, ["small"])
    assert residency.residents["large"].least_bytes == 40
    residency.admit("busy", 50)
    residency.lease("busy", None)
    assert residency.grow("large", 500) == (50, [])
    assert residency.used_bytes == 100


def test_a_model_whose_files_promised_more_than_it_takes_is_no_streamed_one() -> None:
    residency = Residency("cpu", 100)
    assert residency.admit_streamed("fits", 90, 10) == (90, [])
    assert residency.residents["fits"].spare_bytes == 0


@given(data=st.data(), script=st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 4)), max_size=30))
@pytest.mark.law("P5")
def test_no_interleaving_exceeds_the_budget(data: st.DataObject, script: list[tuple[str, int]]) -> None:
    """Models that come whole or in pieces, grow and shrink; reservations that come and go."""
    residency, reserved, leased = Residency("cpu", 100), [], []
    for key, action in script:
        known = residency.residents.get(key)
        try:
            if action == 0 and known is None:
                residency.admit(key, data.draw(st.integers(1, 120)))
            elif action == 1 and known is None:
                size = data.draw(st.integers(1, 300))
                room, _ = residency.admit_streamed(key, size, data.draw(st.integers(1, size)))
                assert room <= size
            elif action == 2:
                size = data.draw(st.integers(0, 120))
                residency.reserve(size)
                reserved.append(size)
            elif action == 3 and reserved:
                residency.unreserve(reserved.pop())
            elif action == 4 and known is not None:
                if known.leases:
                    residency.release(key)
                    leased.remove(key)
                elif known.least_bytes and data.draw(st.booleans()):
                    residency.grow(key, 300)
                else:
                    residency.lease(key, None)
                    leased.append(key)
        except OutOfMemory:
            pass
        assert residency.used_bytes + residency.reserved_bytes <= 100
        assert residency.reserved_bytes == sum(reserved)
        assert set(leased) <= set(residency.residents), "what is in use stays"
        assert all(entry.bytes >= entry.least_bytes for entry in residency.residents.values())
