"""docs/adding-a-modality.md, followed to the letter: the package is written, installed beside Anyloom, and used."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "adding-a-modality.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"<!-- test: (.+?) -->\n```\w+\n(.*?)^```", PAGE, re.S | re.M))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the package as pip would install it, and a depth map to look at."""
    folder = tmp_path_factory.mktemp("fifth")
    (folder / "heat_pack").mkdir()
    (folder / "heat_pack" / "__init__.py").touch()
    for name, code in BLOCKS.items():
        if name.endswith(".py"):
            (folder / name).write_text(code, encoding="utf-8")
    project = tomllib.loads(BLOCKS["pyproject.toml"])["project"]
    info = folder / f"heat_pack-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = [
        f"[{group}]\n" + "\n".join(f"{name} = {value}" for name, value in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n\n".join(points))
    (folder / "data" / "input").mkdir(parents=True)
    shutil.copy(ROOT / "workflows" / "media" / "lighthouse.png", folder / "data" / "input")
    return folder


def child(place, *arguments):
    """Standard output of a Python that sees the package."""
    path = os.pathsep.join([str(place), str(ROOT)])
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=place,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_the_page_quotes_is_the_code():
    assert BLOCKS["depth row"] in (ROOT / "nodes" / "nextgpt" / "modality.py").read_text(encoding="utf-8")
    assert BLOCKS["depth node"] in (ROOT / "nodes" / "nextgpt" / "encode.py").read_text(encoding="utf-8")


def test_a_depth_map_goes_in_and_a_heat_map_comes_out(place):
    status, reply, file = child(place, "run.py").splitlines()
    assert status.startswith("succeeded")
    assert reply.endswith("[heat map 1]")
    assert len(reply) > 20, "it said something too"
    (picture,) = (place / "data" / "output").glob("*.png")
    assert picture.name in file
    with Image.open(picture) as opened:
        assert opened.size == (64, 64)
        pixels = np.asarray(opened.convert("RGB"), dtype=np.float32).reshape(-1, 3) / 255
    namespace = {}
    exec(BLOCKS["heat_pack/heatmap.py"], namespace)
    import torch

    ramp = namespace["paint"](torch.linspace(0, 1, 2001)[None, None])[0, 0].numpy()
    distance = np.abs(pixels[:, None] - ramp[None]).max(axis=-1).min(axis=-1)
    assert distance.max() < 1 / 255, "every pixel has a colour of the ramp"
    assert np.abs(pixels - ramp[0]).max(axis=-1).min() < 0.01, "the coldest place is dark"
    assert np.abs(pixels - ramp[-1]).max(axis=-1).min() < 0.01, "the hottest is light"


def test_everything_follows_from_the_row(place):
    code = """
import json
from pathlib import Path
from graph_engine.graph.registry import Registry
from nodes.nextgpt.families import FAMILIES
from nodes.nextgpt.preset import PRESETS
from nodes.nextgpt.words import vocabulary_of
registry = Registry.discover()
print(json.dumps({
    "failures": registry.failures,
    "in": {name: [port.name for port in registry[f"nextgpt.{name}"].inputs] for name in ("reason", "assemble")},
    "out": {name: [port.name for port in registry[f"nextgpt.{name}"].outputs] for name in ("load", "route", "captions")},
    "versions": {name: registry[f"nextgpt.{name}"].version for name in ("load", "reason", "route", "assemble")},
    "choices": registry["nextgpt.load_decoder"].input("modality").widget.options,
    "families": [family.name for family in FAMILIES if "heatmap" in family.name],
    "texts": vocabulary_of(PRESETS["tiny"].parts["language_model"].extras, 100).texts,
    "ids": vocabulary_of(PRESETS["tiny"].parts["language_model"].extras, 100).tokens,
    "published": vocabulary_of(PRESETS["nextgpt-7b-tiva-v0"].parts["language_model"].extras, 32000).size,
    "parts": {name: [part for part in preset.parts if "heatmap" in part] for name, preset in PRESETS.items()},
}))
"""
    found = json.loads(child(place, "-c", code))
    assert found["failures"] == {}
    assert {"heatmap", "max_heatmaps"} <= set(found["in"]["reason"])
    assert "heatmaps" in found["in"]["assemble"]
    assert found["out"]["load"][-2:] == ["heatmap_projector", "heatmap_decoder"]
    assert found["out"]["route"] == ["text", "image", "video", "audio", "heatmap", "reply", "trace", "events"]
    assert found["out"]["captions"] == ["image", "video", "audio", "heatmap"]
    assert all(version.endswith("+heatmap4") for version in found["versions"].values())
    assert found["choices"] == ["image", "video", "audio", "heatmap"]
    assert found["families"] == ["nextgpt.output_projector.heatmap", "nextgpt.heatmap_decoder"]
    assert found["texts"]["heatmap"] == [f"<heatmap_0{index}>" for index in range(4)]
    assert found["ids"]["image"] == [102, 103, 104, 105], "shipped tokens do not move"
    assert found["ids"]["heatmap"] == [138, 139, 140, 141]
    assert found["published"] == 32_038, "weights that do not speak it keep their vocabulary"
    heat = ["heatmap_projector", "heatmap_decoder"]
    assert found["parts"]["tiny"] == found["parts"]["tiny-v1.5"] == heat
    assert found["parts"]["nextgpt-7b-tiva-v0"] == found["parts"]["nextgpt-v1.5-7b"] == []


def test_a_row_that_cannot_be_read_says_whose_it_is(place, tmp_path):
    shutil.copytree(place / "heat_pack", tmp_path / "heat_pack")
    shutil.copytree(place / "heat_pack-1.0.dist-info", tmp_path / "heat_pack-1.0.dist-info")
    row = tmp_path / "heat_pack" / "row.py"
    row.write_text(row.read_text().replace('    "noun": "heat map",\n', ""), encoding="utf-8")
    code = "from graph_engine.graph.registry import Registry; print(Registry.discover().failures['nextgpt'])"
    said = child(tmp_path, "-c", code)
    assert "the modality 'heatmap' of the package heat-pack cannot be read" in said
    assert "no noun" in said
