"""`anyloom models` and `anyloom convert`, as a person types them."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from nodes.nextgpt import preset as presets
from tests import vendor
from web.cli import main

torch.set_num_threads(1)
TIVA = "nextgpt-7b-tiva-v0"
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty models folder, no caches, and the published preset in tiny sizes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(presets.PRESETS, TIVA, vendor.small_preset())  # type: ignore[misc]
    return tmp_path / "models"


def facts(models: Path, capsys: Captured, *more: str) -> tuple[int, dict[str, Any]]:
    code = main(["models", TIVA, "--models-dir", str(models), "--json", *more])
    (preset,) = json.loads(capsys.readouterr().out)["presets"]
    return code, {part["part"]: part for part in preset["parts"]}


def test_nothing_is_there_and_it_says_what_to_do(models: Path, capsys: Captured) -> None:
    assert main(["models", TIVA, "--models-dir", str(models)]) == 1
    out = capsys.readouterr().out
    assert f"{TIVA}: 0 of 11 parts are there" in out
    assert re.search(r"encoder +MISSING +about 4.8 GB +CC BY-NC-SA 4.0", out)
    assert f"looked for {models}/imagebind_huge/imagebind_huge.safetensors" in out
    assert "https://dl.fbaipublicfiles.com/imagebind/imagebind_huge.pth" in out
    assert "stable-diffusion-v1-5/stable-diffusion-v1-5" in out and "ChocoWu/nextgpt_7b_tiva_v0" in out
    assert not models.exists(), "looking makes nothing"


def test_all_presets_are_listed_and_tiny_needs_nothing(models: Path, capsys: Captured) -> None:
    assert main(["models", "--models-dir", str(models)]) == 0
    out = capsys.readouterr().out
    assert all(f"\n{name}: " in out for name in presets.PRESETS)
    assert main(["models", "tiny", "--models-dir", str(models)]) == 0
    assert "complete; random weights, made on first use" in capsys.readouterr().out
    assert main(["models", "huge"]) == 1
    assert "there is no preset 'huge'" in capsys.readouterr().err


def test_a_complete_preset_checks_and_hashes(models: Path, capsys: Captured) -> None:
    vendor.everything(models)
    for folder in ("imagebind_huge", TIVA):
        (models / folder / "tokenizer.json").write_text("{}")
    code, parts = facts(models, capsys, "--hash", "--check")
    assert code == 0 and all(part["present"] and not part["wants"] for part in parts.values())
    for part in parts.values():
        for file in part["files"]:
            assert file["sha256"] == hashlib.sha256(Path(file["path"]).read_bytes()).hexdigest()
            assert file["bytes"] == Path(file["path"]).stat().st_size
    decoder = parts["audio_decoder"]
    assert [file["prefix"] for file in decoder["files"]] == ["unet.", "vae.", "vocoder."]
    expected = vendor.module("nextgpt.audio_decoder", vendor.config_of("audio_decoder"))
    assert decoder["fit"]["parameters"] == sum(p.numel() for p in expected.parameters())
    assert decoder["fit"]["keys"] == len(expected.state_dict())
    assert main(["models", TIVA, "--models-dir", str(models), "--check"]) == 0
    assert "fits: " in capsys.readouterr().out


def test_a_damaged_and_a_wrong_file_make_it_incomplete(models: Path, capsys: Captured) -> None:
    vendor.everything(models)
    path = models / "imagebind_huge/imagebind_huge.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    unet = models / "zeroscope_v2_576w/unet/diffusion_pytorch_model.safetensors"
    unet.write_bytes((models / "stable-diffusion-v1-5/unet/diffusion_pytorch_model.safetensors").read_bytes())
    code, parts = facts(models, capsys, "--check")
    assert code == 1
    assert not parts["encoder"]["present"] and "cut off" in parts["encoder"]["files"][0]["error"]
    assert "looks like an image denoiser (UNet) for conditions of width 768" in parts["video_decoder"]["error"]


def test_what_it_says_to_convert_can_be_pasted_and_then_all_is_there(models: Path, capsys: Captured) -> None:
    """From the files that people download to a preset that loads, by the commands that are printed."""
    torch_save(
        models / "imagebind_huge/imagebind_huge.pth", vendor.state("nextgpt.encoder", vendor.config_of("encoder"))
    )
    torch_save(models / TIVA / "pytorch_model.pt", vendor.legacy_delta())
    base, folder, name = vendor.base_language(), models / "vicuna-7b-v0", "pytorch_model-00001-of-00001.bin"
    torch_save(folder / name, base)
    index = {"metadata": {}, "weight_map": dict.fromkeys(base, name)}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    cache = models / "models--cerspense--zeroscope_v2_576w/snapshots/abc"
    for root, modality in (
        (models / "stable-diffusion-v1-5", "image"),
        (cache, "video"),
        (models / "audioldm-l-full", "audio"),
    ):
        vendor.decoder(root, vendor.state(f"nextgpt.{modality}_decoder", vendor.config_of(f"{modality}_decoder"), 5))
    published = cache / "vae/diffusion_pytorch_model.safetensors"
    torch_save(published.with_suffix(".bin"), load_file(published))
    published.unlink()
    for place in ("imagebind_huge", TIVA):
        (models / place / "tokenizer.json").write_text("{}")
    code, parts = facts(models, capsys)
    assert code == 1
    commands = {want["do"] for part in parts.values() for want in part["wants"]}
    assert len(commands) == 4 and all(commands)
    for command in sorted(commands):
        words = shlex.split(command)
        assert words[0] == "anyloom"
        assert main([*words[1:], "--models-dir", str(models)]) == 0, capsys.readouterr().err
    capsys.readouterr()
    code, parts = facts(models, capsys, "--check")
    assert code == 0, parts
    assert not published.exists(), "a cache of another program is not written to"


def torch_save(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)


def test_the_whole_command_in_a_process_of_its_own(tmp_path: Path) -> None:
    source = tmp_path / "pytorch_model.bin"
    torch.save({"state_dict": {"weight": torch.ones(3), "step": 4}}, source)
    words = [sys.executable, "-m", "web.cli", "convert", str(source), "--models-dir", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "the weights lay under 'state_dict'",
        "left out  step  (int)",
        f"written   {tmp_path}/model.safetensors  1 tensors, {(tmp_path / 'model.safetensors').stat().st_size} B",
    ]
    again = subprocess.run(words, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "is there already. Add --force" in again.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ghost.pt"], "there is no file ghost.pt"),
        (["a.pt", "--part", "encoder"], "Add --preset"),
        (["a.pt", "--preset", "tiny"], "makes its own weights"),
        (["a.pt", "--preset", TIVA, "--part", "nose"], "has no part 'nose'"),
        (["pytorch_model.pt", "one.safetensors", "--preset", TIVA], "taken apart into 5 files"),
        (["a.bin.index.json"], "is no index of weight files"),
    ],
)
def test_wrong_use_of_convert(models: Path, capsys: Captured, words: list[str], said: str) -> None:
    assert main(["convert", *words, "--models-dir", str(models)]) == 1
    assert said in capsys.readouterr().err
