"""Every saved file carries its workflow, in every format, and gives it back as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from PIL import Image as pil
from PIL.PngImagePlugin import PngInfo

from nodes.media import load_audio, load_image, load_video, save_audio, save_image, save_video
from nodes.media.workflow_metadata import read_workflow
from tests.contexts import FolderContext

torch.set_num_threads(1)

SMALL: dict[str, Any] = {"version": 1, "nodes": {"a": {"type": "control.text", "inputs": {"value": "hi"}}}}
CHINESE: dict[str, Any] = {"version": 1, "title": "灯塔与大海 🌊", "nodes": {'引"号\\': ["\n\t\0", None, 1.5, True]}}
LARGE: dict[str, Any] = {
    "version": 1,
    "nodes": {
        f"node{number}": {"type": "control.text", "inputs": {"value": f"第{number}个 " * 8}} for number in range(900)
    },
}
DOCUMENTS = {"small": SMALL, "chinese": CHINESE, "large": LARGE}

IMAGE = torch.rand(1, 16, 16, 3, generator=torch.Generator().manual_seed(0))
AUDIO = {"waveform": torch.zeros(1, 1, 1601), "sample_rate": 16_000}
VIDEO = {"frames": IMAGE.expand(4, -1, -1, -1), "fps": 8.0, "audio": AUDIO}

FORMATS = {
    **dict.fromkeys(("png", "jpeg", "webp"), (save_image, IMAGE, load_image)),
    **dict.fromkeys(("wav", "flac", "mp3"), (save_audio, AUDIO, load_audio)),
    **dict.fromkeys(("mp4", "webm", "gif"), (save_video, VIDEO, load_video)),
}


def written(context: FolderContext, format: str, embed_workflow: bool = True) -> str:
    save, value, _ = FORMATS[format]
    answer: Any = save(context, value, format=format, embed_workflow=embed_workflow)
    file = answer[0] if isinstance(answer, list) else answer
    return str(file["name"])


@pytest.mark.parametrize("which", DOCUMENTS)
@pytest.mark.parametrize("format", FORMATS)
def test_the_workflow_comes_back(tmp_path: Path, format: str, which: str) -> None:
    document = DOCUMENTS[which]
    assert which != "large" or len(json.dumps(document)) > 100_000
    context = FolderContext(tmp_path, document)
    name = written(context, format)
    assert read_workflow(tmp_path / "output" / name) == document
    assert FORMATS[format][2](context, f"output/{name}") is not None  # and the medium is none the worse


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_is_embedded_when_that_is_unwanted(tmp_path: Path, format: str) -> None:
    context = FolderContext(tmp_path, CHINESE)
    path = tmp_path / "output" / written(context, format, embed_workflow=False)
    assert read_workflow(path) is None
    assert b"anyloom" not in path.read_bytes()
    assert b"version" not in path.read_bytes()
    assert read_workflow(tmp_path / "output" / written(FolderContext(tmp_path), format)) is None


def test_the_sound_of_a_wav_with_a_workflow_is_whole(tmp_path: Path) -> None:
    context = FolderContext(tmp_path, LARGE)
    path = tmp_path / "output" / written(context, "wav")
    assert soundfile.info(path).frames == 1601
    assert int.from_bytes(path.read_bytes()[4:8], "little") == path.stat().st_size - 8


def test_a_png_of_comfyui_is_recognised(tmp_path: Path) -> None:
    info, workflow, prompt = PngInfo(), {"nodes": [], "links": []}, {"3": {"class_type": "KSampler", "inputs": {}}}
    info.add_text("prompt", json.dumps(prompt))
    info.add_text("workflow", json.dumps(workflow))
    pil.new("RGB", (4, 4)).save(tmp_path / "c.png", pnginfo=info)
    assert read_workflow(tmp_path / "c.png") == {"dialect": "comfyui", "workflow": workflow, "prompt": prompt}


@pytest.mark.parametrize("how", ["iTXt", "zTXt", "utf-8 in tEXt"])
def test_other_text_chunks_are_read(tmp_path: Path, how: str) -> None:
    info, text = PngInfo(), json.dumps({"4": {"text": "灯塔"}}, ensure_ascii=how == "zTXt")
    if how == "iTXt":
        info.add_itxt("prompt", text, zip=True)
    elif how == "zTXt":
        info.add_text("prompt", text, zip=True)
    else:
        info.add(b"tEXt", b"prompt\0" + text.encode())
    pil.new("RGB", (4, 4)).save(tmp_path / "c.png", pnginfo=info)
    assert read_workflow(tmp_path / "c.png") == {"dialect": "comfyui", "prompt": {"4": {"text": "灯塔"}}}


def test_a_webp_of_comfyui_is_recognised(tmp_path: Path) -> None:
    exif = pil.Exif()
    exif[0x010F], exif[0x0110] = 'workflow:{"nodes": []}', 'prompt:{"1": {}}'
    pil.new("RGB", (4, 4)).save(tmp_path / "c.webp", exif=exif)
    assert read_workflow(tmp_path / "c.webp") == {"dialect": "comfyui", "workflow": {"nodes": []}, "prompt": {"1": {}}}


@pytest.mark.parametrize("format", FORMATS)
def test_damaged_files_give_nothing_or_the_workflow_but_never_an_error(tmp_path: Path, format: str) -> None:
    data = (tmp_path / "output" / written(FolderContext(tmp_path, SMALL), format)).read_bytes()
    path = tmp_path / f"cut.{format}"
    for size in [*range(0, min(len(data), 400), 7), len(data) // 2, len(data) - 3]:
        path.write_bytes(data[:size])
        assert read_workflow(path) in (None, SMALL)
    for place in range(0, min(len(data), 3000), 61):
        path.write_bytes(data[:place] + b"\xff\x00\xfe" + data[place + 3 :])
        assert read_workflow(path) is None or isinstance(read_workflow(path), dict)


@pytest.mark.parametrize("text", ["", "[1]", "{", "null", "{" * 100_000, '{"a": NaN'])
def test_texts_that_are_no_workflow(tmp_path: Path, text: str) -> None:
    info = PngInfo()
    info.add_text("anyloom", text)
    pil.new("RGB", (4, 4)).save(tmp_path / "n.png", pnginfo=info)
    assert read_workflow(tmp_path / "n.png") is None


def test_absent_and_foreign_files_carry_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    assert read_workflow(tmp_path / "a.txt") is None
    assert read_workflow(tmp_path / "absent") is None
