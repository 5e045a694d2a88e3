"""Encoders and projector files in the real engine: a CLIP tower instead of ImageBind, and media that cannot be read."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file

from graph_engine import Engine, Settings
from nodes.nextgpt.model.input_projector import InputProjector, InputProjectorConfig

pytestmark = pytest.mark.asyncio
MEDIA = Path(__file__).resolve().parents[2] / "workflows" / "media"


def step(type: str, values: dict[str, Any] | None = None, **links: str) -> dict[str, Any]:
    return {"type": type, "values": values or {}, "links": links}


async def run(engine: Engine, nodes: dict[str, Any], targets: list[str]) -> Any:
    run = await engine.submit({"format": "anyloom", "version": 1, "nodes": nodes, "targets": targets})
    return await engine.wait(run.id, 120)


async def conversation_of(engine: Engine, record: Any) -> Any:
    """The turn, also where the record only refers to it."""
    entry = record.result["turn"]["conversation"]
    return await engine.artifact(entry["artifact"], entry["port"]) if "artifact" in entry else entry


def settings(folder: Path) -> Settings:
    (folder / "input").mkdir(parents=True)
    for name in ("lighthouse.png", "waves.mp4"):
        shutil.copy(MEDIA / name, folder / "input" / name)
    return Settings(data_dir=folder, models_dir=folder / "models")


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CLIP tower as transformers saves it."""
    import transformers

    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(1)
    config = transformers.CLIPVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, image_size=56, patch_size=14
    )
    transformers.CLIPVisionModel(config).save_pretrained(folder)
    transformers.CLIPImageProcessorPil(
        size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}
    ).save_pretrained(folder)
    return folder


def save_projector(path: Path, seed: int, in_dim: int = 32) -> None:
    torch.manual_seed(seed)
    save_file(InputProjector(InputProjectorConfig("mlp", in_dim, 64)).state_dict(), path)


def seeing() -> dict[str, Any]:
    return {
        "tower": step("nextgpt.load_vision_tower", {"folder": "clip"}),
        "projector": step("nextgpt.load_input_projector_file", {"file": "mine.safetensors"}),
        "language": step("nextgpt.load_language_model", {"preset": "tiny"}),
        "picture": step("media.load_image", {"file": "lighthouse.png"}),
        "film": step("media.load_video", {"file": "waves.mp4"}),
        "seen": step("nextgpt.encode_image", image="picture.image", encoder="tower.encoder"),
        "watched": step("nextgpt.encode_video", {"clips": "in order"}, video="film.video", encoder="tower.encoder"),
        "seen_tokens": step("nextgpt.project_in", embedding="seen.embedding", projector="projector.input_projector"),
        "watched_tokens": step(
            "nextgpt.project_in", embedding="watched.embedding", projector="projector.input_projector"
        ),
        "turn": step(
            "nextgpt.conversation", {"text": "what is it?"}, a="seen_tokens.tokens", b="watched_tokens.tokens"
        ),
        "said": step(
            "nextgpt.reason",
            {"max_new_tokens": 4, "image": "never", "video": "never", "audio": "never"},
            conversation="turn.conversation",
            model="language.language_model",
        ),
    }


async def test_a_clip_tower_and_a_projector_of_its_width_speak_to_the_language_model(
    tmp_path: Path, tower: Path
) -> None:
    config = settings(tmp_path)
    shutil.copytree(tower, tmp_path / "models" / "clip")
    save_projector(tmp_path / "models" / "mine.safetensors", 1)
    async with await Engine.open(config) as engine:
        record = await run(engine, seeing(), ["turn", "said"])
        assert record.status == "succeeded", record.errors
        turn = await conversation_of(engine, record)
        rows = [len(part["tensor"]) for part in turn[0]["parts"] if part["type"] == "features"]
        assert rows == [16, 5 * 16]
        first = turn[0]["parts"][0]["tensor"]
        save_projector(tmp_path / "models" / "mine.safetensors", 2)
        other = await run(engine, seeing(), ["turn"])
        turn = await conversation_of(engine, other)
        assert not torch.equal(turn[0]["parts"][0]["tensor"], first), "a replaced file is other work"


async def test_widths_that_do_not_fit_fail_at_the_projector(tmp_path: Path, tower: Path) -> None:
    config = settings(tmp_path)
    shutil.copytree(tower, tmp_path / "models" / "clip")
    save_projector(tmp_path / "models" / "mine.safetensors", 1, in_dim=48)
    async with await Engine.open(config) as engine:
        record = await run(engine, seeing(), ["said"])
    assert record.status == "failed"
    error = next(error for error in record.errors if error["code"] == "wrong_width")
    assert error["node"].endswith("_tokens") and error["port"] == "projector"
    assert "32 wide, the input projector takes 48" in error["message"]


async def test_a_bad_file_fails_its_own_branch_only(tmp_path: Path) -> None:
    config = settings(tmp_path)
    soundfile.write(tmp_path / "input" / "nothing.wav", np.zeros(0), 16_000)
    (tmp_path / "input" / "cut.png").write_bytes((MEDIA / "lighthouse.png").read_bytes()[:3000])
    nodes = {
        "encoder": step("nextgpt.load_encoder", {"preset": "tiny"}),
        "sound": step("media.load_audio", {"file": "nothing.wav"}),
        "heard": step("nextgpt.encode_audio", audio="sound.audio", encoder="encoder.encoder"),
        "broken": step("media.load_image", {"file": "cut.png"}),
        "unseen": step("nextgpt.encode_image", image="broken.image", encoder="encoder.encoder"),
        "picture": step("media.load_image", {"file": "lighthouse.png"}),
        "seen": step("nextgpt.encode_image", image="picture.image", encoder="encoder.encoder"),
        "motion": step("nextgpt.encode_imu", {"recording": [[0.5] * 10] * 6}, encoder="encoder.encoder"),
    }
    async with await Engine.open(config) as engine:
        record = await run(engine, nodes, ["heard", "unseen", "seen", "motion"])
    assert record.status == "partial"
    found = {(error["node"], error["code"]) for error in record.errors}
    assert {("sound", "empty_audio"), ("broken", "damaged_file"), ("motion", "bad_medium")} <= found
    assert all(error.get("remedy") for error in record.errors if error["node"] in ("sound", "broken", "motion"))
    assert "seen" in record.result
