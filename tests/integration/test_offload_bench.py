"""The benchmark for an accelerator, gone through end to end without one: sizes small, numbers meaningless, all steps real."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from tests.bench import offload, offload_plot


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, str]]]:
    folder = tmp_path_factory.mktemp("bench")
    try:
        words = ["--device", "cpu", "--scale", "tiny", "--out", str(folder), "--weights", str(folder)]
        assert offload.main(offload.parse(words)) == 0
    finally:
        torch.set_grad_enabled(True)
    with (folder / "offload.csv").open() as file:
        return folder, list(csv.DictReader(file))


def test_every_way_goes_through_at_every_budget(rows: tuple[Path, list[dict[str, str]]]) -> None:
    _, found = rows
    budgets = {row["budget_gb"] for row in found}
    assert len(budgets) == 2
    assert {(row["budget_gb"], row["method"]) for row in found} == {(b, m) for b in budgets for m in offload.METHODS}
    assert {row["status"] for row in found} <= {"ok", "as before"}
    assert all(float(row["seconds"]) > 0 and float(row["least_s"]) >= float(row["compute_s"]) for row in found)


def test_the_plot_is_a_picture_with_a_bar_for_each_row(rows: tuple[Path, list[dict[str, str]]]) -> None:
    folder, found = rows
    picture = folder / "offload.svg"
    assert offload_plot.main([str(folder / "offload.csv"), str(picture)]) == 0
    drawn = picture.read_text()
    assert drawn.startswith("<svg") and drawn.count('class="bar"') == len(found)
    assert all(method in drawn for method in offload.METHODS)


def test_bounds_are_told_apart() -> None:
    def row(method: str, seconds: float, ratio: float, streams: int, peak: float = 1.0) -> dict[str, object]:
        return {
            "budget_gb": 8, "method": method, "status": "ok", "seconds": seconds, "ratio": ratio, "streams": streams,
            "peak_gb": peak,
        }  # fmt: skip

    assert offload.missed([row("ours", 5.0, 1.14, 1), row("group", 6.0, 1.3, 1)]) == []
    assert "1.14 of the least (at most 1.1)" in offload.missed([row("ours", 5.0, 1.14, 0)])[0]
    assert "group takes 4.0 s" in offload.missed([row("ours", 5.0, 1.0, 0), row("group", 4.0, 0.8, 0)])[0]
    assert "9.0 GB were reserved" in offload.missed([row("ours", 5.0, 1.0, 0, peak=9.0)])[0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device to measure")
def test_without_a_device_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert offload.main(offload.parse([])) == 2
    assert "There is no CUDA device here" in capsys.readouterr().out
