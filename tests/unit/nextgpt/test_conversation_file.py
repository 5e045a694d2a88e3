"""Conversations in files: what is written comes back, only what is new is written, and what is wrong is said."""

import json
import os
import zipfile
from pathlib import Path

import pytest
import torch

from graph_engine.errors import NodeError
from nodes.nextgpt.conversation import conversation
from nodes.nextgpt.conversation_file import media_of, outline, pack, read, write
from nodes.nextgpt.history import load_conversation, save_conversation
from nodes.nextgpt.medium import digest, recognise
from tests.contexts import FolderContext

MEDIA = Path(__file__).resolve().parents[3] / "workflows" / "media"


def picture(seed=0, height=6, width=5, count=1, channels=3):
    """Of 8 bits a channel, as files have them."""
    whole = torch.randint(0, 256, (count, height, width, channels), generator=torch.Generator().manual_seed(seed))
    return whole.float() / 255


def sound(seed=0, count=1, channels=1, length=1234, rate=16_000):
    waveform = torch.rand(count, channels, length, generator=torch.Generator().manual_seed(seed)) * 3 - 1.5
    return {"waveform": waveform, "sample_rate": rate}


def film(frames=5, fps=8.0, audio=None):
    return {"frames": picture(3, 7, 9, frames), "fps": fps, "audio": audio}


def talk():
    """One of everything: a first turn with a film, an answer with media, a second turn with two pictures, no words."""
    return [
        {"role": "user", "parts": [{"type": "video", "video": film()}, {"type": "text", "text": "Was ist das? 画"}]},
        {
            "role": "assistant",
            "parts": [
                {"type": "text", "text": " look "},
                {"type": "signal", "modality": "image", "order": 0},
                {"type": "image", "image": picture(1), "order": 0},
                {"type": "signal", "modality": "audio", "order": 1},
                {"type": "audio", "audio": sound(1), "order": 1},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"type": "image", "image": picture(2, 4, 4)},
                {"type": "image", "image": picture(1)},
                {"type": "features", "modality": "depth", "tensor": torch.arange(6.0).reshape(2, 3)},
            ],
        },
    ]


def same(left, right):
    if isinstance(left, torch.Tensor):
        return isinstance(right, torch.Tensor) and torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[name], right[name]) for name in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


@pytest.fixture
def context(tmp_path):
    return FolderContext(tmp_path)


def test_what_was_written_is_read_bit_by_bit(tmp_path):
    path = tmp_path / "trip_00001.json"
    assert write(talk(), path) == 5, "the picture that stands twice is written once"
    assert same(read(path, tmp_path), talk())
    text = path.read_text(encoding="utf-8")
    assert "Was ist das? 画" in text
    assert all(name.startswith("trip_media/") for name in media_of(json.loads(text)))
    assert sorted({Path(name).suffix for name in media_of(json.loads(text))}) == [
        ".mkv",
        ".png",
        ".safetensors",
        ".wav",
    ]


def test_one_more_turn_writes_only_its_own_media(tmp_path):
    write(talk(), tmp_path / "trip_00001.json")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "trip_media").iterdir()}
    longer = [
        *read(tmp_path / "trip_00001.json", tmp_path),
        {"role": "assistant", "parts": [{"type": "text", "text": "x"}]},
    ]
    assert write(longer, tmp_path / "trip_00002.json") == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "trip_media").iterdir()} == before
    longer[-1]["parts"].append({"type": "audio", "audio": sound(9), "order": 0})
    assert write(longer, tmp_path / "trip_00003.json") == 1
    assert same(read(tmp_path / "trip_00003.json", tmp_path), longer)
    assert len(read(tmp_path / "trip_00001.json", tmp_path)) == 3, "the earlier file stays as it was"


def test_the_folder_can_be_moved_and_packed(tmp_path):
    (tmp_path / "here").mkdir()
    write(talk(), tmp_path / "here" / "trip.json")
    (tmp_path / "here").rename(tmp_path / "there")
    pack(tmp_path / "there" / "trip.json", tmp_path / "trip.zip")
    (tmp_path / "scratch").mkdir()
    assert same(read(tmp_path / "there" / "trip.json", tmp_path), talk())
    assert same(read(tmp_path / "trip.zip", tmp_path / "scratch"), talk())
    with zipfile.ZipFile(tmp_path / "trip.zip") as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path / "unpacked")
    assert same(read(tmp_path / "unpacked" / "conversation.json", tmp_path), talk())
    assert outline(tmp_path / "trip.zip")["turns"][0]["parts"][1]["text"] == "Was ist das? 画"


def test_a_zipped_folder_is_found_inside(tmp_path):
    write(talk(), tmp_path / "trip.json")
    with zipfile.ZipFile(tmp_path / "by_hand.zip", "w") as archive:
        for path in [tmp_path / "trip.json", *(tmp_path / "trip_media").iterdir()]:
            archive.write(path, f"a folder/{path.relative_to(tmp_path)}")
    assert same(read(tmp_path / "by_hand.zip", tmp_path), talk())


@pytest.mark.parametrize("fps", [8.0, 12.5, 24.0, 30000 / 1001, 60.0])
def test_a_film_keeps_its_frames_rate_and_sound(tmp_path, fps):
    given = [{"role": "user", "parts": [{"type": "video", "video": film(25, fps, sound(2, channels=2, length=9000))}]}]
    write(given, tmp_path / "a.json")
    assert same(read(tmp_path / "a.json", tmp_path), given)


def test_a_batch_becomes_parts_and_deep_pictures_are_rounded_once(tmp_path):
    deep = torch.rand(2, 4, 4, 3, generator=torch.Generator().manual_seed(5))
    user = {"role": "user", "parts": [{"type": "image", "image": deep}, {"type": "audio", "audio": sound(count=2)}]}
    write([user], tmp_path / "a.json")
    first = read(tmp_path / "a.json", tmp_path)
    assert [part["type"] for part in first[0]["parts"]] == ["image", "image", "audio", "audio"]
    assert 0 < (first[0]["parts"][1]["image"][0] - deep[1]).abs().max() <= 0.5 / 255 + 1e-6
    assert torch.equal(first[0]["parts"][3]["audio"]["waveform"][0], sound(count=2)["waveform"][1])
    assert write(first, tmp_path / "a_2.json") == 0, "rounded twice is rounded once"


def test_equal_media_have_one_digest_and_others_another():
    assert digest(picture(1)) == digest(picture(1)) != digest(picture(2))
    assert digest(film()) != digest(film(fps=9.0))
    assert digest(film()) != digest(film(audio=sound()))
    assert digest(sound()) != digest(sound(rate=8_000))


def test_the_nodes_write_numbered_files_and_read_them(context):
    first, second = (save_conversation(context, talk(), "chats/trip") for _ in range(2))
    assert (first["folder"], first["name"], first["turns"], first["media"]) == ("output", "chats/trip_00001.json", 3, 6)
    assert second["name"] == "chats/trip_00002.json"
    assert same(load_conversation(context, f"output/{first['name']}"), talk())
    packed = save_conversation(context, talk(), "trip", "archive")
    assert (packed["name"], packed["media_type"]) == ("trip_00001.zip", "application/zip")
    assert same(load_conversation(context, f"output/{packed['name']}"), talk())
    assert load_conversation(context) == []


def test_a_conversation_that_cannot_be_written_leaves_no_file(context):
    broken = [*talk(), {"role": "assistant", "parts": [{"type": "text", "text": "x", "when": object()}]}]
    with pytest.raises(NodeError):
        save_conversation(context, broken)
    assert not list((context.root / "output").glob("*.json"))


def hand_made(tmp_path, turns, **more):
    path = tmp_path / "hand.json"
    path.write_text(json.dumps({"format": "anyloom-conversation", "version": 1, "turns": turns, **more}))
    return path


def user(*parts):
    return {"role": "user", "parts": list(parts)}


HI = {"type": "text", "text": "hi"}


def test_a_file_made_by_hand_may_name_any_media(tmp_path):
    for name in ("lighthouse.png", "bell.wav", "waves.mp4"):
        (tmp_path / name).write_bytes((MEDIA / name).read_bytes())
    parts = [{"type": "image", "file": "lighthouse.png"}, {"type": "audio", "file": "bell.wav"}]
    parts += [{"type": "video", "file": "waves.mp4"}]
    (turn,) = read(hand_made(tmp_path, [user(*parts)]), tmp_path)
    assert turn["parts"][0]["image"].ndim == 4
    assert turn["parts"][1]["audio"]["sample_rate"] > 0
    assert turn["parts"][2]["video"]["fps"] > 0


@pytest.mark.parametrize(
    ("turns", "code", "says"),
    [
        ([{"role": "assistant", "parts": [HI]}], "wrong_role", "turn 1 must be the user's"),
        ([user(HI), user(HI)], "wrong_role", "turn 2 must be the assistant's"),
        ([{"role": "system", "parts": [HI]}], "wrong_role", "'system'"),
        ([user()], "empty_turn", "turn 1 is empty"),
        (["hi"], "bad_turn", "turn 1 is no turn"),
        ([user(HI, "hi")], "bad_part", "turn 1, part 2"),
        ([user(HI, {"type": "smell", "file": "rose.png"})], "bad_part", "turn 1, part 2: unknown type 'smell'"),
        ([user({"type": "text", "text": 5})], "bad_part", "turn 1, part 1"),
        ([user({"type": "signal", "modality": "depth"})], "bad_part", "'depth' is no modality of a signal"),
        ([user({"type": "image"})], "bad_part", "turn 1, part 1: a part of type image must name its file"),
        ([user({"type": "video", "file": "a.mkv", "fps": -1})], "bad_part", "fps"),
        ([user(HI), {"role": "assistant", "parts": [HI, {"type": "image", "file": "a.png"}]}], "missing_medium",
         "turn 2, part 2: the file 'a.png' is missing"),
        ([user({"type": "image", "file": "../secret.png"})], "path_outside", "turn 1, part 1: '../secret.png'"),
        ([user({"type": "image", "file": "/etc/passwd"})], "path_outside", "turn 1, part 1"),
        ([user({"type": "image", "file": "..\\secret.png"})], "path_outside", "turn 1, part 1"),
        ([user({"type": "image", "file": "link.png"})], "path_outside", "leads outside"),
        ([user({"type": "image", "file": "noise.png"})], "unknown_format", "turn 1, part 1: noise.png"),
        ([user({"type": "features", "modality": "image", "file": "noise.png"})], "damaged_file", "turn 1, part 1"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_turn_and_part(tmp_path, turns, code, says):
    (tmp_path / "folder").mkdir()
    (tmp_path / "secret.png").write_bytes((MEDIA / "lighthouse.png").read_bytes())
    os.symlink(tmp_path / "secret.png", tmp_path / "folder" / "link.png")
    (tmp_path / "folder" / "noise.png").write_bytes(b"no picture at all")
    with pytest.raises(NodeError) as caught:
        read(hand_made(tmp_path / "folder", turns), tmp_path)
    assert caught.value.problem.code == code
    assert says in caught.value.message
    assert caught.value.problem.remedy


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not valid JSON"),
        (b"{\n  oops}", "line 2 column 3"),
        (b"[1]", 'no "format"'),
        (b'{"format": "anyloom-conversation", "version": 2, "turns": []}', "version is 2"),
        (b'{"format": "anyloom-conversation", "version": 1}', "no list of turns"),
        (b"PK\x05\x06" + bytes(18), "no conversation.json"),
        ((MEDIA / "lighthouse.png").read_bytes(), "no conversation that can be read"),
    ],
)
def test_what_is_no_conversation_is_refused(context, data, says):
    (context.root / "input" / "chat.json").write_bytes(data)
    with pytest.raises(NodeError, match=r"chat\.json") as caught:
        load_conversation(context, "chat.json")
    assert caught.value.problem.code == "bad_conversation"
    assert says in caught.value.message


def test_a_damaged_archive_is_refused(tmp_path):
    write(talk(), tmp_path / "trip.json")
    pack(tmp_path / "trip.json", tmp_path / "trip.zip")
    data = bytearray((tmp_path / "trip.zip").read_bytes())
    at = data.index(b"IDAT") + 20
    data[at : at + 4] = b"\0\0\0\0"
    (tmp_path / "trip.zip").write_bytes(data)
    with pytest.raises(NodeError, match=r"trip\.zip") as caught:
        read(tmp_path / "trip.zip", tmp_path)
    assert caught.value.problem.code == "bad_conversation"


def test_the_conversation_node_takes_media_as_they_are(tmp_path):
    turns = conversation("look", image=picture(count=2), later=sound(), film=film())
    assert [part["type"] for part in turns[0]["parts"]] == ["video", "image", "image", "audio", "text"]
    write(turns, tmp_path / "a.json")
    assert same(read(tmp_path / "a.json", tmp_path), turns)
    with pytest.raises(NodeError) as caught:
        conversation("look", image="a path")
    assert (caught.value.problem.code, caught.value.problem.port) == ("bad_part", "image")


def test_files_are_recognised_by_their_content(tmp_path):
    for name, modality in [("lighthouse.png", "image"), ("bell.wav", "audio"), ("waves.mp4", "video")]:
        (tmp_path / "file.bin").write_bytes((MEDIA / name).read_bytes())
        assert recognise(tmp_path / "file.bin").modality == modality
    (tmp_path / "file.bin").write_bytes(b"neither")
    with pytest.raises(NodeError) as caught:
        recognise(tmp_path / "file.bin")
    assert caught.value.problem.code == "unknown_format"
