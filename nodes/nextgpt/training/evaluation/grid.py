"""The attribute grid of the RecA experiment (docs/reca.md): every shape is asked for in every colour.

Shares of pictures that have the attributes that were asked for: of rare pairs (a shape that has a typical colour, in
another), of typical ones, and of shapes that have none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from nodes.nextgpt.glyphs import draw_line
from nodes.nextgpt.training.evaluation.sheet import TILE, tile
from nodes.nextgpt.training.evaluation.speaker import Speaker
from nodes.nextgpt.training.judges.verdict import judge
from nodes.nextgpt.training.seeds import drawer
from nodes.nextgpt.training.world.caption import caption
from nodes.nextgpt.training.world.phrases import MAKE
from nodes.nextgpt.training.world.scene import Scene, Thing
from nodes.nextgpt.training.world.talk import Said
from nodes.nextgpt.training.world.terms import BACKGROUNDS, COLOURS, PLACES, SHAPES, SIZES
from nodes.nextgpt.training.world.typical import TYPICAL, is_pair_rare
from nodes.nextgpt.training.world.wish import wish_of

_MENTION = frozenset({"size", "place", "background"})
_EDGE = 74
"""Pixels left of and above the grid, for the words."""


@dataclass(frozen=True)
class Square:
    """One picture of the grid: what was asked for, what was drawn "H W 3", and the judge's facts by attribute."""

    thing: Thing
    picture: Tensor
    facts: dict[str, bool]

    @property
    def kind(self) -> str:
        if self.thing.shape not in TYPICAL:
            return "other"
        return "rare" if is_pair_rare(self.thing.shape, self.thing.colour) else "typical"


def grid(speaker: Speaker, count: int) -> list[Square]:
    """`count` pictures of each pair, at drawn places and sizes; the same ones for every model."""
    squares = []
    for shape in SHAPES:
        for colour in COLOURS:
            draw = drawer("grid", shape, colour)
            for _ in range(count):
                thing = Thing(shape, colour, draw.choice(tuple(SIZES)), draw.choice(tuple(PLACES)))
                scene = Scene((thing,), draw.choice(tuple(BACKGROUNDS)))
                request = draw.choice(MAKE["image"]["en"]).format(caption(scene, "en", _MENTION))
                answer = speaker.answer([Said("user", (request,))])
                made = next((made.value for made in answer.made if made.modality == "image"), None)
                facts = dict(judge(wish_of(scene, _MENTION), made))
                squares.append(Square(thing, torch.zeros(8, 8, 3) if made is None else made, facts))
    return squares


def shares(squares: Sequence[Square]) -> dict[str, float]:
    """By kind of pair and attribute: "rare_colour", "other_place" and so on."""
    votes: dict[str, list[bool]] = defaultdict(list)
    for square in squares:
        for what, right in square.facts.items():
            votes[f"{square.kind}_{what}"].append(right)
    return {name: sum(found) / len(found) for name, found in sorted(votes.items())}


def drawn(grids: Sequence[tuple[str, Sequence[Square]]]) -> Image.Image:
    """The first picture of every pair, one grid per model side by side; a red frame has the wrong colour."""
    side, rows, columns = TILE // 2, tuple(SHAPES), tuple(COLOURS)
    width, height = _EDGE + len(columns) * side + 12, _EDGE + len(rows) * side
    canvas = Image.new("RGB", (width * len(grids), height), "white")
    draw = ImageDraw.Draw(canvas)
    for number, (title, squares) in enumerate(grids):
        left = number * width
        draw_line(draw, (left + _EDGE, 22), title, 15, "#111111")
        for index, colour in enumerate(columns):
            draw_line(draw, (left + _EDGE + index * side + 4, _EDGE - 8), colour, 12, "#333333")
        seen = set()
        for square in squares:
            pair = (square.thing.shape, square.thing.colour)
            if pair in seen:
                continue
            seen.add(pair)
            x, y = left + _EDGE + columns.index(pair[1]) * side, _EDGE + rows.index(pair[0]) * side
            canvas.paste(tile("image", square.picture).resize((side - 6, side - 6)), (x + 3, y + 3))
            frame = "#2e8b57" if square.facts.get("colour") else "#c0392b"
            draw.rectangle((x + 1, y + 1, x + side - 3, y + side - 3), outline=frame, width=2)
        for index, shape in enumerate(rows):
            draw_line(draw, (left + 4, _EDGE + index * side + side // 2 + 5), shape, 12, "#333333")
    return canvas
