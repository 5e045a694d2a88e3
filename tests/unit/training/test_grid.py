"""The grid of the RecA experiment: a speaker that draws what is typical is found out, one that draws the truth is not."""

import json
import re
from pathlib import Path

import pytest
import torch

from nodes.nextgpt.training.evaluation import reca
from nodes.nextgpt.training.evaluation.evaluate import Evaluation
from nodes.nextgpt.training.evaluation.grid import drawn, grid, shares
from nodes.nextgpt.training.evaluation.reca import missed, table
from nodes.nextgpt.training.evaluation.speaker import Answer, Made
from nodes.nextgpt.training.judges.words import read
from nodes.nextgpt.training.media import pictures
from nodes.nextgpt.training.world.scene import Scene, Thing
from nodes.nextgpt.training.world.typical import TYPICAL

torch.set_num_threads(1)
DOCS = Path(__file__).resolve().parents[3] / "docs"


class Painter:
    """Draws what a request says; biased, things of a typical colour have it whatever the request says."""

    def __init__(self, biased: bool) -> None:
        self.biased = biased

    def answer(self, turns):
        request = re.sub(r"^.*?(?=an? (small|large))", "", turns[0].parts[0]).strip(".?")
        seen = read(request)
        found = dict(seen.things[0])
        if self.biased:
            found["colour"] = TYPICAL.get(found["shape"], found["colour"])
        scene = Scene(
            (Thing(found["shape"], found["colour"], found["size"], found["place"]),), seen.background or "white"
        )
        return Answer(request, (Made("image", pictures([scene], (64, 64), "cpu")[0], request),), 0.0)


def test_a_biased_painter_is_wrong_where_colours_are_not_typical():
    biased, fair = grid(Painter(True), 1), grid(Painter(False), 1)
    assert len(biased) == 56
    found, right = shares(biased), shares(fair)
    assert found["rare_colour"] == 0.0
    assert found["typical_colour"] == found["other_colour"] == 1.0
    assert all(value == 1.0 for value in right.values())
    picture = drawn([("before", biased), ("after", fair)])
    colours = {colour for _, colour in picture.getcolors(1 << 20)}
    assert (0xC0, 0x39, 0x2B) in colours
    assert (0xC0, 0x39, 0x2B) not in {colour for _, colour in drawn([("after", fair)]).getcolors(1 << 20)}


def test_no_picture_is_a_wrong_picture():
    class Silent:
        def answer(self, turns):
            return Answer("no", (), 0.0)

    assert set(shares(grid(Silent(), 1)).values()) == {0.0}


def test_a_table_has_what_both_have():
    said = table({"rare_colour": 0.25, "seconds": 1.0}, {"rare_colour": 0.5})
    assert "| rare_colour | 0.250 | 0.500 | +0.250 |" in said
    assert "seconds" not in said


BEFORE = {"rare_colour": 0.25, "other_shape": 0.9, "frechet_image": 0.2, "chinese_gap": -0.1, "turn_seconds": 2.0}
GOOD = {"rare_colour": 0.4, "other_shape": 0.88, "frechet_image": 0.22, "chinese_gap": 0.12, "turn_seconds": 9.0}


@pytest.mark.parametrize(
    ("worse", "wrong"),
    [
        ({}, []),
        ({"rare_colour": 0.39}, ["rare_colour"]),
        ({"other_shape": 0.879}, ["other_shape"]),
        ({"frechet_image": 0.221}, ["frechet_image"]),
        ({"frechet_image": 0.0, "other_shape": 1.0}, []),
        ({"chinese_gap": 0.121}, ["chinese_gap"]),
        ({"chinese_gap": -0.02}, []),
        ({"other_shape": float("nan"), "rare_colour": 0.0}, ["rare_colour", "other_shape"]),
    ],
)
def test_the_bars_of_reca(worse, wrong):
    assert missed(BEFORE, {**GOOD, **worse}) == wrong


def test_a_figure_that_is_lacking_is_missed():
    assert missed(BEFORE, {}) == ["rare_colour", "chinese_gap", "frechet_image", "other_shape"]
    assert missed({}, {}) == ["rare_colour"]


def test_the_committed_figures_reach_the_bars_and_are_those_of_the_table():
    found = json.loads((DOCS / "reca-figures.json").read_text(encoding="utf-8"))
    before, after = found["before"], found["after"]
    assert missed(before, after) == []
    told = (DOCS / "reca.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| ([a-z ]+) \| (-?[\d.]+) \| (-?[\d.]+) \| ([+-][\d.]+) \|$", told, re.M)
    assert [name.replace(" ", "_") for name, *_ in shown] == list(before) == list(after)
    assert {"rare_colour", "typical_shape", "text_to_image_colour", "second_turn", "all_zh", "frechet_video"} <= set(
        before
    )
    for name, *values in shown:
        key = name.replace(" ", "_")
        assert values[:2] == [f"{before[key]:.3f}", f"{after[key]:.3f}"], name
        # Of what was not rounded yet.
        assert float(values[2]) == pytest.approx(after[key] - before[key], abs=0.00101), name


@pytest.mark.parametrize("undone", [True, False])
def test_the_experiment_ends_with_1_where_reca_undoes_nothing(tmp_path, monkeypatch, capsys, undone):
    """All but the training and the answers; those are of painters."""

    def trained(plan, folder, stage, device):
        (folder / "weights").mkdir(parents=True, exist_ok=True)
        return Painter(biased=stage == "typical" or not undone)

    monkeypatch.setattr(reca, "trained", trained)
    monkeypatch.setattr(reca, "Speaker", lambda painter: painter)
    monkeypatch.setattr(reca, "evaluate", lambda speaker, prompts: Evaluation((), (), {"all": 1.0, "prompts": 2.0}))
    monkeypatch.setattr("sys.argv", ["reca", str(tmp_path), "--count", "1", "--scale", "0.01"])
    assert reca.main() == (0 if undone else 1)
    told = capsys.readouterr().out
    assert ("rare_colour: MISSED" in told) is not undone
    assert set(json.loads((tmp_path / "figures.json").read_text())) == {"before", "after"}
    assert (tmp_path / "grid.png").is_file()
