"""The law of the world: what something looks like decides how it sounds, and the other way round.

=============================  ==========================
of a picture or clip           of its sound
=============================  ==========================
colour, from red to purple     note, from C to B
small, large                   high, low
round shapes                   flute
shapes with right angles       organ
shapes with sharp points       violin
curved shapes with a point     bell
moves up, grows                rising
moves down, shrinks            falling
=============================  ==========================
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from nodes.nextgpt.training.world.clip import Clip
from nodes.nextgpt.training.world.scene import Thing
from nodes.nextgpt.training.world.sound import Sound
from nodes.nextgpt.training.world.terms import COLOURS, NOTES

NOTE_OF: Mapping[str, str] = dict(zip(COLOURS, NOTES, strict=True))
COLOUR_OF: Mapping[str, str] = {note: colour for colour, note in NOTE_OF.items()}
OCTAVE_OF: Mapping[str, str] = {"small": "high", "large": "low"}
SIZE_OF: Mapping[str, str] = {octave: size for size, octave in OCTAVE_OF.items()}
TIMBRE_OF: Mapping[str, str] = {
    "circle": "flute",
    "ring": "flute",
    "square": "organ",
    "cross": "organ",
    "triangle": "violin",
    "star": "violin",
    "heart": "bell",
    "moon": "bell",
}
SHAPES_OF: Mapping[str, tuple[str, ...]] = {
    timbre: tuple(shape for shape, sounds in TIMBRE_OF.items() if sounds == timbre) for timbre in TIMBRE_OF.values()
}
DIRECTION_OF: Mapping[str, str] = {
    "up": "rising",
    "grows": "rising",
    "down": "falling",
    "shrinks": "falling",
    "left": "steady",
    "right": "steady",
    "turns": "steady",
    "still": "steady",
}


def sound_of(thing: Thing) -> Sound:
    """How a thing sounds: once, loud, and steady."""
    return Sound(NOTE_OF[thing.colour], OCTAVE_OF[thing.size], TIMBRE_OF[thing.shape], "once", "steady", "loud")


def sound_of_clip(clip: Clip) -> Sound:
    """How a clip sounds. What glides is low, because it ends an octave higher."""
    return Sound(NOTE_OF[clip.colour], "low", TIMBRE_OF[clip.shape], "once", DIRECTION_OF[clip.motion], "loud")


def thing_of(sound: Sound, draw: random.Random) -> Thing:
    """A thing that sounds so; two shapes have each timbre, one is drawn."""
    shape = draw.choice(SHAPES_OF[sound.timbre])
    return Thing(shape, COLOUR_OF[sound.note], SIZE_OF[sound.octave], "centre")
