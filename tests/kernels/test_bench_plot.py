"""The pictures of the GPU benchmarks show what their tables say. The rows are made up, the tables written as ever."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from custom_kernels.timing import Ceilings, Timing
from tests.bench import kernel_cases, kernels, kernels_plot, unet_rows
from tests.bench.unet_rows import Row

ABOUT = {"device": "NVIDIA <made up>", "driver": "1.2", "torch": "2.13", "triton": "3.9", "cuda": "13", "cudnn": "9"}
ROOF = Ceilings(flops=800e12, bytes=4e12, exponentials=4e12)
HERE = Path(__file__).parents[2]


def write_kernels(path: Path, count: int | None = None) -> list[kernels.Row]:
    """Of each case: ours at 60 % of the roof, another way at 40 %, one that raised."""
    rows = []
    for case in kernel_cases.cases(quick=count is not None, dtype=torch.bfloat16)[:count]:
        floor = ROOF.floor(case.flops, case.exponentials, case.bytes)
        for name, share in (("triton", 0.6), ("sdpa.flash", 0.4)):
            took = Timing((floor / share, floor / share * 1.01), floor / share, floor / share, True)
            rows.append(kernels.Row(case, name, took, 1e-4))
        rows.append(
            kernels.Row(case, "sdpa.cudnn", None, float("nan"), "RuntimeError: no kernel for a head dim of <160>")
        )
    kernels.write(path, kernels.csv_rows(rows, ROOF, ABOUT, torch.bfloat16))
    return rows


def write_unets(path: Path, model: str, ways: dict[str, float]) -> None:
    rows = [
        Row(model, way, (seconds, seconds * 1.01), seconds, seconds, error=1e-2, psnr=40.0, floor=0.0029)
        for way, seconds in ways.items()
    ]
    rows.append(Row(model, "max-autotune", floor=0.0029, told="compiling took more than 220 s"))
    unet_rows.write(path, rows, ABOUT, torch.bfloat16)


def bars(picture: str) -> list[tuple[float, str]]:
    return [
        (float(bar.attrib["width"]), bar.attrib["fill"])
        for bar in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}rect")
        if bar.attrib.get("class") == "bar"
    ]


def words(picture: str) -> list[str]:
    return [
        "".join(text.itertext()) for text in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")
    ]


def test_a_bar_for_each_kernel_that_was_timed_and_the_reason_for_each_that_was_not(tmp_path: Path) -> None:
    table, picture = tmp_path / "kernels.csv", tmp_path / "kernels.svg"
    write_kernels(table, 2)
    assert kernels_plot.main([str(table), str(picture)]) == 0
    drawn = picture.read_text("utf-8")
    full = kernels_plot.BAR
    assert [width for width, _ in bars(drawn)] == pytest.approx([0.6 * full, 0.4 * full] * 2, abs=0.1)
    said = words(drawn)
    assert said[0] == "NVIDIA <made up>, bfloat16, torch 2.13, triton 3.9, driver 1.2"
    assert "attention sd15 self 2x8x4096x4096x40, 5 times a step, floor 67.1 us" in said
    assert "111.8 us, 60%" in said and "167.8 us, 40%, ours 1.50x" in said
    assert said.count("RuntimeError: no kernel for a head ...") == 2


def test_steps_are_drawn_for_each_table_and_never_compared_with_those_of_another(tmp_path: Path) -> None:
    one, other = tmp_path / "unets-sd15.csv", tmp_path / "unets-sd15-compiled.csv"
    write_unets(one, "sd15", {"eager": 0.017, "ours": 0.016, "ours+graph": 0.005})
    write_unets(other, "sd15", {"eager": 0.018, "ours+graph": 0.006, "compile": 0.0066})
    picture = tmp_path / "unets.svg"
    assert kernels_plot.main([str(one), str(other), str(picture)]) == 0
    drawn = picture.read_text("utf-8")
    assert len(bars(drawn)) == 6 and len({colour for _, colour in bars(drawn)}) == 4
    said = words(drawn)
    assert "sd15, a step, floor 2.90 ms (unets-sd15)" in said
    assert "17.00 ms, 17%, ours 3.40x" in said and "18.00 ms, 16%, ours 3.00x" in said
    assert "6.60 ms, 44%, ours 1.10x" in said and said.count("compiling took more than 220 s") == 2


def test_all_cases_fit_side_by_side_into_the_picture(tmp_path: Path) -> None:
    table, picture = tmp_path / "kernels.csv", tmp_path / "kernels.svg"
    rows = write_kernels(table)
    assert kernels_plot.main([str(table), str(picture)]) == 0
    root = ElementTree.fromstring(picture.read_text("utf-8"))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert len(bars(picture.read_text("utf-8"))) == len(rows) * 2 / 3
    assert width > kernels_plot.WIDTH and height <= kernels_plot.TOP + kernels_plot.TALLEST
    for part in root.iter():
        if "x" in part.attrib:
            assert 0 <= float(part.attrib["x"]) < width and 0 <= float(part.attrib["y"]) < height


def test_without_a_table_or_a_picture_it_says_how(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    table = tmp_path / "kernels.csv"
    write_kernels(table, 1)
    for wrong in ([], [str(table)], [str(table), str(table)], [str(tmp_path / "kernels.svg")]):
        assert kernels_plot.main(wrong) == 2
        assert re.search(r"kernels_plot out/bench/kernels.csv", capsys.readouterr().err)
    assert table.read_text("utf-8").startswith("operation")


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_make_draws_what_the_benchmarks_wrote(tmp_path: Path) -> None:
    folder = tmp_path / "bench"
    write_kernels(folder / "kernels.csv", 1)
    write_unets(folder / "unets-sd15.csv", "sd15", {"eager": 0.017, "ours+graph": 0.005})
    write_unets(folder / "unets-zeroscope-compiled.csv", "zeroscope", {"eager": 0.1, "ours+graph": 0.09})
    given = [f"OUT={tmp_path}", f"VENV={tmp_path / 'none'}", f"PYTHON={sys.executable}"]
    subprocess.run(
        ["make", "--no-print-directory", "bench-gpu-plot", *given], cwd=HERE, check=True, capture_output=True
    )
    assert len(bars((folder / "kernels.svg").read_text("utf-8"))) == 2
    assert len(bars((folder / "unets.svg").read_text("utf-8"))) == 4
