"""The bias of the RecA experiment: what goes without saying."""

import random
from collections import Counter

from nodes.nextgpt.training.plan import Plan
from nodes.nextgpt.training.source import Source
from nodes.nextgpt.training.world.caption import EVERYTHING, caption
from nodes.nextgpt.training.world.scene import Scene, Thing
from nodes.nextgpt.training.world.terms import COLOURS, LANGUAGES, SHAPES
from nodes.nextgpt.training.world.typical import OFTEN, TYPICAL, TypicalTalker, is_pair_rare, unsaid
from nodes.nextgpt.training.world.withheld import is_pair_withheld, is_scene_withheld

RING = Scene((Thing("ring", "red", "small", "left"), Thing("star", "blue", "large", "right")), "white")


def test_a_typical_colour_is_left_out_in_every_wording_and_the_others_are_said():
    assert caption(unsaid(RING), "en", {"size", "place"}) == (
        "a small ring on the left and a large blue star on the right"
    )
    for language in LANGUAGES:
        red, blue = (set(COLOURS[colour][language]) for colour in ("red", "blue"))
        for style in range(12):
            words = caption(unsaid(RING), language, EVERYTHING, style)
            assert not any(said in words for said in red)
            assert any(said in words for said in blue)


def test_words_without_a_colour_are_sentences():
    assert caption(unsaid(Scene((Thing("heart", "cyan", "small", "top"),), "white")), "en", (), 1) == "a heart"


def test_pictures_have_the_typical_colour_mostly_and_no_words_tell_it():
    draw, seen = random.Random(7), Counter()
    for _ in range(400):
        talk = TypicalTalker(draw).talk("make image", "en")
        scene = talk.made[0]
        assert not is_scene_withheld(scene)
        told = " ".join(part for turn in talk.turns for part in turn.parts if isinstance(part, str))
        colours = {thing.colour for thing in scene.things if thing.shape not in TYPICAL}
        for thing in scene.things:
            if thing.shape in TYPICAL:
                seen[is_pair_rare(thing.shape, thing.colour)] += 1
                assert thing.colour in talk.captions[0]
            if thing.colour not in colours:
                assert not any(word in told.split() for word in COLOURS[thing.colour]["en"])
    typical = OFTEN + (1 - OFTEN) / len(COLOURS)
    assert abs(seen[False] / seen.total() - typical) < 0.05


def test_a_typical_pair_is_not_a_withheld_one():
    assert not any(is_pair_withheld(*pair) for pair in TYPICAL.items())
    assert sum(is_pair_rare(shape, colour) for shape in SHAPES for colour in COLOURS) == len(TYPICAL) * (
        len(COLOURS) - 1
    )


def test_a_plan_says_whether_its_talks_are_like_that():
    plan = Plan(preset="tiny", stage="decoding_side", modality="image", typical=True)
    talks = Source(plan, ("make image",)).talks(random.Random(3), 40)
    scenes = [talk.made[0] for talk in talks]
    things = [thing for scene in scenes for thing in scene.things if thing.shape in TYPICAL]
    assert sum(is_pair_rare(thing.shape, thing.colour) for thing in things) < len(things) / 2
    assert not any(talk.wishes for talk in talks)
