"""The builder of instruction sets: what authors write becomes a set that the readers read back, or is left out by name."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from graph_engine.errors import InvalidError, NodeError, RequestError
from nodes.nextgpt.training.data.author import by_templates, by_text, request_for
from nodes.nextgpt.training.data.build_node import (
    build_mosit,
    dialogues_by_template,
    dialogues_from_text,
    wanted_media,
)
from nodes.nextgpt.training.data.dialogue import Dialogue, Turn, Wanted, from_json, to_json
from nodes.nextgpt.training.data.mosit import Found, drawn, write_set
from nodes.nextgpt.training.data.review_node import preview_data
from nodes.nextgpt.training.data.shelf import open_shelf
from nodes.nextgpt.training.data.sift import Rules, most_of_each, sift
from nodes.nextgpt.training.data.talks import read_set
from nodes.nextgpt.training.judges.verdict import judge
from nodes.nextgpt.training.media import as_value
from nodes.nextgpt.training.media_file import MediaFile
from nodes.nextgpt.training.world.talk import KINDS
from nodes.nextgpt.training.world.wish import wish_of
from tests.contexts import FolderContext

torch.set_num_threads(1)
TEXT = """Human: What does the sea look like at dusk?
GPT: Calm. <image: a calm sea at dusk> That is all.
User: And how does it sound?
Assistant: <audio> Waves on stones."""


def told(turns):
    """Turns as they can be compared: words together, media by modality and caption."""
    found = []
    for turn in turns:
        parts = turn.parts
        speaker = {"user": "human", "assistant": "gpt"}.get(getattr(turn, "role", ""), getattr(turn, "speaker", ""))
        shown = [part if isinstance(part, str) else (part.modality, part.caption) for part in parts]
        found.append((speaker, [s if isinstance(s, str) or speaker == "gpt" else s[0] for s in shown]))
    return found


def dialogue(*words, kind="chat", media=()):
    turns = [Turn(("human", "gpt")[i % 2], (text,)) for i, text in enumerate(words)]
    if media:
        turns[-1] = Turn(turns[-1].speaker, (*turns[-1].parts, *media))
    return Dialogue(kind, "en", "test", tuple(turns))


@pytest.mark.parametrize("kind", KINDS)
def test_a_dialogue_survives_json(kind):
    for made in by_templates(3, seed=5, kinds=[kind], rounds=(2, 2)):
        assert from_json(json.loads(json.dumps(to_json(made)))) == made


def test_templates_make_a_set_that_is_read_back(tmp_path):
    made = by_templates(8, seed=3, rounds=(1, 3))
    assert made == by_templates(8, seed=3, rounds=(1, 3))
    assert made != by_templates(8, seed=4, rounds=(1, 3))
    write_set(tmp_path / "mosit.json", made, [[drawn(medium) for _, medium in one.wanted()] for one in made])
    found = read_set(tmp_path / "mosit.json")
    assert not found.problems
    assert len(found.talks) == len(made)
    for talk, one in zip(found.talks, made, strict=True):
        assert told(talk.turns) == told(one.turns)
        assert talk.language == one.language
        assert talk.captions == tuple(medium.caption for turn, medium in one.wanted() if turn.speaker == "gpt")
        # What is in the files is what was meant, by the judges' eyes and ears.
        wanted = [[m for turn, m in one.wanted() if turn.speaker == side] for side in ("human", "gpt")]
        for medium, meant in zip((*talk.given, *talk.made), [*wanted[0], *wanted[1]], strict=True):
            assert medium.modality == meant.modality
            field = {"image": 0, "video": "frames", "audio": "waveform"}[meant.modality]
            assert all(judge(wish_of(meant.drawn, ()), as_value(medium)[field]).values()), meant


def test_a_set_is_raw_mosit(tmp_path):
    made = by_templates(1, kinds=["make image"], languages=["en"], rounds=(1, 1))
    write_set(tmp_path / "set.json", made, [[drawn(medium) for _, medium in made[0].wanted()]])
    (record,) = json.loads((tmp_path / "set.json").read_text())
    assert set(record) == {"image_list", "video_list", "audio_list", "conversation"}
    (entry,) = record["image_list"]
    assert set(entry) == {"image_name", "data_source", "caption"}
    assert (tmp_path / "image" / entry["image_name"]).is_file()
    assert [turn["from"] for turn in record["conversation"]] == ["human", "gpt"]
    assert record["conversation"][1]["value"].endswith("<image>")


def test_a_medium_of_the_human_is_kept(tmp_path):
    (made,) = by_templates(1, kinds=["describe audio"], rounds=(1, 1))
    write_set(tmp_path / "set.json", [made], [[drawn(medium) for _, medium in made.wanted()]])
    (talk,) = read_set(tmp_path / "set.json").talks
    assert [medium.modality for medium in talk.given] == ["audio"]
    assert not talk.made


def test_what_was_interrupted_is_taken_up(tmp_path, monkeypatch):
    """A set whose disk fills up leaves no JSON and no half medium, and what is there is not written again."""
    import shutil

    picture = MediaFile("image", tmp_path / "a.png", "a")
    Image.new("RGB", (8, 8)).save(picture.path)
    made = [dialogue("Draw.", "Here.", media=[Wanted("image", "a")])]
    media = [[Found(picture, "shelf")]]

    def full(source, target):
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        with pytest.raises(NodeError, match="No space left"):
            write_set(tmp_path / "set" / "x.json", made, media)
    assert not [path for path in (tmp_path / "set").rglob("*") if path.is_file()]
    write_set(tmp_path / "set" / "x.json", made, media)
    monkeypatch.setattr(shutil, "copyfile", full)
    write_set(tmp_path / "set" / "y.json", made, media)
    assert len(read_set(tmp_path / "set").talks) == 2


def test_the_text_of_a_language_model_is_taken_apart():
    (found,), problems = by_text([TEXT])
    assert not problems
    assert [turn.speaker for turn in found.turns] == ["human", "gpt", "human", "gpt"]
    assert found.turns[1].parts == ("Calm.", Wanted("image", "a calm sea at dusk"), "That is all.")
    assert found.turns[3].parts == (Wanted("audio", "Waves on stones."), "Waves on stones.")
    assert (found.kind, found.source, found.language) == ("mixed", "language model", "en")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Once upon a time", "no line that begins"),
        ("GPT: Hello", "Human begins"),
        ("Human: a\nHuman: b\nGPT: c", "turn 2 is from human"),
        ("Human: Hello?", "ends with Human"),
        ("Human:\nGPT: c", "turn 1 says nothing"),
        ("Human: Draw.\nGPT: <image>", "neither a caption nor words"),
    ],
)
def test_what_is_no_conversation_is_named(text, why):
    found, (problem,) = by_text([text])
    assert not found
    assert why in problem.message
    assert problem.place == "text 1"


def test_the_request_asks_for_what_is_understood():
    text = request_for("boats", ["image", "audio"], 2, "zh")
    for piece in ("boats", "Chinese", "<image: caption>", "<audio: caption>", "Human:", "GPT:"):
        assert piece in text


def test_what_is_not_worth_learning_is_left_out():
    offered = [
        dialogue("Hello there, who are you?", "I am a small model."),
        dialogue("Hello there, who are you?", "I am a small model!"),
        dialogue("Hello there, who are you?", "I am a very small model."),
        dialogue("word " * 400, "Yes."),
        dialogue("Only a question?"),
        dialogue("What is <image>?", "A mark."),
        dialogue("Quite another thing altogether", "Indeed it is."),
    ]
    kept, rejected = sift(offered, Rules(near=0.6))
    assert kept == [0, 6]
    assert [(entry.number, entry.code) for entry in rejected] == [
        (2, "duplicate"),
        (3, "duplicate"),
        (4, "length"),
        (5, "bad_order"),
        (6, "mark_in_text"),
    ]
    assert sift(offered[:3], Rules(near=1.01))[0] == [0, 2]


def test_no_kind_is_more_than_its_share():
    offered = [dialogue(f"Say number {i} to me", f"{i}", kind="make image" if i < 8 else "chat") for i in range(10)]
    kept, rejected = sift(offered, Rules(near=1.01, largest_share=0.6))
    assert [offered[i].kind for i in kept] == ["make image"] * 3 + ["chat"] * 2
    assert {entry.code for entry in rejected} == {"unbalanced"}
    assert most_of_each({"a": 5}, 0.5) == 5, "one kind cannot be half of itself"


def test_media_come_from_generators_then_shelf_then_the_world(tmp_path):
    context = FolderContext(tmp_path)
    (tmp_path / "input" / "shelf").mkdir(parents=True)
    for name, words in (("boat", "a red sailing boat"), ("tower", "a white lighthouse on a cliff")):
        Image.new("RGB", (16, 16), (200, 0, 0) if name == "boat" else (255, 255, 255)).save(
            tmp_path / "input" / "shelf" / f"{name}.png"
        )
        (tmp_path / "input" / "shelf" / f"{name}.txt").write_text(words)
    texts = [
        "Human: Draw.\nGPT: <image: a lighthouse on a high cliff>",
        "Human: Draw.\nGPT: <image: an elephant in a bath>",
    ]
    parsed = dialogues_from_text(texts)
    assert wanted_media([parsed.dialogues]).images == ["a lighthouse on a high cliff", "an elephant in a bath"]
    templates = dialogues_by_template(4, kinds="make audio", languages="English", most_rounds=1)
    built = build_mosit(context, [parsed.dialogues, templates], shelf="shelf/boat.png", near_duplicate=1.01)
    assert dict(built.statistics["rows"])["images made"] == 1
    assert dict(built.statistics["rows"])["audios made"] == 4
    ((number, code, why, _),) = built.rejected["rows"]
    assert (number, code) == (2, "missing_medium")
    assert "an elephant in a bath" in why
    record = json.loads((tmp_path / "output" / built.file["name"]).read_text())[0]
    assert record["image_list"][0]["data_source"] == "boat.png"
    (medium,) = read_set(tmp_path / "output" / built.file["name"]).talks[0].made
    assert as_value(medium).mean() == 1.0, "the white lighthouse"

    generated = build_mosit(context, [parsed.dialogues], images=[torch.zeros(1, 4, 4, 3), torch.ones(1, 4, 4, 3)])
    sources = [
        r["image_list"][0]["data_source"]
        for r in json.loads((tmp_path / "output" / generated.file["name"]).read_text())
    ]
    assert sources == ["generated", "generated"]
    with pytest.raises(NodeError) as raised:
        build_mosit(context, [parsed.dialogues], images=[torch.zeros(1, 4, 4, 3)])
    assert (raised.value.problem.code, raised.value.problem.port) == ("media_mismatch", "images")
    with pytest.raises(NodeError) as raised:
        build_mosit(context, [parsed.dialogues], least_turns=8)
    assert raised.value.problem.code == "empty_data"
    with pytest.raises(InvalidError):
        build_mosit(context, [[{"turns": [{"from": "dog", "parts": []}]}]])


def test_an_empty_shelf_says_so(tmp_path):
    with pytest.raises(RequestError) as raised:
        open_shelf(tmp_path)
    assert raised.value.problem.code == "no_captions"


def test_the_preview_shows_words_and_media(tmp_path):
    context = FolderContext(tmp_path)
    dialogues = dialogues_by_template(3, kinds="mixed", languages="Chinese", most_rounds=1)
    built = build_mosit(context, [dialogues], near_duplicate=1.01)
    context.folders.roots["input"].mkdir(exist_ok=True)
    file = preview_data(context, built.data, count=2, statistics=built.statistics)
    page = (tmp_path / "output" / file["name"]).read_text(encoding="utf-8")
    talk = read_set(tmp_path / "output" / built.file["name"]).talks[0]
    assert talk.captions[0] in page
    assert page.count("<img ") + page.count("<video ") + page.count("<audio ") >= 4
    assert "images made" in page
    assert "3 conversations" in page


def test_a_stage_learns_from_a_set_that_was_built(tmp_path):
    """All the way: what the builder writes is what stage 3 reads, media of both sides and all."""
    from nodes.nextgpt.training.loop import train
    from nodes.nextgpt.training.parts import Parts
    from nodes.nextgpt.training.plan import Plan

    dialogues = dialogues_by_template(4, seed=2, kinds="cross, mixed", languages="English", most_rounds=1)
    built = build_mosit(FolderContext(tmp_path), [dialogues], near_duplicate=1.01)
    data = str(tmp_path / "output" / built.file["name"])
    plan = Plan(preset="tiny", stage="instruction", data=data, steps=2, batch=2, rank=4)
    report = train(plan, Parts("tiny", tmp_path / "out", tmp_path / "out"), "one")
    assert report.status == "finished"
    assert len(report.losses) == 2
