"""The grid of the RecA experiment: a speaker that draws what is typical is found out, one that draws the truth is not."""

import re

import torch

from nodes.nextgpt.training.evaluation.grid import drawn, grid, shares
from nodes.nextgpt.training.evaluation.reca import table
from nodes.nextgpt.training.evaluation.speaker import Answer, Made
from nodes.nextgpt.training.judges.words import read
from nodes.nextgpt.training.media import pictures
from nodes.nextgpt.training.world.scene import Scene, Thing
from nodes.nextgpt.training.world.typical import TYPICAL

torch.set_num_threads(1)


class Painter:
    """Draws what a request says; biased, things of a typical colour have it whatever the request says."""

    def __init__(self, biased: bool) -> None:
        self.biased = biased

    def answer(self, turns):
        request = re.sub(r"^.*?(?=an? (small|large))", "", turns[0].parts[0]).strip(".?")
        seen = read(request)
        found = dict(seen.things[0])
        if self.biased:
            found["colour"] = TYPICAL.get(found["shape"], found["colour"])
        scene = Scene(
            (Thing(found["shape"], found["colour"], found["size"], found["place"]),), seen.background or "white"
        )
        return Answer(request, (Made("image", pictures([scene], (64, 64), "cpu")[0], request),), 0.0)


def test_a_biased_painter_is_wrong_where_colours_are_not_typical():
    biased, fair = grid(Painter(True), 1), grid(Painter(False), 1)
    assert len(biased) == 56
    found, right = shares(biased), shares(fair)
    assert found["rare_colour"] == 0.0
    assert found["typical_colour"] == found["other_colour"] == 1.0
    assert all(value == 1.0 for value in right.values())
    picture = drawn([("before", biased), ("after", fair)])
    colours = {colour for _, colour in picture.getcolors(1 << 20)}
    assert (0xC0, 0x39, 0x2B) in colours
    assert (0xC0, 0x39, 0x2B) not in {colour for _, colour in drawn([("after", fair)]).getcolors(1 << 20)}


def test_no_picture_is_a_wrong_picture():
    class Silent:
        def answer(self, turns):
            return Answer("no", (), 0.0)

    assert set(shares(grid(Silent(), 1)).values()) == {0.0}


def test_a_table_has_what_both_have():
    said = table({"rare_colour": 0.25, "seconds": 1.0}, {"rare_colour": 0.5})
    assert "| rare_colour | 0.250 | 0.500 | +0.250 |" in said
    assert "seconds" not in said
