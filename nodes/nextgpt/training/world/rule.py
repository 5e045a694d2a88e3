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
between two colours            between two notes
moves up, grows                rising
moves down, shrinks            falling
=============================  ==========================
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from nodes.nextgpt.training.world.clip import Clip
from nodes.nextgpt.training.world.paint import Paint, mixed
from nodes.nextgpt.training.world.scene import Thing
from nodes.nextgpt.training.world.sound import Sound, half_way
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
    note, bend = _pitch(thing.colour, thing.paint)
    return Sound(note, OCTAVE_OF[thing.size], TIMBRE_OF[thing.shape], "once", "steady", "loud", bend)


def sound_of_clip(clip: Clip) -> Sound:
    """How a clip sounds. What glides is low, because it ends an octave higher."""
    note, bend = _pitch(clip.colour, clip.paint)
    return Sound(note, "low", TIMBRE_OF[clip.shape], "once", DIRECTION_OF[clip.motion], "loud", bend)


def thing_of(sound: Sound, draw: random.Random) -> Thing:
    """A thing that sounds so; two shapes have each timbre, one is drawn."""
    shape, colour = draw.choice(SHAPES_OF[sound.timbre]), COLOUR_OF[sound.note]
    way = sound.bend / half_way(sound.note) / 2
    return Thing(shape, colour, SIZE_OF[sound.octave], "centre", paint=mixed(colour, way) if way else None)


def _pitch(colour: str, paint: Paint | None) -> tuple[str, float]:
    """The note, and octaves above it: what lies between two colours sounds between two notes."""
    note = NOTE_OF[colour]
    return note, half_way(note) if paint else 0.0
