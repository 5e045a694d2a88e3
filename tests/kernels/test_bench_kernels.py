"""The benchmark of the kernels works: its cases compute, wrong results are not timed, bars are judged, rows are written."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from custom_kernels import production, timing
from custom_kernels.timing import Ceilings, Timing
from tests.bench import kernels
from tests.bench.kernels import Bar, Case, Row

ROOF = Ceilings(flops=800e12, bytes=4e12, exponentials=4e12)


def test_the_dry_run_times_every_operation_and_writes_it_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out" / "kernels.csv"
    assert kernels.main(["--dry-run", "--dtype", "float32", "--csv", str(path)]) == 0
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert {row["operation"] for row in rows} == {"attention", "frame_attention", "group_norm_silu", "geglu"}
    assert all(row["torch"] == torch.__version__ and row["device"] == "cpu" for row in rows)
    timed = [row for row in rows if row["us_first"]]
    assert {"sdpa", "torch"} <= {row["kernels"] for row in timed}
    assert all(float(row["us_first"]) > 0 and float(row["relative_error"]) <= 1e-5 for row in timed)
    assert all(row["told"] for row in rows if not row["us_first"])
    printed = capsys.readouterr().out
    assert "of the roof" in printed and "on CUDA devices only" in printed
    # A type that its kernels round more is held to its own tolerance, by the same script.
    assert kernels.main(["--dry-run", "--dtype", "bfloat16", "--only", "geglu"]) == 0
    assert kernels.main(["--dry-run", "--only", "no such case"]) == 1


def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert kernels.main([]) == 2
    assert "--dry-run" in capsys.readouterr().err


def small(change: Callable[[Tensor], Tensor] = lambda x: x) -> Case:
    case = kernels.geglu_case(production.GegluCall("small", 6, 16, 1), torch.float32)
    return replace(case, compute=lambda inputs, name: change(case.compute(inputs, name)))


def test_a_wrong_or_unfinished_result_is_not_timed() -> None:
    def late(x: Tensor) -> Tensor:
        x[0, 0] = float("nan")
        return x

    for change, told in ((lambda x: x * 1.001, "wrong: relative error 1.0e-03"), (late, "wrong: relative error inf")):
        rows = list(kernels.measure(small(change), torch.device("cpu"), torch.float32, 0.0))
        assert [row.told for row in rows if row.kernels == "torch"] == [told]
        assert all(row.timing is None for row in rows if row.kernels == "torch")
    assert all(
        row.timing
        for row in kernels.measure(small(), torch.device("cpu"), torch.float32, 0.0)
        if row.kernels == "torch"
    )


def row(case: Case, name: str, seconds: float) -> Row:
    return Row(case, name, Timing((seconds, seconds * 1.01), seconds, seconds * 1.02, True), 1e-4)


def test_bars_are_judged_against_the_best_of_the_others_and_the_roof() -> None:
    case = replace(small(), bars=(Bar(1.3, ("sdpa.flash", "sdpa.cudnn")), Bar(0.75)), bytes=3e8)
    others = [row(case, "sdpa.flash", 200e-6), row(case, "sdpa.cudnn", 130.4e-6)]
    judged = kernels.verdicts([row(case, "triton", 100e-6), *others], ROOF)
    assert [holds for _, holds in judged] == [True, True]
    assert "1.30x of sdpa.cudnn" in judged[0][0] and "75% of copy bandwidth" in judged[1][0]
    slow = kernels.verdicts([row(case, "triton", 101e-6), *others], ROOF)
    assert [holds for _, holds in slow] == [False, False]
    assert kernels.verdicts(others, ROOF) == []
    wrong = Row(case, "triton", None, 0.5, "wrong: relative error 5.0e-01")
    assert kernels.verdicts([wrong, *others], ROOF)[0][1] is False


def test_the_floor_is_the_largest_of_three() -> None:
    call = production.ATTENTION[0]  # 4096² with a head dim of 40: the exponentials
    assert (call.lq, call.head_dim) == (4096, 40)
    assert call.flops == pytest.approx(42.95e9, rel=1e-3)
    assert ROOF.floor(call.flops, call.exponentials, call.bytes()) == pytest.approx(call.exponentials / 4e12)
    temporal = next(call for call in production.ATTENTION if call.lk == 24)
    assert ROOF.floor(temporal.flops, temporal.exponentials, temporal.bytes()) == temporal.bytes() / 4e12
    assert temporal.bytes() == 4 * 5760 * 24 * 320 * 2


def test_every_bar_of_the_issue_is_among_the_quick_cases() -> None:
    bars = {case.name: case.bars for case in kernels.cases(quick=True, dtype=torch.bfloat16)}
    assert bars["sd15 self 2x8x4096x4096x40"][0].factor == 1.3
    assert bars["sd15 self 2x8x1024x1024x80"][0].factor == bars["sd15 self 2x8x256x256x160"][0].factor == 1.2
    assert bars["zeroscope temporal 5760x5x24x24x64"][0].factor == 3
    assert bars["sd15 cross 2x8x4096x77x40"][0].factor == 1.3
    assert bars["zeroscope self 48x5x2880x2880x64"][0].factor == 0.95
    assert any(bar == Bar(0.75) for name in bars for bar in bars[name])
    assert len(kernels.cases(quick=False, dtype=torch.bfloat16)) > 40


def test_inputs_rotate_beyond_the_cache() -> None:
    assert timing.input_sets(1, torch.device("cpu")) == 2
    seen: list[int] = []
    took = timing.time_calls(seen.append, 3, torch.device("cpu"), repeats=2, seconds=0.05)
    assert set(seen) == {0, 1, 2} and len(took.medians) == 2 and took.fastest <= took.seconds <= took.slowest
