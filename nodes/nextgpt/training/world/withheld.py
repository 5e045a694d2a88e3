"""What is never trained on, by rule, so that what was learned can be told from what was learned by heart.

Every colour lacks one shape and every shape lacks at most one colour: seven pairs of 56. A sound lacks one instrument
per note. Nothing of either is in any exercise; evaluation asks for nothing else.
"""

from __future__ import annotations

from nodes.nextgpt.training.world.caption import Medium
from nodes.nextgpt.training.world.clip import Clip
from nodes.nextgpt.training.world.paint import is_unnamed
from nodes.nextgpt.training.world.scene import Scene
from nodes.nextgpt.training.world.sound import Sound
from nodes.nextgpt.training.world.terms import COLOURS, NOTES, SHAPES, TIMBRES

_COLOURS, _SHAPES, _NOTES, _TIMBRES = tuple(COLOURS), tuple(SHAPES), tuple(NOTES), tuple(TIMBRES)


def is_pair_withheld(shape: str, colour: str) -> bool:
    """One shape per colour: with three steps through the shapes per colour, so that neighbours differ."""
    return (3 * _COLOURS.index(colour) + 2) % len(_SHAPES) == _SHAPES.index(shape)


def is_pair_trained(shape: str, colour: str) -> bool:
    return not is_pair_withheld(shape, colour)


def is_sound_withheld(sound: Sound) -> bool:
    return (_NOTES.index(sound.note) + 1) % len(_TIMBRES) == _TIMBRES.index(sound.timbre) and sound.octave == "low"


def is_scene_withheld(scene: Scene) -> bool:
    """Whether any of its things is."""
    return any(is_pair_withheld(thing.shape, thing.colour) for thing in scene.things)


def is_clip_withheld(clip: Clip) -> bool:
    return is_pair_withheld(clip.shape, clip.colour)


def is_withheld(medium: Medium) -> bool:
    """What has no name never is."""
    if is_unnamed(medium):
        return False
    if isinstance(medium, Scene):
        return is_scene_withheld(medium)
    return is_sound_withheld(medium) if isinstance(medium, Sound) else is_clip_withheld(medium)
