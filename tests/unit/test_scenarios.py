"""The page of scenarios: every picture is of the workflow as it is, small enough, and shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from docs import draw_graph
from graph_engine.graph.document import parse
from graph_engine.graph.registry import Registry

ROOT = Path(__file__).resolve().parents[2]
PICTURES = sorted((ROOT / "docs" / "scenarios").glob("*.png"))
FRAME = {46 + 22 * lines for lines in (1, 2)}
"""Pixels of the title above a graph and of the kinds below it, in one line or two."""


def test_every_picture_is_shown() -> None:
    page = (ROOT / "docs" / "scenarios.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\]\(scenarios/(\w+)\.png\)", page)) == [path.stem for path in PICTURES]
    assert {"create", "explain", "narrate", "answer", "report"} <= {path.stem for path in PICTURES}


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_a_picture_is_of_the_workflow_as_it_is(path: Path) -> None:
    """By its size, which follows from the nodes, their widgets and links; drawing all of them would take too long."""
    document = parse((ROOT / "workflows" / f"{path.stem}.json").read_bytes())
    boxes = draw_graph.boxes_of(document, Registry.discover())
    width, height = draw_graph.place(boxes, document.raw["nodes"], 1200)
    with Image.open(path) as picture:
        assert picture.width == width, "draw it again as docs/scenarios.md says"
        assert picture.height - height in FRAME, "draw it again as docs/scenarios.md says"
    assert path.stat().st_size < 200_000
