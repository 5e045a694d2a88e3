"""Paint that has no name: between two neighbours on the colour wheel, as far from either as can be.

Whoever learns to see from 49 pairs of shape and colour learns that an orange thing is no ring, because none ever was. Things in
paint between the colours have every shape, so what is seen of a shape cannot hang on its colour. Sounds half way between two
notes (`sound.bent`) are the same for the instruments. What is said of either is a guess (`guessed`), which nobody learns.
Only who is asked for the colour learns an answer: which two it lies between.
"""

from __future__ import annotations

import colorsys
import random
from dataclasses import replace

from nodes.nextgpt.training.media_file import MediaFile
from nodes.nextgpt.training.world.caption import AnyMedium, Medium
from nodes.nextgpt.training.world.clip import Clip
from nodes.nextgpt.training.world.scene import Scene
from nodes.nextgpt.training.world.sound import Sound
from nodes.nextgpt.training.world.terms import COLOURS, RGB

BETWEEN = (0.35, 0.65)
"""Of the way from a colour to the next."""

Paint = tuple[float, float, float]
_WHEEL = tuple(COLOURS)


def mixed(colour: str, way: float) -> Paint:
    """Red, green and blue in 0..1, so much of the way from a colour to the next on the wheel."""
    one, other = (colorsys.rgb_to_hsv(*RGB[name]) for name in (colour, next_to(colour)))
    hue = (one[0] + way * ((other[0] - one[0]) % 1)) % 1
    return colorsys.hsv_to_rgb(hue, *(a + way * (b - a) for a, b in zip(one[1:], other[1:], strict=True)))


def between(draw: random.Random) -> tuple[str, Paint]:
    """A colour, and a paint between it and the next."""
    colour = draw.choice(_WHEEL)
    return colour, mixed(colour, draw.uniform(*BETWEEN))


def painted(medium: Scene | Clip, draw: random.Random) -> Scene | Clip:
    """The same with every thing in paint without a name."""
    if isinstance(medium, Clip):
        colour, paint = between(draw)
        return replace(medium, colour=colour, paint=paint)
    things = []
    for thing in medium.things:
        colour, paint = between(draw)
        things.append(replace(thing, colour=colour, paint=paint))
    return replace(medium, things=tuple(things))


def is_unnamed(medium: AnyMedium) -> bool:
    """Whether it has a paint or a pitch that no word is for."""
    if isinstance(medium, MediaFile):
        return False
    if isinstance(medium, Scene):
        return any(thing.paint for thing in medium.things)
    return bool(medium.bend) if isinstance(medium, Sound) else medium.paint is not None


def guessed(medium: Medium, draw: random.Random) -> Medium:
    """As it may be spoken of: paints and pitches without a name are one of the two that they lie between."""
    if not is_unnamed(medium):
        return medium
    if isinstance(medium, Sound):
        return replace(medium, note=draw.choice(medium.neighbours), bend=0.0)
    if isinstance(medium, Clip):
        return replace(medium, colour=draw.choice((medium.colour, next_to(medium.colour))), paint=None)
    colours = [draw.choice((thing.colour, next_to(thing.colour))) for thing in medium.things]
    things = (replace(thing, colour=name, paint=None) for thing, name in zip(medium.things, colours, strict=True))
    return replace(medium, things=tuple(things))


def next_to(colour: str) -> str:
    """The colour on the other side of a paint."""
    return _WHEEL[(_WHEEL.index(colour) + 1) % len(_WHEEL)]
