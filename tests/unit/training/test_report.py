"""The reports that are committed: of the weights that ship, with every bar reached, and the same in all places."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from nodes.nextgpt.training.evaluation.figures import BARS, missed
from nodes.nextgpt.training.evaluation.page import digest_of, head, table
from nodes.nextgpt.training.parts import Parts

DOCS = Path(__file__).resolve().parents[3] / "docs"
COMMAND = "anyloom evaluate mini --json docs/evaluation/figures.json --page docs/evaluation --processes 2"


@pytest.fixture(scope="module")
def found():
    return json.loads((DOCS / "evaluation" / "figures.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page():
    return (DOCS / "evaluation" / "index.html").read_text(encoding="utf-8")


def test_every_bar_is_reached_by_enough_prompts(found):
    assert missed(found) == []
    assert found["prompts"] >= 300
    assert all(type(value) is float for value in found.values())


def test_the_page_is_of_these_figures_these_weights_and_this_command(found, page, tmp_path):
    """Weights that are trained on have to be evaluated again."""
    weights = digest_of(Parts("mini", tmp_path, tmp_path))
    assert page.startswith(head("Evaluation of mini", COMMAND, weights) + table(found))
    pictures = re.findall(r'<img src="([^"]+)"', page)
    assert {"make_image.png", "make_video.png", "make_audio.png", "edit.png"} <= set(pictures)
    assert all((DOCS / "evaluation" / name).is_file() for name in pictures)


def test_the_documentation_shows_the_same_numbers(found):
    told = (DOCS / "training.md").read_text(encoding="utf-8")
    assert COMMAND in told
    rows = re.findall(r"([a-z ]+) \| \*\*([\d.]+)\*\* \| ([\d.]+) \|", told)
    shown = {name.strip().replace(" ", "_"): (value, float(bar)) for name, value, bar in rows}
    assert set(shown) == set(BARS)
    for name, (value, bar) in shown.items():
        assert bar == BARS[name][1]
        assert value == f"{found[name]:.{len(value.partition('.')[2])}f}", name


def test_other_weights_are_another_digest(tmp_path):
    shipped = digest_of(Parts("mini", tmp_path, tmp_path))
    assert shipped == digest_of(Parts("mini", tmp_path, tmp_path))
    own = tmp_path / "weights" / "image_projector.safetensors"
    own.parent.mkdir()
    own.write_bytes(b"trained on")
    other = digest_of(Parts("mini", tmp_path, tmp_path))
    assert other != shipped
    own.write_bytes(b"trained oN")
    assert len({shipped, other, digest_of(Parts("mini", tmp_path, tmp_path))}) == 3
    assert digest_of(Parts("tiny", tmp_path, tmp_path, seed=1)) != digest_of(Parts("tiny", tmp_path, tmp_path, seed=2))
