"""What training never shows is not denied, and nothing else is let off."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.nn.functional import cross_entropy

from nodes.nextgpt.model.tokenizer import Tokenizer
from nodes.nextgpt.training.language import Speech
from nodes.nextgpt.training.lines import IGNORED
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import Plan
from nodes.nextgpt.training.stages import open_stage, seeing
from nodes.nextgpt.training.unseen import Unseen
from nodes.nextgpt.training.world.caption import caption
from nodes.nextgpt.training.world.paint import painted
from nodes.nextgpt.training.world.scene import Scene, Thing
from nodes.nextgpt.training.world.talk import Talker
from nodes.nextgpt.training.world.terms import COLOURS, LANGUAGES, NOTES, SHAPES, TIMBRES, word
from nodes.nextgpt.training.world.withheld import is_pair_withheld, is_sound_withheld

torch.set_num_threads(1)
TOKENS = Tokenizer.mini()
UNSEEN = Unseen(TOKENS)


def beside(text: str) -> dict[str, set[str]]:
    """What is let off beside each word of a text, by the word."""
    ids = TOKENS.encode(text)
    found = UNSEEN.beside(torch.tensor([ids]))[0].tolist()
    return {
        TOKENS.decode([token]).strip(): {TOKENS.decode([other]).strip() for other in others if other >= 0}
        for token, others in zip(ids, found, strict=True)
        if max(others) >= 0
    }


@pytest.mark.parametrize("language", LANGUAGES)
def test_beside_a_pair_stands_what_either_half_never_goes_with(language):
    for number in range(200):
        talker = Talker(random.Random(number))
        said, expected = caption(scene := talker.scene(1), language), {}
        thing = scene.things[0]
        colours = {c for c in COLOURS if is_pair_withheld(thing.shape, c)}
        shapes = {s for s in SHAPES if is_pair_withheld(s, thing.colour)}
        expected[word(COLOURS, thing.colour, language)] = {word(COLOURS, c, language) for c in colours}
        expected[word(SHAPES, thing.shape, language)] = {word(SHAPES, s, language) for s in shapes}
        lead = " " if language == "en" else ""
        assert beside(lead + said) == {spoken: others for spoken, others in expected.items() if others}


@pytest.mark.parametrize("language", LANGUAGES)
def test_only_low_sounds_lack_an_instrument(language):
    for number in range(200):
        sound = Talker(random.Random(number)).sound()
        found = beside((" " if language == "en" else "") + caption(sound, language))
        if sound.octave == "high":
            assert found == {}
            continue
        like = [type(sound)(note, "low", timbre, "once", "steady", "loud") for note in NOTES for timbre in TIMBRES]
        lacking = [other for other in like if is_sound_withheld(other)]
        timbres = {word(TIMBRES, other.timbre, language) for other in lacking if other.note == sound.note}
        notes = {other.note for other in lacking if other.timbre == sound.timbre}
        assert found == {word(TIMBRES, sound.timbre, language): timbres, sound.note: notes}


def test_what_is_said_after_all_is_counted():
    """A pair that is withheld stands in the labels: of files, or of a slip of whoever wrote the world."""
    assert beside(" a red triangle") == {}


def test_what_is_let_off_has_no_share_in_the_loss(tmp_path: Path):
    parts = Parts("mini", tmp_path, tmp_path, anew=True)
    speech = Speech(parts)
    states = torch.randn(1, 3, speech.model.causal.config.hidden_size)
    labels = torch.tensor([[IGNORED, 300, 301]])
    others = torch.full((1, 3, 2), -1)
    others[0, 1, 0], others[0, 2] = 400, torch.tensor([401, 402])
    logits = speech.model.causal.get_output_embeddings()(states[:, :-1])[0].detach().clone()
    plain, right = speech.says(states, labels)
    assert torch.allclose(plain, cross_entropy(logits, labels[0, 1:]))
    logits[0, 400] = logits[1, 401] = logits[1, 402] = -torch.inf
    fewer, same = speech.says(states, labels, others)
    assert torch.allclose(fewer, cross_entropy(logits, labels[0, 1:]))
    assert fewer < plain
    assert same == right


@pytest.mark.parametrize("stage", ["encoding_side", "instruction"])
def test_the_world_s_talks_let_off_and_those_of_files_do_not(stage, tmp_path, monkeypatch):
    asked = []
    says = Speech.says
    monkeypatch.setattr(Speech, "says", lambda self, *rest: asked.append(rest[2]) or says(self, *rest))
    (tmp_path / "pairs.json").write_text('[{"caption": "a red triangle", "image_name": "a.png"}]')
    (tmp_path / "image").mkdir()
    Image.new("RGB", (64, 64), "red").save(tmp_path / "image" / "a.png")
    for data in ("", str(tmp_path / "pairs.json")):
        plan = Plan("mini", stage=stage, denoise_weight=0.0, data=data)
        open_stage(plan, Parts("mini", tmp_path, tmp_path, anew=True)).loss(random.Random(1), 4)
    assert (asked[0] >= 0).any()
    assert asked[1] is None


def test_a_reading_does_not_deny_what_is_never_shown_either():
    owner = torch.zeros(1, 1, dtype=torch.long)

    def left(medium, name):
        found = seeing.unseen([medium], name, owner)[0, 0].tolist()
        return {entry for entry, out in zip((*seeing.TABLES[name], "nothing"), found, strict=True) if out}

    for number in range(60):
        talker = Talker(random.Random(number))
        for thing in (talker.clip(), talker.scene(1)):
            what = thing.things[0] if isinstance(thing, Scene) else thing
            assert left(thing, "shape") == {s for s in SHAPES if is_pair_withheld(s, what.colour)}
            assert left(thing, "colour") == {c for c in COLOURS if is_pair_withheld(what.shape, c)}
            assert left(painted(thing, random.Random(number)), "shape") == set()
        sound = talker.sound()
        assert left(sound, "timbre") == {t for t in TIMBRES if is_sound_withheld(replace(sound, timbre=t))}
        assert left(sound, "note") == {n for n in NOTES if is_sound_withheld(replace(sound, note=n))}
        assert left(sound, "beats") == left(sound, "octave") == set()


def test_each_thing_of_a_picture_has_its_own():
    scene = Scene((Thing("triangle", "green", "small", "left"), Thing("star", "orange", "small", "right")), "white")
    found = seeing.unseen([scene], "colour", torch.tensor([[0, 1, -1]]))[0]
    assert [[seeing.TABLES["colour"][i] for i in row.nonzero().flatten().tolist()] for row in found] == [
        ["red"],
        ["green"],
        [],
    ]


def test_a_share_of_pictures_is_crowded():
    for crowded, expected in ((0.0, 0.25), (0.6, 0.7)):
        talker = Talker(random.Random(1), crowded=crowded)
        counts = [len(talker.shown("image").things) for _ in range(400)]
        assert abs(sum(count == 3 for count in counts) / 400 - expected) < 0.07


def test_a_share_of_pictures_has_two_things_that_stand_to_each_other():
    for paired, crowded, expected in ((0.0, 0.0, 0.1), (0.5, 0.0, 0.55), (0.5, 0.6, 0.22)):
        talker = Talker(random.Random(1), paired=paired, crowded=crowded)
        scenes = [talker.shown("image") for _ in range(400)]
        assert abs(sum(scene.relation is not None for scene in scenes) / 400 - expected) < 0.07


def test_pictures_can_be_kept_to_so_many_things():
    talker = Talker(random.Random(1), things=2)
    assert {len(talker.shown("image").things) for _ in range(60)} == {1, 2}
