"""The benchmark for an accelerator, gone through end to end without one: sizes small, numbers meaningless, all steps real."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from graph_engine.memory import forecast, streaming
from graph_engine.memory.streaming import Split
from tests.bench import offload, offload_host, offload_plot, offload_simulated


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

    slower = [row("model", 7.0, 1.5, 1), row("sequential", 90.0, 20.0, 1)]
    group = row("group", 6.0, 1.3, 1)
    assert offload.missed([row("ours", 5.0, 1.14, 1), group, *slower]) == []
    [wrong] = offload.missed([row("ours", 5.0, 1.14, 0), group, *slower])
    assert "1.14 of the least (at most 1.1)" in wrong
    [wrong] = offload.missed([row("ours", 5.0, 1.0, 0), row("group", 4.0, 0.8, 0), *slower])
    assert "group takes 4.0 s" in wrong
    [wrong] = offload.missed([row("ours", 5.0, 1.0, 0, peak=9.0), group, *slower])
    assert "9.0 GB were reserved" in wrong


def test_what_was_not_compared_is_no_success() -> None:
    def row(method: str, status: str, seconds: object = "", budget: float = 8) -> dict[str, object]:
        ratio = "" if seconds == "" else 1.0
        return {
            "budget_gb": budget, "method": method, "status": status, "seconds": seconds, "ratio": ratio, "streams": 0,
            "peak_gb": 1.0,
        }  # fmt: skip

    ours, known = row("ours", "ok", 5.0), row("sequential", "as before", 90.0)
    assert offload.missed([]) == ["ours was not measured at any budget"]
    assert offload.missed([ours, row("group", "ok", 6.0), row("model", "no room"), known]) == []
    assert offload.missed([ours, row("group", "failed"), row("model", "no time"), row("group", "ok", 6.0, 12)]) == [
        "8 GB: group was not measured (failed)",
        "8 GB: model was not measured (no time)",
        "8 GB: sequential was not measured (it has no row)",
    ]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device to measure")
def test_without_a_device_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert offload.main(offload.parse([])) == 2
    assert "There is no CUDA device here" in capsys.readouterr().out


def test_the_simulated_turn_is_within_its_bounds_at_every_budget(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """True sizes: at most 1.05 of the least time with 6, 10, 14 and 21 GiB for 21.7 GB of weights."""
    check = offload_simulated.parse(["--check"])
    assert offload_simulated.main(check) == 0
    told = capsys.readouterr().out
    assert [line.split()[0] for line in told.splitlines() if "GiB" in line] == ["8", "12", "16", "24"]
    assert "11 models, 21.68 GB of weights" in told and "MISSED" not in told
    monkeypatch.setattr(offload_simulated, "BOUND", 0.99)
    assert offload_simulated.main(check) == 1
    assert capsys.readouterr().out.count("MISSED") == 4


def test_bytes_that_only_agree_with_each_other_are_not_enough(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Forecast and formula ask the same function which blocks are kept; one that keeps too few is found out."""
    right = streaming.split

    def wasteful(*given: object, **named: object) -> Split | None:
        found = right(*given, **named)  # type: ignore[arg-type]
        if found is None or not found.streamed:
            return found
        return Split(found.kept[:-2], tuple(sorted((*found.streamed, *found.kept[-2:]))), found.ring_bytes)

    monkeypatch.setattr(streaming, "split", wasteful)
    monkeypatch.setattr(forecast, "split", wasteful)
    monkeypatch.setattr(offload_simulated, "BOUND", 9.9)
    assert offload_simulated.main(offload_simulated.parse(["--check"])) == 1
    assert capsys.readouterr().out.count("MISSED") == 2, "where something is streamed"


def test_a_real_model_works_in_half_its_memory(capsys: pytest.CaptureFixture[str]) -> None:
    """The peak of the resident set is within 10 % of half the weights, and what is said is the same to the bit."""
    assert offload_host.main(offload_host.parse(["--check", "--dtype", "float32"])) == 0
    assert "float32: the same to the bit: yes; peak / budget" in capsys.readouterr().out
