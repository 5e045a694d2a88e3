"""The benchmark of whole steps: small ones run on a CPU, and its verdicts are what the numbers say."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from tests.bench import unets
from tests.bench.unets import Model, Row, main, models, psnr, verdicts

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def test_a_dry_run_measures_checks_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "out" / "unets.csv"
    ways = ["--ways", "eager", "ours", "ours+graph"]
    assert main(["--dry-run", "--models", "sd15", *ways, "--csv", str(file)]) == 0
    said = capsys.readouterr().out
    assert "sd15 2x4x8x8" in said and "3 rows" in said
    with file.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert [row["way"] for row in rows] == ways[1:]
    for row in rows:
        assert float(row["ms_first"]) > 0 and float(row["roof_share"]) > 0
        assert float(row["relative_error"]) < 1e-4 and float(row["psnr_db"]) > 80
        assert row["device"] == "cpu" and row["torch"] == torch.__version__ and row["diffusers"]
    assert "attention: sdpa" in rows[1]["told"]


def test_without_a_device_or_with_the_interpreter_nothing_is_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["--quick"]) == 2
    assert "--dry-run" in capsys.readouterr().err
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert main(["--quick"]) == 2
    assert "TRITON_INTERPRET is set" in capsys.readouterr().err


def test_a_way_that_fails_takes_too_long_or_is_wrong_is_told_and_the_others_are_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    [model] = [model for model in models(True) if model.name == "audioldm"]
    prepared = unets.prepared

    def broken(unet: torch.nn.Module, way: str, device: torch.device) -> object:
        if way == "compile":
            raise unets.TooLong
        if way == "ours":
            raise RuntimeError("no kernel image is available\nand more")
        if way == "ours+graph":
            unet.conv_out.bias.data.fill_(9.0)
        return None

    monkeypatch.setattr(unets, "prepared", broken)
    device = torch.device("cpu")
    ways = ["eager", "ours", "ours+graph", "compile"]
    rows = list(unets.measure(model, ways, device, torch.float32, lambda: False, 7, {}))
    told = {row.way: row.told for row in rows}
    assert told["eager"] == "" and rows[0].medians
    assert told["ours"] == "failed: RuntimeError: no kernel image is available"
    assert told["ours+graph"].startswith("wrong: relative error")
    assert told["compile"] == "compiling took more than 7 s"
    over = list(unets.measure(model, ["eager"], device, torch.float32, lambda: True, 7, {}))
    assert over[0].told == "left out: the time is over" and not over[0].medians
    monkeypatch.setattr(unets, "prepared", prepared)


def test_verdicts_are_what_the_numbers_say() -> None:
    model = Model("m", models(True)[0].config, (1,), {"eager": 3.0, "compiled": 1.1})
    ours = Row("m", "ours+graph", (0.005, 0.006), peak_reserved=90, error=1e-2, psnr=40.0)
    rows = [
        Row("m", "eager", (0.016, 0.015), peak_reserved=100, error=1e-3),
        Row("m", "compile", (0.007, 0.007)),
        Row("m", "max-autotune", (0.0054, 0.0054)),
        ours,
    ]
    assert dict(verdicts([model], rows)) == {
        "m: 3.00x of eager, wanted 3.0x": True,
        "m: 1.08x of compiled, wanted 1.1x": False,
        "m: peak memory 0.90 of eager's": True,
        "m: 40 dB after 20 steps": True,
        "m: relative error 1.0e-02, wanted 2.0e-02": True,
    }
    ours.medians = ()
    assert verdicts([model], rows) == [("m: ours+graph was not measured", False)]
    ours.medians, ours.error, ours.psnr, ours.peak_reserved = (0.01,), float("nan"), float("nan"), 101
    assert not any(holds for _, holds in verdicts([model], rows))


def test_psnr() -> None:
    wanted = torch.tensor([0.0, 10.0])
    assert psnr(wanted, wanted) == float("inf")
    assert psnr(wanted + 1, wanted) == pytest.approx(20)
