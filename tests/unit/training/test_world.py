"""The world of training: known truth, the same for the same seed, and combinations that never come."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from nodes.nextgpt.model.tokenizer import Tokenizer
from nodes.nextgpt.training.judges.verdict import judge
from nodes.nextgpt.training.judges.words import read
from nodes.nextgpt.training.world import rule, vocabulary
from nodes.nextgpt.training.world.caption import EVERYTHING, caption
from nodes.nextgpt.training.world.clip import Clip, film
from nodes.nextgpt.training.world.picture import draw_scenes
from nodes.nextgpt.training.world.scene import Scene, Thing, random_scene, related_scene, variations
from nodes.nextgpt.training.world.sound import SAMPLES, Sound, between, play, random_sound
from nodes.nextgpt.training.world.talk import KINDS, Talker
from nodes.nextgpt.training.world.terms import COLOURS, LANGUAGES, NOTES, PEAKS, SHAPES, STEPS
from nodes.nextgpt.training.world.wish import wish_of
from nodes.nextgpt.training.world.withheld import (
    is_clip_withheld,
    is_pair_withheld,
    is_scene_withheld,
    is_sound_withheld,
)

torch.set_num_threads(1)


def test_a_seed_decides_everything():
    one, other = (Talker(random.Random(7)) for _ in range(2))
    assert [one.talk() for _ in range(40)] == [other.talk() for _ in range(40)]
    scenes = [random_scene(random.Random(3)) for _ in range(2)]
    first, second = draw_scenes(scenes)
    assert torch.equal(first, second)
    sound = random_sound(random.Random(5))
    assert torch.equal(*play([sound, sound]))


def test_pictures_are_the_same_at_every_size():
    scene = random_scene(random.Random(1), 3)
    small, large = draw_scenes([scene])[0], draw_scenes([scene], 256)[0]
    shrunk = torch.nn.functional.interpolate(large.movedim(-1, 0)[None], size=64, mode="area")[0].movedim(0, -1)
    assert (small - shrunk).abs().mean() < 0.004


def test_things_never_touch_and_never_look_alike():
    draw = random.Random(2)
    for _ in range(200):
        scene = random_scene(draw, 3)
        assert len({(thing.shape, thing.colour) for thing in scene.things}) == 3
        for index, a in enumerate(scene.things):
            for b in scene.things[:index]:
                assert (a.centre[0] - b.centre[0]) ** 2 + (a.centre[1] - b.centre[1]) ** 2 > (a.radius + b.radius) ** 2
    with pytest.raises(ValueError, match="touch"):
        Scene((Thing("star", "red", "small", "left"), Thing("ring", "red", "small", "centre")), "white")


@pytest.mark.parametrize("how", ["left of", "right of", "above", "below"])
def test_related_scenes_say_how_they_are_related(how):
    draw = random.Random(4)
    for _ in range(20):
        assert related_scene(draw, how).relation == how


def test_variations_differ_in_one_attribute():
    draw = random.Random(5)
    scene = random_scene(draw, 2)
    changed = variations(scene, draw)
    for _ in range(30):
        other = next(changed)
        was = {(*vars(t).values(),) for t in scene.things}
        now = {(*vars(t).values(),) for t in other.things}
        assert len(now - was) + (other.background != scene.background) == 1


def test_every_colour_lacks_one_shape_and_every_note_one_instrument():
    for colour in COLOURS:
        assert sum(is_pair_withheld(shape, colour) for shape in SHAPES) == 1
    assert {rule.NOTE_OF[rule.COLOUR_OF[note]] for note in NOTES} == set(NOTES)


def _withheld(medium):
    if isinstance(medium, Scene):
        return is_scene_withheld(medium)
    return is_sound_withheld(medium) if isinstance(medium, Sound) else is_clip_withheld(medium)


def test_training_never_shows_what_evaluation_asks_for():
    draw = random.Random(6)
    trained, asked = Talker(draw), Talker(draw, withheld=True)
    for kind in KINDS:
        for _ in range(40):
            talk = trained.talk(kind)
            assert not any(map(_withheld, (*talk.given, *talk.made))), talk
            if kind.startswith(("make", "describe")):
                assert all(map(_withheld, (*asked.talk(kind).given, *asked.talk(kind).made)))


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_a_caption_says_can_be_read_again_in_every_wording(language):
    draw = random.Random(8)
    talker = Talker(draw)
    for _ in range(150):
        medium, mention = talker.asked(draw.choice(("image", "audio", "video")))
        said = caption(medium, language, mention, draw.randrange(12))
        verdict = judge({"modality": "text", "about": wish_of(medium, mention)}, said)
        assert all(verdict.values()), (said, verdict)


def test_a_wrong_caption_is_told_from_a_right_one():
    scene = Scene((Thing("star", "red", "small", "left"), Thing("ring", "blue", "large", "right")), "black")
    wish = {"modality": "text", "about": wish_of(scene, EVERYTHING)}
    swapped = replace(scene, things=(replace(scene.things[0], colour="blue"), replace(scene.things[1], colour="red")))
    assert not judge(wish, caption(swapped))["colour"]
    assert judge(wish, caption(swapped))["shape"]
    assert not any(judge(wish, "nothing of the kind").values())
    assert read("一个红色星形在左边").things == [{"colour": "red", "shape": "star", "place": "left"}]


def test_answers_name_and_give_media_in_the_order_of_the_request():
    talker = Talker(random.Random(9))
    for _ in range(30):
        talk = talker.talk("mixed", "en")
        parts = talk.turns[-1].parts
        assert [wish["modality"] for wish in talk.wishes] == [
            "image" if isinstance(p, Scene) else "audio" if isinstance(p, Sound) else "video" for p in parts[1::2]
        ]
        assert list(talk.captions) == list(parts[0::2])


def test_sounds_repeat_with_every_frame_of_the_vocoder():
    """A multiple of 50 Hz: what a convolution over frames of 20 ms can hold (see terms.STEPS)."""
    steady = [Sound(note, octave, "violin", "once", "steady", "loud") for note in NOTES for octave in ("low", "high")]
    waves = play(steady)
    assert waves.shape == (14, SAMPLES)
    middle = waves[:, 8000:24000]
    assert (middle[:, 320:] - middle[:, :-320]).abs().max() < 1e-3
    assert all(sound.hz % 50 == 0 for sound in steady)
    assert len(STEPS) == len(COLOURS)


def test_loudness_is_a_peak():
    quiet, loud = play([Sound("A", "low", "organ", "twice", "steady", loudness) for loudness in ("quiet", "loud")])
    assert quiet.abs().max() == pytest.approx(PEAKS["quiet"])
    assert loud.abs().max() == pytest.approx(PEAKS["loud"])


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="rising or falling"):
        Sound("A", "high", "organ", "once", "rising", "loud")
    with pytest.raises(ValueError, match="turning circle"):
        Clip("circle", "red", "turns", "white")
    with pytest.raises(ValueError, match="no kind of talk"):
        Talker(random.Random(0)).talk("sing")


def test_a_film_begins_and_ends_where_its_motion_says():
    frames = film([Clip("square", "red", "right", "white"), Clip("square", "red", "still", "white")])
    assert (frames[0, 0] != frames[0, -1]).any()
    assert torch.equal(frames[1, 0], frames[1, -1])
    assert torch.equal(frames[0, 0].flip(1), film([Clip("square", "red", "left", "white")])[0, 0])


def test_the_shipped_vocabulary_is_the_one_of_this_world():
    tokenizer = Tokenizer.mini()
    assert tokenizer.size == len(vocabulary.definition()["model"]["vocab"])
    for text in ("Draw a large red star on the left.", "请画左边有一个大的红色星形。", "ein Elefant, 大象 😀"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    for table in (COLOURS, SHAPES):
        for words in table.values():
            assert len(tokenizer.encode(words["zh"][0])) == 1
            assert len(tokenizer.encode(" " + words["en"][0])) == 1


@pytest.mark.parametrize("seed", range(20))
def test_what_lies_between_two_notes_is_none_of_them_and_named_by_none(seed):
    sound = between(random.Random(seed))
    plain = replace(sound, bend=0.0)
    assert 1.03 < sound.hz / plain.hz < 1.10
    for language in LANGUAGES:
        said = caption(sound, language)
        assert not any(named in said for note in NOTES for named in (f" {note}", f"{note}音"))
        assert said != caption(plain, language)
    assert not torch.equal(play([sound]), play([plain]))
