"""Durations: what was seen is expected, per pass, and a restart does not forget it."""

from __future__ import annotations

from pathlib import Path

import pytest

from graph_engine.store.durations import FILE_NAME, KEPT, Durations


def test_what_is_usual_follows_what_was_seen() -> None:
    durations = Durations()
    assert durations.usual_s("row") is None
    for seconds in (10.0, *(1.0 for _ in range(20))):
        durations.saw("row", seconds)
    usual = durations.usual_s("row")
    assert usual is not None
    assert 1.0 < usual < 1.1
    assert durations.usual_s("another size") is None


def test_twenty_passes_teach_what_fifty_take() -> None:
    durations = Durations()
    durations.saw("draw", 4.0, passes=20)
    assert durations.usual_s("draw", passes=50) == pytest.approx(10.0)
    durations.saw("draw", 5.0, passes=0)  # nobody knows how many
    assert durations.usual_s("draw", passes=0) == durations.usual_s("draw")


def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    first = Durations(tmp_path)
    first.saw("row", 3.0)
    assert Durations(tmp_path).usual_s("row") is None
    first.save()
    assert Durations(tmp_path).usual_s("row") == 3.0
    (tmp_path / FILE_NAME).unlink()
    first.save()
    assert not (tmp_path / FILE_NAME).exists(), "nothing new is not written again"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pass_s": {"a": "long"}}', b'{"seen": {}}', b"\xff\xfe"])
def test_a_damaged_file_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    durations = Durations(tmp_path)
    assert durations.usual_s("a") is None
    durations.saw("row", 2.0)
    durations.save()
    assert Durations(tmp_path).usual_s("row") == 2.0


def test_rows_that_were_not_seen_for_longest_go() -> None:
    durations = Durations()
    for number in range(KEPT):
        durations.saw(f"row {number}", 1.0)
    durations.saw("row 0", 1.0)
    durations.saw("one more", 1.0)
    assert durations.usual_s("row 1") is None
    assert durations.usual_s("row 0") == durations.usual_s("one more") == 1.0


def test_a_disk_that_fails_is_no_failure(tmp_path: Path) -> None:
    durations = Durations(tmp_path / "absent")
    durations.saw("row", 1.0)
    durations.save()
    assert durations.usual_s("row") == 1.0
