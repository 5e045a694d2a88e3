"""Paint that has no name: between two neighbours on the colour wheel, as far from either as can be.

Whoever learns to see from 49 pairs of shape and colour learns that an orange thing is no ring, because none ever was. Things in
paint between the colours have every shape, and their captions tell no colour; so what is seen of a shape cannot hang on it.
"""

from __future__ import annotations

import colorsys
import random
from dataclasses import replace

from nodes.nextgpt.training.world.clip import Clip
from nodes.nextgpt.training.world.scene import Scene
from nodes.nextgpt.training.world.terms import COLOURS, RGB

BETWEEN = (0.35, 0.65)
"""Of the way from a colour to the next."""

_WHEEL = tuple(COLOURS)


def between(draw: random.Random) -> tuple[float, float, float]:
    """Red, green and blue in 0..1."""
    index = draw.randrange(len(_WHEEL))
    one, other = (colorsys.rgb_to_hsv(*RGB[_WHEEL[at % len(_WHEEL)]]) for at in (index, index + 1))
    way = draw.uniform(*BETWEEN)
    hue = (one[0] + way * ((other[0] - one[0]) % 1)) % 1
    return colorsys.hsv_to_rgb(hue, *(a + way * (b - a) for a, b in zip(one[1:], other[1:], strict=True)))


def painted(medium: Scene | Clip, draw: random.Random) -> Scene | Clip:
    """The same with every thing in paint without a name."""
    if isinstance(medium, Clip):
        return replace(medium, colour="", paint=between(draw))
    return replace(medium, things=tuple(replace(thing, colour="", paint=between(draw)) for thing in medium.things))
