"""RecA on a model that says what it sees before it draws it: in its own words, and nobody else's."""

import random
from collections import Counter

import pytest
import torch

from nodes.nextgpt.training.judges.words import read
from nodes.nextgpt.training.own_words import MOST, briefly, own_words, until
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import Plan
from nodes.nextgpt.training.stages import open_stage
from nodes.nextgpt.training.stages.encoding_side import features_of
from nodes.nextgpt.training.stages.reconstruction import Reconstruction
from nodes.nextgpt.training.world.caption import caption
from nodes.nextgpt.training.world.scene import Scene
from nodes.nextgpt.training.world.talk import Talk, Talker

torch.set_num_threads(1)


def test_of_a_batch_the_model_says_what_it_says_of_one(tmp_path):
    """Shipped mini, so that there are words: each description is the one that it gives alone, and mostly the truth."""
    plan = Plan(preset="mini", stage="reconstruction", modality="image", rank=0, own_words=True, own_weights=True)
    parts = Parts("mini", tmp_path, tmp_path)
    stage = open_stage(plan, parts)
    assert isinstance(stage, Reconstruction)
    talker = Talker(random.Random(4))
    talks = [talker.talk("describe image", "en") for _ in range(6)]
    with torch.no_grad():
        blocks = [block for row in features_of(talks, stage.outputs.senses, stage.projector) for block in row]
    together = own_words(stage.speech, "image", blocks, "en", random.Random(1))
    alone = [own_words(stage.speech, "image", [block], "en", random.Random(1))[0] for block in blocks]
    assert together == alone
    truth = [caption(talk.given[0]) for talk in talks]
    assert sum(said == true for said, true in zip(together, truth, strict=True)) >= 3


def test_words_end_where_an_answer_ends_or_a_signal_begins(tmp_path):
    stage = open_stage(Plan(preset="tiny", stage="reconstruction", rank=0), Parts("tiny", tmp_path, tmp_path))
    assert isinstance(stage, Reconstruction)
    words = stage.speech.words
    said = list(words.tokenizer.encode("a red star"))
    signal = words.vocabulary.run("image")[0]
    end = words.stop[0]
    stop = [end] if isinstance(end, int) else list(end)
    assert until([*said, signal, *said], stage.speech) == said
    assert until([*said, *stop, *said], stage.speech) == said
    assert until(said, stage.speech) == said
    assert len(said) < MOST


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_description_becomes_what_a_request_says(language):
    """Of the same things, never more than was said, and now and then less of everything that requests leave out."""
    talker, draw = Talker(random.Random(5)), random.Random(6)
    lacking: Counter[str] = Counter()
    related = 0
    for _ in range(200):
        scene = talker.scene() if draw.random() < 0.7 else talker.related()
        brief = read(briefly(caption(scene, language), language, draw))
        assert [(told["shape"], told["colour"]) for told in brief.things] == [
            (thing.shape, thing.colour) for thing in scene.things
        ]
        for told, thing in zip(brief.things, scene.things, strict=True):
            assert all(getattr(thing, name) == value for name, value in told.items())
            lacking.update({"size", "place"} - set(told))
        assert brief.relation in (None, scene.relation)
        assert len(scene.things) == 1 or brief.relation or all("place" in told for told in brief.things)
        assert brief.background in (None, scene.background)
        lacking["background"] += brief.background is None
        related += brief.relation is not None
    assert min(lacking["size"], lacking["place"], lacking["background"], related) >= 20


@pytest.mark.parametrize(
    "said",
    [
        "",
        "I see nothing.",
        "a red star",
        "a large red star in the centre",
        "a small red dog on the left, on a dark background",
    ],
)
def test_what_is_no_whole_description_stays_as_it_was_said(said):
    assert briefly(said, "en", random.Random(0)) == said


def test_what_the_model_said_comes_before_the_signals(tmp_path, monkeypatch):
    """And the talk has no caption: neither in its words nor for the projector."""
    seen: list[Talk] = []
    monkeypatch.setattr(
        "nodes.nextgpt.training.stages.reconstruction.own_words", lambda *a: [f"thing {n}" for n in range(4)]
    )
    plan = Plan(preset="tiny", stage="reconstruction", modality="image", rank=0, own_words=True, batch=4)
    stage = open_stage(plan, Parts("tiny", tmp_path, tmp_path))
    assert isinstance(stage, Reconstruction)
    real = stage._denoise
    monkeypatch.setattr(stage, "_denoise", lambda talks: seen.extend(talks) or real(talks))
    stage.loss(random.Random(3), 4)
    assert [talk.turns[-1].parts[0] for talk in seen] == [f"thing {n}" for n in range(4)]
    assert not any(talk.captions for talk in seen)
    assert all(talk.turns[-1].parts[1] is talk.turns[0].parts[0] for talk in seen)


def test_what_is_shown_again_stands_to_each_other_as_often_as_in_requests(tmp_path):
    """Else the words of relations are forgotten. Without own words the signals follow the picture, and nothing is."""
    for own, least, most in ((True, 0.3, 0.5), (False, 0.0, 0.2)):
        plan = Plan(preset="tiny", stage="reconstruction", modality="image", rank=0, own_words=own)
        stage = open_stage(plan, Parts("tiny", tmp_path, tmp_path))
        assert isinstance(stage, Reconstruction)
        scenes = [talk.given[0] for talk in stage.source.talks(random.Random(2), 300)]
        share = sum(isinstance(scene, Scene) and scene.relation is not None for scene in scenes) / 300
        assert least <= share <= most
