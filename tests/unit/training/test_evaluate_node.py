"""The node that evaluates: figures with their bars, a page, and no bar that is reached by silence."""

from __future__ import annotations

import json
import re

import pytest
import torch

from graph_engine.errors import Cancelled, ModelError
from nodes.data.kinds import TABLE
from nodes.nextgpt.training.evaluation.evaluate_node import evaluate
from nodes.nextgpt.training.evaluation.figures import BARS
from tests.contexts import FolderContext

torch.set_num_threads(1)
PROMPTS = [
    {"text": "Hello!", "kind": "chat", "wishes": []},
    {
        "text": "Draw a red star.",
        "kind": "make image",
        "wishes": [{"modality": "image", "things": [{"shape": "star", "colour": "red"}]}],
    },
]


@pytest.fixture
def context(tmp_path):
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / "prompts.json").write_text(json.dumps(PROMPTS), encoding="utf-8")
    return FolderContext(tmp_path)


def test_a_made_preset_is_judged(context):
    found = evaluate(context, preset="tiny", folder="t", prompts="prompts.json")
    table = TABLE.check(found.figures)
    rows = {row[0]: row[1:] for row in table["rows"]}
    assert table["columns"] == ["figure", "value", "bar", "reached"]
    assert rows["text_to_image_colour"][1:] == [">= 0.97", False]
    assert not found.reached, "random weights draw no red star"
    assert set(rows) & set(BARS) < set(BARS), "other prompts are held against what they ask for only"
    page = (context.root / "output" / found.file["name"]).read_text(encoding="utf-8")
    assert "Draw a red star." in page
    assert found.file["prompts"] == 2
    samples = re.findall(r'src="([^"]+)"', page)
    assert all((context.root / "output" / "evaluation" / sample).is_file() for sample in samples)
    assert context.progressed[-1][:2] == (2, 2)
    again = evaluate(context, preset="tiny", folder="t", prompts="prompts.json")
    assert again.file["name"] != found.file["name"]


def test_it_can_be_cancelled_and_says_what_is_missing(context, monkeypatch):
    monkeypatch.setattr("nodes.nextgpt.locate.SHIPPED", context.root / "nothing")
    with pytest.raises(ModelError, match="lacks the weights"):
        evaluate(context, preset="mini", folder="m", prompts="prompts.json")
    context.stop_after = 0
    with pytest.raises(Cancelled):
        evaluate(context, preset="tiny", folder="t", prompts="prompts.json")
    assert not [path for path in (context.root / "output").rglob("*") if path.is_file()]
