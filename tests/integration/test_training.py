"""Training as a workflow: a recipe runs in the engine, is watched, stopped and taken up again, and its curve is drawn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from graph_engine import Engine, Settings

torch.set_num_threads(1)
pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]
RECIPES = Path(__file__).resolve().parents[2] / "workflows" / "train"


def recipe(steps: int, folder: str = "tiny") -> dict:
    values = {"preset": "tiny", "folder": folder, "stage": "wording", "steps": steps, "batch": 2, "checkpoint_every": 5}
    return {
        "format": "anyloom",
        "version": 1,
        "nodes": {
            "words": {"type": "nextgpt.train", "values": values},
            "see": {
                "type": "nextgpt.train",
                "values": {**values, "stage": "encoding_side", "steps": 2},
                "links": {"after": "words.json"},
            },
            "curve": {"type": "nextgpt.loss_curve", "links": {"first": "words.json", "second": "see.json"}},
            "save": {"type": "media.save_image", "values": {"name": "curve"}, "links": {"image": "curve.image"}},
        },
    }


async def test_a_recipe_is_a_workflow_with_events_and_a_curve(tmp_path):
    engine = await Engine.open(Settings(data_dir=tmp_path))
    try:
        record = await engine.submit(recipe(12))
        events = [event async for batch in engine.watch(record.id) for event in batch]
        ended = await engine.wait(record.id)
    finally:
        await engine.close()
    assert ended.status == "succeeded", ended.errors
    told = [event for event in events if event.type == "progress" and event.node == "words"]
    assert told
    assert told[-1].data["total"] == 12
    assert "loss" in told[-1].data["message"]
    previews = [event for event in events if event.type == "preview" and event.node == "words"]
    assert previews
    assert previews[-1].data["image"].startswith(b"\x89PNG")
    folder = tmp_path / "models" / "training" / "tiny"
    assert {path.name for path in (folder / "weights").iterdir()} == {
        "language_model.safetensors",
        "input_projector.safetensors",
    }
    assert list((tmp_path / "output").glob("curve*.png"))


async def test_a_folder_outside_is_refused(tmp_path):
    engine = await Engine.open(Settings(data_dir=tmp_path))
    try:
        record = await engine.submit(recipe(1, "../../elsewhere"))
        ended = await engine.wait(record.id)
    finally:
        await engine.close()
    assert ended.status != "succeeded"
    assert any("names no folder under" in str(error) for error in ended.errors)


async def test_a_set_that_was_built_in_the_same_workflow_is_trained_on(tmp_path):
    values = {"preset": "tiny", "folder": "own", "stage": "encoding_side", "steps": 1, "batch": 2}
    nodes = {
        "talks": {"type": "nextgpt.dialogues_by_template", "values": {"count": 4, "kinds": "describe image"}},
        "set": {"type": "nextgpt.build_mosit", "links": {"dialogues": "talks.json"}},
        "see": {"type": "nextgpt.train", "values": values, "links": {"data": "set.data"}},
    }
    engine = await Engine.open(Settings(data_dir=tmp_path))
    try:
        record = await engine.submit({"format": "anyloom", "version": 1, "nodes": nodes})
        ended = await engine.wait(record.id)
    finally:
        await engine.close()
    assert ended.status == "succeeded", ended.errors
    done = json.loads((tmp_path / "models" / "training" / "own" / "see" / "done.json").read_text(encoding="utf-8"))
    assert done["plan"]["data"].startswith(str(tmp_path / "output" / "mosit"))


@pytest.mark.parametrize("name", ["nextgpt-7b-tiva-v0", "nextgpt-v1.5-7b"])
async def test_the_data_of_the_full_recipes_is_a_folder_below_the_input_folder(tmp_path, name):
    """As the recipes name it, and as the original lays it out; only the preset and the numbers are small."""
    recipe = json.loads((RECIPES / f"{name}.json").read_text(encoding="utf-8"))
    told = recipe["nodes"]["encoding_side"]["values"]
    set_ = tmp_path / "input" / told["data"] / "cc3m"
    (set_ / "image").mkdir(parents=True)
    pairs = [{"caption": f"a {colour} wall", "image_name": f"{colour}.png"} for colour in ("red", "blue")]
    for pair, colour in zip(pairs, ("red", "blue"), strict=True):
        Image.new("RGB", (32, 32), colour).save(set_ / "image" / pair["image_name"])
    (set_ / "cc3m.json").write_text(json.dumps(pairs), encoding="utf-8")
    small = {"preset": "tiny", "folder": "full", "steps": 1, "batch": 2, "precision": "float32", "checkpointing": False}
    node = {"type": "nextgpt.train", "values": {**told, **small}}
    engine = await Engine.open(Settings(data_dir=tmp_path))
    try:
        record = await engine.submit({"format": "anyloom", "version": 1, "nodes": {"see": node}})
        ended = await engine.wait(record.id)
        node["values"]["data"] = "data/nowhere"
        record = await engine.submit({"format": "anyloom", "version": 1, "nodes": {"see": node}})
        refused = await engine.wait(record.id)
    finally:
        await engine.close()
    assert ended.status == "succeeded", ended.errors
    done = json.loads((tmp_path / "models" / "training" / "full" / "see" / "done.json").read_text(encoding="utf-8"))
    assert done["plan"]["data"] == str(tmp_path / "input" / told["data"])
    assert refused.status != "succeeded"
    assert "no file and no folder 'data/nowhere'" in str(refused.errors)
