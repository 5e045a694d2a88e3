"""The documents say what is true: generated sections are up to date, what they name exists, their examples run."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageStat

from docs import draw_graph, house, markers, node_list, routes
from graph_engine.engine import Engine
from graph_engine.graph.document import parse
from graph_engine.graph.registry import Registry
from graph_engine.settings import Settings
from web.cli import parser

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
CODE_FOLDERS = "graph_engine|nodes|web|tests|docs|workflows|custom_kernels"


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.S | re.M)


def example(path: Path, name: str) -> str:
    """The code block after `<!-- test: name -->`."""
    found = re.search(rf"<!-- test: {name} -->\n```\w+\n(.*?)^```", path.read_text(encoding="utf-8"), re.S | re.M)
    assert found, f"{path.name} has no example {name!r}"
    return found[1]


def commands() -> list[str]:
    lines = []
    for path in DOCUMENTS:
        for block in blocks(path, "sh"):
            lines += [line.split(" #")[0].strip() for line in block.replace("\\\n", " ").splitlines() if line.strip()]
    return lines


def anchors(path: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize(
    ("path", "sections", "command"),
    [
        (node_list.README, node_list.SECTIONS, "python -m docs.node_list"),
        (house.ARCHITECTURE, house.SECTIONS, "python -m docs.house"),
        (routes.API, routes.SECTIONS, "python -m docs.routes"),
    ],
    ids=["nodes", "house and laws", "routes"],
)
def test_generated_sections_are_up_to_date(path: Path, sections: dict[str, object], command: str) -> None:
    text, updated = markers.fresh(path, sections)  # type: ignore[arg-type]
    assert text == updated, f"{path.name} is out of date; run `{command}`"


def test_the_editor_speaks_of_the_api_that_there_is() -> None:
    from docs import editor_types

    assert editor_types.TARGET.read_text(encoding="utf-8") == editor_types.text(), "run `python -m docs.editor_types`"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        there = path.parent / name if name else path
        assert there.exists(), f"{path.name} links to {target}"
        assert not anchor or anchor in anchors(there), f"{path.name} links to {target}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_are_named_exist(path: Path) -> None:
    # The last lines of ARCHITECTURE.md name what was not built.
    text = path.read_text(encoding="utf-8").partition("* Not built:")[0]
    for name in re.findall(rf"`((?:{CODE_FOLDERS})/[\w./-]+\.\w+)`", text):
        assert (ROOT / name).exists(), f"{path.name} names {name}"


def test_commands_exist() -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    subparsers = next(action.choices for action in parser()._actions if hasattr(action, "choices") and action.choices)
    assert isinstance(subparsers, dict)
    seen = set()
    for line in commands():
        words = shlex.split(line)
        seen.add(words[0])
        if words[0] == "make":
            assert words[1] in targets, line
        elif words[0] == "anyloom":
            known = subparsers[words[1]]._option_string_actions
            assert all(word in known for word in words if word.startswith("--")), line
        elif words[:2] == ["python", "-m"]:
            assert importlib.util.find_spec(words[2]) is not None, line
        elif words[0] == "pytest":
            assert all((ROOT / word).is_dir() for word in words[1:] if "/" in word), line
        else:
            assert words[0] == "curl", line
    assert seen >= {"make", "anyloom", "python", "pytest"}


def test_the_first_node_runs(tmp_path: Path) -> None:
    code = example(ROOT / "CONTRIBUTING.md", "first node")
    assert code == example(ROOT / "README.md", "first node")
    assert len(code.splitlines()) <= 12
    folder = tmp_path / "my_nodes"
    folder.mkdir()
    (folder / "mine.py").write_text(code, encoding="utf-8")
    nodes = {
        "picture": {"type": "media.solid_image", "values": {"width": 8, "height": 8, "color": "#404040"}},
        "few": {"type": "mine.posterize", "values": {"levels": 3}, "links": {"image": "picture.image"}},
        "info": {"type": "media.save_image", "links": {"image": "few.image"}},
    }

    async def run() -> None:
        async with await Engine.open(Settings(data_dir=tmp_path / "data", custom_nodes=(folder,))) as engine:
            assert engine.registry.failures == {}
            assert engine.registry["mine.posterize"].description == "Fewer shades of every colour."
            record = await engine.submit({"format": "anyloom", "version": 1, "nodes": nodes})
            record = await engine.wait(record.id, 60)
            assert record.status == "succeeded", record.errors
            [entry] = record.result["info"]["file"]
            with Image.open(engine.folders.resolve("output", entry["file"]["name"])) as picture:
                assert picture.convert("RGB").getpixel((0, 0)) == (128, 128, 128)

    asyncio.run(run())


def test_the_example_document_fits(tmp_path: Path) -> None:
    document = json.loads(example(ROOT / "README.md", "document"))

    async def check() -> None:
        async with await Engine.open(Settings(data_dir=tmp_path)) as engine:
            assert await engine.validate(document) == {"nodes": 3, "targets": ["save"]}

    asyncio.run(check())


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server as a user starts it."""
    command = [sys.executable, "-m", "web.cli", "serve", "--port", "0", "--data", str(tmp_path_factory.mktemp("data"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
        assert server.stdout is not None
        found = re.search(r"http://[\d.:]+", server.stdout.readline())
        assert found, "the server did not start"
        yield found[0]
        server.terminate()


@pytest.mark.parametrize(("name", "says"), [("client", "succeeded"), ("websocket", "'status': 'succeeded'")])
def test_the_python_examples_run(url: str, name: str, says: str, tmp_path: Path) -> None:
    code = example(ROOT / "README.md", name)
    assert "http://127.0.0.1:8188" in code
    done = subprocess.run(
        [sys.executable, "-c", code.replace("http://127.0.0.1:8188", url)],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert says in done.stdout
    if name == "client":
        assert list((tmp_path / "out").glob("picture_*.png"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
@pytest.mark.parametrize("placed", [True, False], ids=["as placed", "in layers"])
def test_no_node_of_a_drawn_graph_touches_another(path: Path, placed: bool) -> None:
    raw = json.loads(path.read_text(encoding="utf-8"))
    if not placed:
        for node in raw["nodes"].values():
            node.pop("ui", None)
    boxes = draw_graph.boxes_of(parse(raw), Registry.discover())
    width, height = draw_graph.place(boxes, raw["nodes"], 1600)
    for box in boxes.values():
        assert 0 <= box.x <= box.x + box.width <= width
        assert 0 <= box.y <= box.y + box.height <= height
    for one, other in combinations(boxes.values(), 2):
        apart_x = one.x + one.width < other.x or other.x + other.width < one.x
        assert apart_x or one.y + one.height < other.y or other.y + other.height < one.y, (one.id, other.id)


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    draw_graph.draw(ROOT / "workflows" / "any_to_any.json", tmp_path / "graph.png")
    with Image.open(tmp_path / "graph.png") as picture, Image.open(ROOT / "docs" / "any_to_any.png") as kept:
        assert picture.width == kept.width == 1600
        assert picture.size == kept.size
        [difference] = ImageStat.Stat(ImageChops.difference(picture, kept).convert("L")).mean
        assert difference < 0.5, "the picture is out of date; draw it again as the README says"


def test_every_test_that_answers_a_complaint_exists() -> None:
    page = (ROOT / "docs" / "nextgpt.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", page))
    written = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)\(", path.read_text(encoding="utf-8"))
    }
    assert len(named) > 40
    assert named <= written
