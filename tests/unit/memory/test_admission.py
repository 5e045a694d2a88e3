"""Who may begin: never more than fits, in the order they came, and somebody always runs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph_engine.memory.admission import Admission, Claim, total

CLAIMS = st.builds(
    Claim,
    st.dictionaries(st.sampled_from("abc"), st.just(30), max_size=2),
    st.integers(0, 120),
    st.sampled_from([False, False, False, True]),
)


@given(data=st.data(), claims=st.lists(CLAIMS, min_size=1, max_size=12))
@pytest.mark.law("P5")
def test_whatever_comes_and_goes_it_fits_and_nobody_waits_for_ever(data: st.DataObject, claims: list[Claim]) -> None:
    admission, begun, asked, ended = Admission(100), [], 0, set()
    while len(ended) < len(claims):
        running = list(admission.running)
        if asked < len(claims) and (not running or data.draw(st.booleans())):
            if admission.ask(asked, claims[asked]):
                begun.append(asked)
            asked += 1
        else:
            leaver = data.draw(st.sampled_from([*running, *admission.waiting]))
            begun += admission.end(leaver)
            ended.add(leaver)
        assert admission.admitted_bytes <= 100
        if len(admission.running) > 1:
            assert total(admission.running.values()) <= 100
            assert not any(claim.alone for claim in admission.running.values())
        assert admission.running or not admission.waiting, "no dead-lock"
    assert begun == sorted(begun), "in the order they came"
    assert not admission.running and not admission.waiting


def test_models_that_two_jobs_share_count_once() -> None:
    admission = Admission(100)
    assert admission.ask(1, Claim({"a": 60}, 10))
    assert admission.ask(2, Claim({"a": 60}, 30))
    assert admission.admitted_bytes == 100
    assert not admission.ask(3, Claim({}, 1))
    assert admission.end(2) == [3]


def test_a_small_job_does_not_overtake_a_large_one_for_ever() -> None:
    admission = Admission(100)
    assert admission.ask(1, Claim({}, 50))
    assert not admission.ask(2, Claim({}, 80))
    assert not admission.ask(3, Claim({}, 10))
    assert admission.end(1) == [2, 3]


def test_who_is_too_large_for_the_device_runs_alone() -> None:
    admission = Admission(100)
    assert admission.ask(1, Claim({"a": 500}))
    assert admission.admitted_bytes == 100
    assert not admission.ask(2, Claim({}, 1))
    assert admission.end(2) == []
    assert admission.end(1) == []
    assert admission.end(7) == [], "a job that never asked"
