"""Duplicates and balance of a data set: copies are found however they were encoded, likenesses are left alone."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from nodes.data.kinds import TABLE
from nodes.nextgpt.training.data.balance import counts_of, evenness, evenness_table, table_of
from nodes.nextgpt.training.data.duplicates import duplicate_media, duplicate_texts, same, texts_of
from nodes.nextgpt.training.data.fingerprint import fingerprint, likeness, shingles
from nodes.nextgpt.training.data.review_node import balance, find_duplicates
from nodes.nextgpt.training.data.talks import read_set
from nodes.nextgpt.training.media import as_value
from nodes.nextgpt.training.media_file import MediaFile
from nodes.nextgpt.training.world.clip import Clip
from nodes.nextgpt.training.world.scene import Scene, Thing
from nodes.nextgpt.training.world.sound import Sound
from nodes.nextgpt.training.world.terms import COLOURS, NOTES, SHAPES, TIMBRES
from tests.contexts import FolderContext

torch.set_num_threads(1)


def scene(shape="star", colour="red", size="large", place="left"):
    return Scene((Thing(shape, colour, size, place),), "white")


def near(one, other, modality="image"):
    return same(modality, fingerprint(one), fingerprint(other))


def test_texts_are_found_whatever_their_signs():
    texts = {
        "a": "Draw a red star, please!",
        "b": "draw a red star  please",
        "c": "Draw a red star, pleased",
        "d": "Hello",
    }
    groups = duplicate_texts(texts, 0.8)
    assert [(group.how, group.places) for group in groups] == [("exact", ("a", "b")), ("near", ("a", "c"))]
    assert not duplicate_texts({"a": "", "b": "x"})


def test_near_texts_of_many_are_those_that_comparing_all_finds():
    draw = random.Random(1)
    words = [f"w{draw.randrange(40)}" for _ in range(400)]
    texts = {f"t{i}": " ".join(draw.sample(words, 12)) for i in range(80)}
    for i in range(0, 80, 8):
        texts[f"copy{i}"] = texts[f"t{i}"] + " end"
    found = {frozenset(group.places) for group in duplicate_texts(texts, 0.8)}
    sets = {name: shingles(text) for name, text in texts.items()}
    pairs = {
        frozenset((a, b)) for a in sets for b in sets if a < b and likeness(sets[a], sets[b]) >= 0.8
    }  # fmt: skip
    assert found == pairs
    assert len(found) == 10


@pytest.mark.parametrize(
    "pair", [(scene(shape=a), scene(shape=b)) for a, b in zip(SHAPES, [*SHAPES][1:], strict=False)]
)
def test_shapes_are_no_duplicates(pair):
    assert not near(*(as_value(one) for one in pair))


def test_colours_places_sounds_and_motions_are_no_duplicates():
    for a, b in zip(COLOURS, [*COLOURS][1:], strict=False):
        assert not near(as_value(scene(colour=a)), as_value(scene(colour=b))), (a, b)
    assert not near(as_value(scene(place="left")), as_value(scene(place="right")))
    for a, b in zip(NOTES, [*NOTES][1:], strict=False):
        sounds = [as_value(Sound(note, "low", "flute", "once", "steady", "loud")) for note in (a, b)]
        assert not near(*sounds, "audio"), (a, b)
    for a, b in zip(TIMBRES, [*TIMBRES][1:], strict=False):
        assert not near(
            *(as_value(Sound("C", "low", timbre, "once", "steady", "loud")) for timbre in (a, b)), "audio"
        ), (a, b)
    assert not near(*(as_value(Clip("star", "red", motion, "white")) for motion in ("left", "right")), "video")


def test_copies_are_found_however_they_were_encoded(tmp_path):
    picture = Image.fromarray((as_value(scene())[0].numpy() * 255).astype("uint8"))
    picture.save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    picture.save(tmp_path / "c.jpg", quality=90)
    picture.resize((128, 128), Image.Resampling.BICUBIC).save(tmp_path / "d.png")
    Image.fromarray((as_value(scene(colour="blue"))[0].numpy() * 255).astype("uint8")).save(tmp_path / "other.png")
    wave = as_value(Sound("E", "high", "bell", "twice", "steady", "loud"))["waveform"][0, 0].numpy()
    soundfile.write(tmp_path / "a.wav", wave, 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "half.wav", wave / 2, 16_000, subtype="PCM_16")
    soundfile.write(tmp_path / "noise.wav", np.random.default_rng(0).normal(0, 0.1, 32_000), 16_000)
    (tmp_path / "broken.png").write_bytes(b"nothing")
    media = [MediaFile("image", path, path.name) for path in sorted(tmp_path.glob("*.[pj]*g"))]
    media += [MediaFile("audio", path, path.name) for path in sorted(tmp_path.glob("*.wav"))]
    groups, broken = duplicate_media(media)
    assert [path.rpartition("/")[2] for path in broken] == ["broken.png"]
    shown = [(group.what, group.how, [place.rpartition("/")[2] for place in group.places]) for group in groups]
    assert shown == [
        ("image", "exact", ["a.png", "b.png"]),
        ("image", "near", ["a.png", "c.jpg", "d.png"]),
        ("audio", "near", ["a.wav", "half.wav"]),
    ]


@pytest.fixture
def pairs(tmp_path):
    folder = tmp_path / "input" / "set"
    folder.mkdir(parents=True)
    captions = ["a red star", "a red star", "a blue circle on the left", "a low flute note C"]
    for number, (shape, colour) in enumerate((("star", "red"), ("star", "red"), ("circle", "blue"))):
        picture = as_value(scene(shape, colour))[0].numpy() * 255
        Image.fromarray(picture.astype("uint8")).save(folder / f"{number}.png")
    soundfile.write(folder / "3.wav", np.sin(np.arange(16_000) / 6), 16_000)
    records = [
        {"caption": caption, **({"image_name": f"{n}.png"} if n < 3 else {"audio_name": "3.wav"})}
        for n, caption in enumerate(captions)
    ]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, [*records, records[0]])) + "\n{broken\n")
    return FolderContext(tmp_path)


def test_a_report_of_duplicates(pairs):
    found = find_duplicates(pairs, "set/pairs.jsonl")
    table = TABLE.check(found.duplicates)
    assert table["columns"] == ["group", "what", "how", "place", "reads"]
    texts = [row for row in table["rows"] if row[1] == "text"]
    # The first record is there twice: its two talks each have a copy. Equal captions of two files are no copies.
    assert sorted(row[3] for row in texts) == ["talk 1", "talk 10", "talk 2", "talk 9"]
    assert [row[3].rpartition("/")[2] for row in table["rows"] if row[1] == "image"] == ["0.png", "1.png"]
    assert "image, exact: 1 could go, of 1 groups." in found.summary
    assert "10 conversations, 4 media files" in found.summary


def test_a_report_of_balance(pairs):
    made = balance(pairs, "set/pairs.jsonl")
    rows = {(row[0], row[1]): (row[2], row[3]) for row in TABLE.check(made.table)["rows"]}
    assert rows["colour", "red"] == (6, 0.75)
    assert rows["colour", "blue"] == (2, 0.25)
    assert rows["note", "C"] == (2, 1.0)
    assert rows["kind", "make image"] == (4, 0.4)
    assert rows["made", "audio"][0] == 1
    evens = {row[0]: row for row in TABLE.check(made.evenness)["rows"]}
    assert evens["colour"][1:4] == [2, 8, "red"]
    assert evens["colour"][4] == pytest.approx(0.811, abs=1e-3)
    only = balance(pairs, "set/pairs.jsonl", "colour, kind").table
    assert {row[0] for row in only["rows"]} == {"colour", "kind"}


def test_evenness():
    assert evenness({"a": 5, "b": 5}) == pytest.approx(1)
    assert evenness({"a": 99, "b": 1}) < 0.1
    assert evenness({"a": 3}) == 1


def test_an_empty_set_has_nothing_twice():
    assert texts_of([]) == ({}, {})
    assert duplicate_media([]) == ([], {})
    assert table_of(counts_of([]))["rows"] == evenness_table(counts_of([]))["rows"] == []


def test_the_balance_of_what_was_read(pairs):
    found = read_set(pairs.input_path("set/pairs.jsonl"))
    assert [problem.code for problem in found.problems] == ["bad_line"]
    assert sum(counts_of(found.talks)["kind"].values()) == len(found.talks) == 10
