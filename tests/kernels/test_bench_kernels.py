"""The benchmark of the kernels works: its cases compute, wrong results are not timed, bars are judged, rows are written."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from custom_kernels import norms, production, timing
from custom_kernels.timing import Ceilings, Timing
from tests.bench import kernel_cases, kernels
from tests.bench.kernel_cases import Bar, Case
from tests.bench.kernels import Row

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
    case = kernel_cases.geglu_case(production.GegluCall("small", 6, 16, 1), torch.float32)
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
    wrong = Row(case, "triton", None, 0.5, "wrong: relative error 5.0e-01")
    judged = kernels.verdicts([wrong, *others], ROOF)
    assert [holds for _, holds in judged] == [False, False] and "wrong: relative error 5.0e-01" in judged[0][0]
    barless = replace(case, bars=())
    assert kernels.verdicts([wrong._replace(case=barless)], ROOF) == [
        (f"{case.name}: triton: wrong: relative error 5.0e-01", False)
    ]


def test_a_bar_that_nobody_saw_does_not_hold() -> None:
    case = replace(small(), bars=(Bar(1.3, ("sdpa.flash", "sdpa.cudnn")), Bar(0.75)), bytes=3e8)
    others = [row(case, "sdpa.flash", 200e-6), row(case, "sdpa.cudnn", 130.4e-6)]
    raised = Row(case, "triton", None, float("nan"), "OutOfResources: out of resource: shared memory")
    assert kernels.verdicts([raised, *others], ROOF) == [
        (
            f"{case.name}: triton was not measured (OutOfResources: out of resource: shared memory), "
            "wanted 1.3x of the best of sdpa.flash, sdpa.cudnn",
            False,
        ),
        (
            f"{case.name}: triton was not measured (OutOfResources: out of resource: shared memory), "
            "wanted 75% of copy bandwidth",
            False,
        ),
    ]
    assert [holds for _, holds in kernels.verdicts(others, ROOF)] == [False, False]
    # Nothing to compare with; then a part of it, which is said.
    none = Row(case, "sdpa.cudnn", None, float("nan"), "RuntimeError: no kernel")
    (sentence, holds), share = kernels.verdicts([row(case, "triton", 100e-6), none], ROOF)
    assert not holds and share[1]
    assert sentence == (
        f"{case.name}: sdpa.flash (not tried), sdpa.cudnn (RuntimeError: no kernel): none was measured, "
        "wanted 1.3x of the best of sdpa.flash, sdpa.cudnn"
    )
    (sentence, holds), _ = kernels.verdicts([row(case, "triton", 100e-6), others[0], none], ROOF)
    assert holds and sentence == (
        f"{case.name}: 2.00x of sdpa.flash, wanted 1.3x; not measured: sdpa.cudnn (RuntimeError: no kernel)"
    )


def test_bars_left_out_for_want_of_time_are_missed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = replace(small(), bars=(Bar(1.6, ("torch",)), Bar(0.85)))
    monkeypatch.setattr(kernels, "cases", lambda quick, dtype: [case])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(kernels, "device_of", lambda dry_run: torch.device("cpu"))
    file = tmp_path / "kernels.csv"
    assert kernels.main(["--minutes", "-1", "--check", "--csv", str(file)]) == 1
    said = capsys.readouterr().out
    assert said.count("MISSED") == 2 and "1 cases were left out" in said
    assert f"MISSED  {case.name}: triton was not measured (left out: the time is over), wanted 85% of copy" in said
    [written] = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
    assert written["told"] == "left out: the time is over" and not written["us_first"]
    # What is measured has its verdicts, without --check whatever they are.
    assert kernels.main(["--dtype", "float32"]) == 0
    said = capsys.readouterr().out
    assert said.count("MISSED") == 2 and "triton was not measured (the kernel" not in said and "left out" not in said


def test_the_floor_is_the_largest_of_three() -> None:
    call = production.ATTENTION[0]  # 4096² with a head dim of 40: the exponentials
    assert (call.lq, call.head_dim) == (4096, 40)
    assert call.flops == pytest.approx(42.95e9, rel=1e-3)
    assert ROOF.floor(call.flops, call.exponentials, call.bytes()) == pytest.approx(call.exponentials / 4e12)
    temporal = next(call for call in production.ATTENTION if call.lk == 24)
    assert ROOF.floor(temporal.flops, temporal.exponentials, temporal.bytes()) == temporal.bytes() / 4e12
    assert temporal.bytes() == 4 * 5760 * 24 * 320 * 2


def test_every_bar_of_the_issue_is_among_the_quick_cases() -> None:
    bars = {case.name: case.bars for case in kernel_cases.cases(quick=True, dtype=torch.bfloat16)}
    assert bars["sd15 self 2x8x4096x4096x40"][0].factor == 1.3
    assert bars["sd15 self 2x8x1024x1024x80"][0].factor == bars["sd15 self 2x8x256x256x160"][0].factor == 1.2
    assert bars["zeroscope temporal 5760x5x24x24x64"][0].factor == 3
    assert bars["sd15 cross 2x8x4096x77x40"][0].factor == 1.3
    assert bars["zeroscope self 48x5x2880x2880x64"][0].factor == 0.95
    for norm in ("zeroscope 48x320x40x72", "zeroscope 2x320x24x2880"):
        assert bars[norm] == (Bar(2.0, ("torch",)), Bar(0.75))
    assert bars["zeroscope 138240x1280"] == (Bar(1.6, ("torch",)), Bar(0.85))
    assert bars["zeroscope film 2x24x2880 heads 5x64"][0].factor == 3
    assert {torch.bfloat16: 1e-2, torch.float16: 1e-3, torch.float32: 1e-5} == kernels.TOLERANCE
    backends = {"sdpa.flash", "sdpa.cudnn", "sdpa.efficient"}
    assert all(backends <= {*bars[name][0].others} for name in bars if "self" in name or "cross" in name)


def test_what_has_a_bar_comes_first_one_of_each_kind_before_all_others() -> None:
    every = kernel_cases.cases(quick=False, dtype=torch.bfloat16)
    quick = kernel_cases.cases(quick=True, dtype=torch.bfloat16)
    assert len(every) > 40 and all(case.bars for case in quick)
    assert [case.name for case in every[: len(quick)]] == [case.name for case in quick]
    barred = [bool(case.bars) for case in every]
    assert barred == sorted(barred, reverse=True) and not barred[-1]
    assert len({(case.operation, case.name) for case in every}) == len(every)


def test_group_norm_is_held_to_twice_torch_at_every_size() -> None:
    found = [case for case in kernel_cases.cases(False, torch.bfloat16) if case.operation == "group_norm_silu"]
    assert all(case.bars[0] == Bar(2.0, ("torch",)) for case in found)
    # The one that a step of a film spends most on: all frames and places of a film in one group.
    heaviest = max(found, key=lambda case: case.calls * case.bytes)
    assert (heaviest.name, heaviest.calls, len(heaviest.bars)) == ("zeroscope 2x320x24x2880", 26, 2)


def test_torch_is_timed_at_its_own_group_norm_without_a_copy_of_its_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """On CUDA it gives its result in another memory layout, which the operator of ours would copy back."""
    case = kernel_cases.norm_case(production.NormCall("small", 2, 64, 4, 4, 1), torch.float32)
    inputs = case.make(torch.Generator().manual_seed(0))
    plain = norms.torch_group_norm_silu
    monkeypatch.setattr(norms, "torch_group_norm_silu", lambda *given: plain(*given).contiguous())
    assert case.compute(inputs, "torch").is_contiguous()
    assert kernels.compared(case, inputs, "torch") < 1e-5
    assert not case.compute(inputs, "reference").is_contiguous()


def test_inputs_rotate_beyond_the_cache() -> None:
    assert timing.input_sets(1, torch.device("cpu")) == 2
    seen: list[int] = []
    took = timing.time_calls(seen.append, 3, torch.device("cpu"), repeats=2, seconds=0.05)
    assert set(seen) == {0, 1, 2} and len(took.medians) == 2 and took.fastest <= took.seconds <= took.slowest
