"""The package as the registry sees it, and its weight before it is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from graph_engine import Effect, NodeError
from graph_engine.errors import NotFoundError, PathError
from graph_engine.graph.registry import Registry
from nodes import media
from nodes.media import load_text, save_text, show_text
from tests.contexts import FolderContext


def test_every_node_is_published_and_documented() -> None:
    registry = Registry()
    registry.add_module(media)
    assert len(registry) == len(media.__all__)
    for type in registry:
        assert type.id.startswith("media.")
        assert type.category.startswith("media/")
        assert len(type.description) > 5
        assert type.is_output == (type.effect is Effect.EXTERNAL)
        assert type.is_output == type.id.split(".")[1].startswith(("save_", "preview_", "show_"))
        assert type.lane == "pool"


def test_importing_stays_light() -> None:
    heavy = ("torch", "numpy", "av", "PIL", "soundfile")
    code = f"import sys, nodes.media; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "gb18030"])
def test_text_in_every_encoding(tmp_path: Path, encoding: str) -> None:
    context = FolderContext(tmp_path)
    (tmp_path / "input" / "t.txt").write_bytes("灯塔\r\nlight\r".encode(encoding))
    assert load_text(context, "t.txt", encoding) == "灯塔\nlight\n"


def test_text_round_trip_and_mark(tmp_path: Path) -> None:
    context = FolderContext(tmp_path)
    file = save_text(context, "灯塔\n", "note", "md")
    assert file["media_type"] == "text/markdown"
    assert file["characters"] == 3
    assert load_text(context, f"output/{file['name']}") == "灯塔\n" == show_text("灯塔\n")
    (tmp_path / "input" / "mark.txt").write_bytes(b"\xef\xbb\xbfa")
    assert load_text(context, "mark.txt") == "a"


def test_bad_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = FolderContext(tmp_path)
    (tmp_path / "input" / "t.txt").write_bytes("灯塔".encode("gb18030"))
    with pytest.raises(NodeError) as caught:
        load_text(context, "t.txt")
    assert caught.value.problem.code == "wrong_encoding"
    assert "gb18030" in caught.value.problem.remedy
    monkeypatch.setattr("nodes.media.text.LIMIT_BYTES", 2)
    with pytest.raises(NodeError) as caught:
        load_text(context, "t.txt", "gb18030")
    assert caught.value.problem.code == "too_large"
    with pytest.raises(NotFoundError):
        load_text(context, "absent.txt")
    with pytest.raises(PathError):
        save_text(context, "x", "../x")
