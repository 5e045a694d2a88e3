"""Readers of the original formats: what is right becomes talks, what is wrong is named with its place."""

from __future__ import annotations

import errno
import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from graph_engine.errors import InvalidError, RequestError, StoreError
from nodes.nextgpt.training.data.talks import read_set, read_talks
from nodes.nextgpt.training.loop import train
from nodes.nextgpt.training.media import pictures, waves
from nodes.nextgpt.training.media_file import MediaFile
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import Plan

torch.set_num_threads(1)


@pytest.fixture
def folder(tmp_path):
    """cc3m/image/cat.png and dog.png, audiocap/audio/34706.wav, as the original lays its media out."""
    (tmp_path / "cc3m" / "image").mkdir(parents=True)
    (tmp_path / "audiocap" / "audio").mkdir(parents=True)
    for name, colour in (("cat.png", (255, 0, 0)), ("dog.png", (0, 0, 255))):
        Image.new("RGB", (80, 48), colour).save(tmp_path / "cc3m" / "image" / name)
    soundfile.write(tmp_path / "audiocap" / "audio" / "34706.wav", np.sin(np.arange(8000) / 9).astype("float32"), 8000)
    return tmp_path


def put(path: Path, value) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = value if isinstance(value, (str, bytes)) else json.dumps(value)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_pair_is_described_and_made(folder):
    file = put(folder / "cc3m" / "cc3m.json", [{"caption": "a red cat", "image_name": "cat.png"}])
    describe, make = read_set(file).talks
    assert (describe.kind, make.kind) == ("describe image", "make image")
    assert describe.turns[1].parts == ("a red cat",)
    medium = describe.turns[0].parts[0]
    assert isinstance(medium, MediaFile)
    assert medium.path.name == "cat.png"
    assert make.captions == ("a red cat",)
    assert make.turns[1].parts == ("a red cat", medium)


def test_conversations_of_both_sides(folder):
    records = [
        {
            "input_image": "cat.png",
            "conversations": [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A cat."}],
        },
        {
            "output_image": "dog.png",
            "image_captions": ["a blue dog"],
            "conversations": [{"from": "human", "value": "Draw a dog."}, {"from": "gpt", "value": "Here: <image>"}],
        },
    ]
    see, make = read_set(put(folder / "cc3m" / "x.json", records)).talks
    assert see.kind == "describe image"
    assert see.turns[0].parts[1:] == ("What is it?",)
    assert make.kind == "make image"
    assert make.captions == ("a blue dog",)
    assert make.turns[1].parts[0] == "Here:"


def test_instructions_name_their_media_by_the_embeddings(folder):
    record = {
        "audio_captions": ["a bell"],
        "audio_caption_embeddings": ["34706.wav.npy"],
        "conversations": [
            {"from": "human", "value": "Ring.", "input_modality": "text"},
            {"from": "gpt", "value": "Listen.", "caption": "a bell", "output_modality": "audio"},
        ],
    }
    (talk,) = read_set(put(folder / "audiocap" / "t2x.json", [record])).talks
    assert (talk.kind, talk.captions) == ("make audio", ("a bell",))
    assert talk.turns[1].parts[1].path.name == "34706.wav"


def test_mosit_raw_and_converted(folder):
    raw = {
        "image_list": [{"image_name": "cat.png", "data_source": "x", "caption": "a red cat"}],
        "video_list": [],
        "audio_list": [{"audio_name": "34706.wav", "caption": "a bell"}],
        "conversation": [
            {"from": "human", "value": "A cat, please, and its bell."},
            {"from": "gpt", "value": "<image> and <audio> as you wished."},
            {"from": "human", "value": "Thanks."},
            {"from": "gpt", "value": "You are welcome."},
        ],
    }
    put(folder / "mosit" / "raw.json", [raw])
    for kind, name in (("image", "cat.png"), ("audio", "34706.wav")):
        source = next(folder.glob(f"*/*/{name}"))
        (folder / "mosit" / kind).mkdir()
        (folder / "mosit" / kind / name).write_bytes(source.read_bytes())
    (talk,) = read_set(folder / "mosit").talks
    assert talk.kind == "mixed"
    assert talk.captions == ("a red cat", "a bell")
    assert [part if isinstance(part, str) else part.modality for part in talk.turns[1].parts] == [
        "image",
        "and",
        "audio",
        "as you wished.",
    ]
    assert len(talk.turns) == 4


def test_an_archive_of_samples(folder):
    picture = (folder / "cc3m" / "image" / "cat.png").read_bytes()
    with tarfile.open(folder / "set.tar", "w") as archive:
        for name, data in (
            ("0001.png", picture),
            ("0001.txt", b"a red cat"),
            ("0002.png", picture),
            ("0002.json", json.dumps({"caption": "又一只猫"}).encode()),
            ("0003.png", picture),
            ("../../0004.png", picture),
            ("../../0004.txt", b"from outside"),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    found = read_set(folder / "set.tar")
    assert [talk.captions for talk in found.talks if talk.captions] == [
        ("a red cat",),
        ("又一只猫",),
        ("from outside",),
    ]
    assert [(p.code, p.place.endswith("0003")) for p in found.problems] == [("bad_line", True)]
    unpacked = {
        path for talk in found.talks for turn in talk.turns for path in turn.parts if isinstance(path, MediaFile)
    }
    assert all(medium.path.parent == folder / "set.tar.unpacked" for medium in unpacked)


def archive(path: Path, mode: str = "w", samples: int = 1) -> bytes:
    """Of the same picture again and again, each with a caption. Returns the picture."""
    out = io.BytesIO()
    Image.effect_noise((64, 64), 90).save(out, "PNG")
    with tarfile.open(path, mode) as opened:
        for number in range(samples):
            for name, data in ((f"{number:04d}.png", out.getvalue()), (f"{number:04d}.txt", b"noise")):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                opened.addfile(member, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_an_archive_that_ends_too_soon_is_damaged(tmp_path, mode):
    archive(tmp_path / "set.tar", mode, 4)
    whole = (tmp_path / "set.tar").read_bytes()
    (tmp_path / "set.tar").write_bytes(whole[: len(whole) // 3])
    (problem,) = read_set(tmp_path / "set.tar").problems
    assert problem.code == "unreadable"
    assert "the archive is damaged" in problem.message


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, "disk_full"), (errno.EACCES, "not_writable")])
def test_a_disk_that_takes_no_more_is_not_the_archives_fault(tmp_path, monkeypatch, number, code):
    archive(tmp_path / "set.tar")

    def refuse(path, data):
        path.touch()
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(StoreError) as caught:
        read_set(tmp_path / "set.tar")
    assert caught.value.problem.code == code
    assert str(tmp_path / "set.tar.unpacked") in caught.value.message
    assert not list((tmp_path / "set.tar.unpacked").iterdir()), "half a medium is left"


BAD = [
    ([{"caption": "x", "image_name": "gone.png"}], "missing_medium"),
    ([{"caption": "x", "image_name": "../../etc/passwd"}], "missing_medium"),
    ([{"caption": "  ", "image_name": "cat.png"}], "bad_record"),
    ([{"caption": "x"}], "bad_record"),
    ([["no object"]], "bad_record"),
    ([{"conversations": []}], "bad_record"),
    ([{"conversations": [{"from": "gpt", "value": "I begin."}]}], "bad_record"),
    ([{"conversations": [{"from": "human", "value": "no answer"}]}], "bad_record"),
    ([{"conversations": [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": "?"}]}], "media_mismatch"),
    (
        [{"input_image": "cat.png", "conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": "!"}]}],
        "media_mismatch",
    ),
    (
        [
            {
                "output_image": ["cat.png"],
                "image_captions": ["a", "b"],
                "conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": "<image>"}],
            }
        ],
        "media_mismatch",
    ),
    (
        [{"image_list": 3, "conversation": [{"from": "human", "value": "?"}, {"from": "gpt", "value": "!"}]}],
        "bad_record",
    ),
    ([{"caption": "x", "image_name": "a\x00b.png"}], "missing_medium"),
    ([{"caption": "x", "image_name": "a" * 5000}], "missing_medium"),
    ("[{]", "bad_line"),
    ("[" * 100_000, "bad_line"),
    (b"\xff", "unreadable"),
    ({"a": 1}, "bad_record"),
]


@pytest.mark.parametrize(("content", "code"), BAD)
def test_a_fault_is_named_with_its_place(folder, content, code):
    file = put(folder / "cc3m" / "bad.json", content)
    (problem,) = read_set(file).problems
    assert problem.code == code
    assert problem.place.startswith(str(file))
    with pytest.raises(InvalidError):
        read_talks(file, ["describe image"])


def test_a_broken_line_is_counted_and_the_others_are_read(folder):
    good = json.dumps({"caption": "a red cat", "image_name": "cat.png"})
    file = put(folder / "cc3m" / "lines.jsonl", f"{good}\n{{broken\n\n{good}\n")
    found = read_set(file)
    assert len(found.talks) == 4
    assert [problem.place for problem in found.problems] == [f"{file}:2"]
    assert found.kinds == {"describe image": 2, "make image": 2}


def test_a_line_ends_where_its_record_does(folder):
    """Some letters end a line for Python and none in JSON: they may stand in captions."""
    captions = ["a red\u2028cat", "a red\x85cat", "a red\u2029cat"]
    lines = [json.dumps({"caption": said, "image_name": "cat.png"}, ensure_ascii=False) for said in captions]
    for end in ("\n", "\r\n"):
        found = read_set(put(folder / "cc3m" / "lines.jsonl", end.join([*lines, ""]).encode()))
        assert found.problems == ()
        assert [talk.captions for talk in found.talks if talk.captions] == [(said,) for said in captions]


def test_nothing_to_learn_from_is_said(folder):
    with pytest.raises(RequestError, match="holds no data set"):
        read_set(folder / "nowhere")
    file = put(folder / "cc3m" / "cc3m.json", [{"caption": "a red cat", "image_name": "cat.png"}])
    with pytest.raises(RequestError, match="1 describe image, 1 make image") as caught:
        read_talks(file, ["describe audio"])
    assert caught.value.problem.code == "empty_data"
    with pytest.raises(RequestError, match="it has nothing") as caught:
        read_talks(put(folder / "cc3m" / "none.json", []), ["describe audio"])
    assert caught.value.problem.code == "empty_data"


def test_files_are_brought_to_the_size_that_a_model_wants(folder):
    red = MediaFile("image", folder / "cc3m" / "image" / "cat.png")
    shown = pictures([red], (32, 32), "cpu")
    assert shown.shape == (1, 32, 32, 3)
    assert torch.allclose(shown, torch.tensor([1.0, 0, 0]).expand_as(shown), atol=0.01)
    bell = MediaFile("audio", folder / "audiocap" / "audio" / "34706.wav")
    assert waves([bell], 40_000, "cpu").shape == (1, 40_000)  # one second at 8 kHz, then silence
    assert waves([bell], 40_000, "cpu")[0, 20_000:].abs().max() == 0


def test_a_stage_learns_from_files_and_keeps_what_is_frozen_of_them(folder):
    put(folder / "cc3m" / "cc3m.json", [{"caption": f"a {n}", "image_name": f"{n}.png"} for n in ("cat", "dog")])
    plan = Plan(preset="tiny", stage="encoding_side", data=str(folder / "cc3m"), steps=2, batch=2)
    out = folder / "out"
    report = train(plan, Parts("tiny", out, out), "one")
    assert report.status == "finished"
    assert 1 <= len(list((out / "cache").glob("*.safetensors"))) <= 2
