"""Reports, speech, and the package as the registry sees it."""

from __future__ import annotations

import base64
import io
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch

from graph_engine import NodeError
from graph_engine.errors import Cancelled
from graph_engine.graph.kinds import AUDIO
from graph_engine.graph.registry import Registry
from nodes import data
from nodes.data import report
from nodes.media import narrate
from tests.contexts import FolderContext

TABLE = {"columns": ["a", "n"], "rows": [["x <b>", 1], ["y", 2.5]]}


class Page(HTMLParser):
    """The elements of a page and their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def content(source: str | None) -> bytes:
    return base64.b64decode(str(source).split(",", 1)[1])


def test_everything_is_on_one_page(tmp_path: Path) -> None:
    from PIL import Image

    context = FolderContext(tmp_path)
    made = report(
        context,
        "Four & more",
        "An *introduction*.",
        "findings",
        **{
            "1_the_table": [TABLE],
            "2_pictures": [torch.rand(2, 8, 12, 3)],
            "3_film": [{"frames": torch.rand(6, 16, 16, 3), "fps": 6.0, "audio": None}],
            "10_a_sound": [{"waveform": torch.zeros(1, 1, 800), "sample_rate": 8000}],
            "11": ["Last **words**.", {"score": 3}],
        },
    )
    page = Page(context.path_of(made.file).read_text(encoding="utf-8"))
    assert page.words.index("the table") < page.words.index("film") < page.words.index("a sound")
    assert [Image.open(io.BytesIO(content(one["src"]))).size for one in page.all("img")] == [(12, 8)] * 2
    assert content(page.all("video")[0]["src"])[4:8] == b"ftyp"
    assert content(page.all("audio")[0]["src"])[:4] == b"RIFF"
    assert "x <b>" in page.words
    assert '"score": 3' in page.words
    assert len(page.all("em")) == len(page.all("strong")) == 1
    assert made.markdown.startswith("# Four & more\n")
    assert "| x <b> | 1 |" in made.markdown
    assert "[film: film]" in made.markdown
    assert (made.file["name"], made.file["parts"]) == ("findings_00001.html", 6)


def test_nothing_in_a_report_runs_or_calls_home(tmp_path: Path) -> None:
    hostile = "<script>x</script> [a](javascript:x) ![i](https://evil.example/i.png) <img src=x onerror=y>"
    context = FolderContext(tmp_path)
    made = report(context, f"</title>{hostile}", hostile, **{"1_<i onclick=z>": [TABLE, hostile]})
    text = context.path_of(made.file).read_text(encoding="utf-8")
    page = Page(text)
    assert not page.all("script")
    assert not page.all("img")
    assert not page.all("i")
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert not re.search(r'(src|href)="(javascript|http)', text.replace('href="https://evil.example/i.png"', ""))
    assert "default-src 'none'" in text


def test_an_empty_report_and_foreign_values_are_refused(tmp_path: Path) -> None:
    context = FolderContext(tmp_path)
    with pytest.raises(NodeError, match="neither text nor parts"):
        report(context)
    with pytest.raises(NodeError) as caught:
        report(context, p1=[object()])
    assert caught.value.problem.port == "p1"
    assert not list((tmp_path / "output").glob("*.html"))


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed (apt-get install espeak-ng)")
def test_texts_are_read_aloud(tmp_path: Path) -> None:
    context = FolderContext(tmp_path)
    short = AUDIO.check(narrate(context, "A red circle."))
    long = narrate(context, "A red circle stands to the left of a blue square, and both of them are small.")
    slow = narrate(context, "A red circle.", words_per_minute=80)
    seconds = [one["waveform"].shape[-1] / one["sample_rate"] for one in (short, long, slow)]
    assert 0.5 < seconds[0] < 2 < seconds[1]
    assert seconds[2] > 1.3 * seconds[0]
    assert float(short["waveform"].pow(2).mean().sqrt()) > 0.01
    assert narrate(context, "红色的圆。")["waveform"].shape[-1] > 5000
    assert narrate(context, "--version; $(id)")["waveform"].shape[-1] > 5000
    context.stop_after = 0
    with pytest.raises(Cancelled):
        narrate(context, "word " * 3000)


def test_what_cannot_be_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = FolderContext(tmp_path)
    with pytest.raises(NodeError, match="nothing to say"):
        narrate(context, "  ")
    with pytest.raises(NodeError, match="limit"):
        narrate(context, "x" * 20_001)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NodeError, match="not installed") as caught:
        narrate(context, "hello")
    assert "apt-get install espeak-ng" in caught.value.problem.remedy
    program = tmp_path / "espeak-ng"
    program.write_text("#!/bin/sh\necho 'no such voice' >&2\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(NodeError, match="exit status 3"):
        narrate(context, "hello")


def test_every_node_is_published_and_documented() -> None:
    registry = Registry()
    registry.add_module(data)
    assert len(registry) == len(data.__all__)
    for type in registry:
        assert type.id.startswith("data.")
        assert type.category.startswith("data/")
        assert len(type.description) > 5


def test_importing_stays_light() -> None:
    heavy: Any = ("torch", "numpy", "matplotlib", "PIL", "markdown_it", "av")
    code = f"import sys, nodes.data; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
