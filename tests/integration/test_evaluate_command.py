"""`anyloom evaluate` as a person calls it: what it prints, writes and returns for answers of the shipped model."""

from __future__ import annotations

import json

import pytest
import torch

from web.cli import main

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
STAR = {"shape": "star", "colour": "blue", "size": "large", "place": "left"}


def asking(folder, thing):
    prompts = [{"text": "Draw a large blue star on the left.", "wishes": [{"modality": "image", "things": [thing]}]}]
    (folder / "prompts.json").write_text(json.dumps(prompts), encoding="utf-8")
    return [
        "evaluate",
        "mini",
        "--data",
        str(folder / "data"),
        "--device",
        "cpu",
        "--prompts",
        f"{folder}/prompts.json",
    ]


@pytest.mark.parametrize(("colour", "code"), [("blue", 0), ("red", 1)])
def test_what_is_right_ends_with_0_and_what_is_wrong_with_1(tmp_path, capsys, colour, code):
    """Into folders that are not there yet."""
    figures, page = tmp_path / "new" / "one" / "figures.json", tmp_path / "new" / "two" / "page"
    assert main([*asking(tmp_path, {**STAR, "colour": colour}), "--json", str(figures), "--page", str(page)]) == code
    told = capsys.readouterr()
    missed = {line.split()[0] for line in told.out.splitlines() if line.endswith("MISSED")}
    assert missed == ({"text_to_image_colour"} if code else set())
    assert f"1/1 make image (en): {'wrong' if code else 'right'}" in told.err
    found = json.loads(figures.read_text(encoding="utf-8"))
    assert all(type(value) is float for value in found.values())
    assert (found["text_to_image_colour"], found["text_to_image_shape"], found["prompts"]) == (1.0 - code, 1.0, 1.0)
    shown = {line.split()[0]: line.split()[1] for line in told.out.splitlines() if "/" not in line}
    assert shown == {name: f"{value:.3f}" for name, value in found.items()}
    written = (page / "index.html").read_text(encoding="utf-8")
    assert "Draw a large blue star on the left." in written
    assert (page / "make_image.png").stat().st_size > 1000


@pytest.mark.parametrize("flag", ["--json", "--page"])
def test_what_cannot_be_written_is_refused_before_anything_is_answered(tmp_path, capsys, flag):
    (tmp_path / "file").write_text("x")
    assert main([*asking(tmp_path, STAR), flag, str(tmp_path / "file" / "below" / "x")]) == 1
    told = capsys.readouterr().err
    assert f"{flag}: " in told
    assert "1/1" not in told


def test_a_folder_is_no_file_for_figures(tmp_path, capsys):
    assert main([*asking(tmp_path, STAR), "--json", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert "is a folder" in told
    assert "1/1" not in told


@pytest.mark.parametrize("scale", ["0", "-1", "nan", "inf"])
def test_no_number_of_prompts_is_refused(tmp_path, capsys, scale):
    assert main(["evaluate", "mini", "--data", str(tmp_path), f"--scale={scale}"]) == 1
    assert "--scale must be above 0" in capsys.readouterr().err
