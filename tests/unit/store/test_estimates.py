"""Estimates: what was seen counts more than what is stated, what failed is not tried again, and a restart forgets neither."""

from __future__ import annotations

from pathlib import Path

import pytest

from graph_engine.store.estimates import FILE_NAME, MARGIN, Estimates, row_of


def test_what_was_seen_takes_the_place_of_what_is_stated(tmp_path: Path) -> None:
    estimates = Estimates(tmp_path)
    assert estimates.corrected("row", 1000) == 1000
    for seen in (300, 200, 400, 100):
        estimates.saw("row", seen)
    assert estimates.corrected("row", 1000) == round(400 * MARGIN), "the most that was seen, and a little"
    assert estimates.corrected("other", 1000) == 1000


def test_what_was_too_little_stays_the_least(tmp_path: Path) -> None:
    estimates = Estimates(tmp_path)
    estimates.saw("row", 100)
    estimates.too_little("row", 700)
    estimates.too_little("row", 500)
    assert estimates.corrected("row", 1) == 700


def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    first = Estimates(tmp_path)
    first.too_little("failed", 700)
    assert Estimates(tmp_path).corrected("failed", 1) == 700, "written at once, whatever happens to the process"
    first.saw("seen", 400)
    first.save()
    assert Estimates(tmp_path).corrected("seen", 1) == 500


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"seen": {"a": "much"}, "least": {}}', b"\xff\xfe"])
def test_a_damaged_file_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    estimates = Estimates(tmp_path)
    assert estimates.corrected("row", 5) == 5
    estimates.too_little("row", 9)
    assert Estimates(tmp_path).corrected("row", 5) == 9


def test_a_disk_that_fails_is_no_failure(tmp_path: Path) -> None:
    estimates = Estimates(tmp_path / "absent")
    estimates.too_little("row", 9)
    assert estimates.corrected("row", 5) == 9


def test_sizes_versions_and_kinds_of_devices_are_apart() -> None:
    rows = {
        row_of("n.x", "1.0.0", "cuda:0", 900),
        row_of("n.x", "1.0.0", "cuda:1", 1000),
        row_of("n.x", "1.0.0", "cuda:0", 1025),
        row_of("n.x", "1.0.1", "cuda:0", 900),
        row_of("n.x", "1.0.0", "cpu", 900),
        row_of("n.x", "1.0.0", "cpu", 0),
    }
    assert len(rows) == 5
