"""Paint without a name: between the colours, of every shape, and never told."""

import colorsys
import random

import torch

from nodes.nextgpt.training.lines import IGNORED, lines, turns_of
from nodes.nextgpt.training.stages.seeing import TABLES, labels_of
from nodes.nextgpt.training.world.caption import caption
from nodes.nextgpt.training.world.clip import Clip, film
from nodes.nextgpt.training.world.paint import between, painted
from nodes.nextgpt.training.world.picture import draw_scenes
from nodes.nextgpt.training.world.scene import Scene, Thing
from nodes.nextgpt.training.world.talk import Said, Talker
from nodes.nextgpt.training.world.terms import COLOURS, LANGUAGES, RGB
from nodes.nextgpt.words import words_of

torch.set_num_threads(1)
HUES = sorted(colorsys.rgb_to_hsv(*RGB[name])[0] for name in COLOURS)


def test_a_paint_lies_between_two_colours_and_is_neither():
    draw, seen = random.Random(1), set()
    for _ in range(300):
        hue = colorsys.rgb_to_hsv(*between(draw))[0]
        below = max((known for known in HUES if known <= hue), default=HUES[-1] - 1)
        above = min((known for known in HUES if known > hue), default=HUES[0] + 1)
        assert 0.34 < (hue - below) / (above - below) < 0.66
        seen.add(round(below, 3))
    assert len(seen) == len(COLOURS)


def test_what_is_painted_is_drawn_in_its_paint_and_told_without_a_colour():
    draw = random.Random(2)
    scene = painted(Scene((Thing("square", "red", "large", "centre"),), "white"), draw)
    clip = painted(Clip("circle", "red", "still", "black"), draw)
    assert isinstance(scene, Scene)
    assert isinstance(clip, Clip)
    middle = draw_scenes([scene])[0][32, 32]
    assert torch.allclose(middle, torch.tensor(scene.things[0].paint), atol=0.02)
    assert torch.allclose(film([clip])[0, 0, 32, 32 + round(clip.line)], torch.tensor(clip.paint), atol=0.02)
    assert caption(scene) == "a large square in the centre, on a white background"
    assert caption(clip) == "a circle stays still, on a black background"
    for language in LANGUAGES:
        for style in range(12):
            told = caption(scene, language, style=style) + caption(clip, language, style=style)
            assert not any(word in told for words in COLOURS.values() for word in words[language])


def test_a_share_of_what_is_shown_is_painted():
    talker = Talker(random.Random(3), unnamed=0.4)
    shown = [talker.shown(modality) for modality in ("image", "video") for _ in range(200)]
    paints = [medium.paint if isinstance(medium, Clip) else medium.things[0].paint for medium in shown]
    assert 0.32 < sum(paint is not None for paint in paints) / 400 < 0.48
    plain = Talker(random.Random(3))
    assert not any(thing.paint for _ in range(50) for thing in plain.shown("image").things)


def test_a_reading_is_not_asked_for_a_colour_that_has_no_name():
    clip = painted(Clip("circle", "red", "grows", "black"), random.Random(4))
    owner = torch.tensor([[-1, 0]])
    assert labels_of([clip], "colour", owner).tolist() == [[len(TABLES["colour"]), IGNORED]]
    assert labels_of([clip], "shape", owner).tolist() == [[len(TABLES["shape"]), TABLES["shape"].index("circle")]]


def test_the_first_token_of_an_answer_is_learned_in_every_language(tmp_path):
    """A prompt ends before the space behind "ASSISTANT:". English words bring it along; a Chinese answer has it as a token."""
    words = words_of({"tokenizer": "mini", "spelling": "current", "template": "current"}, tmp_path)
    for answer in ("a red star", "一个红色星形"):
        said = (Said("user", ("so",)), Said("assistant", (answer,)))
        batch = lines([turns_of(said, [])], words, "cpu")
        first = int((batch.labels[0] != IGNORED).nonzero()[0])
        assert words.tokenizer.decode(batch.ids[0, :first].tolist()).endswith("ASSISTANT:")
        assert words.tokenizer.decode(batch.ids[0, first:].tolist()).startswith(f" {answer}")
