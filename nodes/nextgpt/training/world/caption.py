"""Sentences about scenes, sounds and clips: the canonical caption, and the same in other words.

`mention` decides what is said beside shape and colour (note, shape and motion are always said). `style` 0 is the canonical
form, which is what answers and the conditions of decoders are made of; any other number picks another order and other
words.
"""

from __future__ import annotations

from collections.abc import Collection

from nodes.nextgpt.training.media_file import MediaFile
from nodes.nextgpt.training.world.clip import Clip
from nodes.nextgpt.training.world.scene import Scene, Thing
from nodes.nextgpt.training.world.sound import Sound
from nodes.nextgpt.training.world.terms import (
    BACKGROUNDS,
    BEATS,
    COLOURS,
    DIRECTIONS,
    LOUDNESS,
    MOTIONS,
    NOTES,
    OCTAVES,
    PLACES,
    RELATIONS,
    SHAPES,
    SIZES,
    TIMBRES,
    Language,
    word,
)

Medium = Scene | Sound | Clip
AnyMedium = Medium | MediaFile

EVERYTHING = frozenset({"size", "place", "background", "octave", "timbre", "beats", "direction", "loudness"})
"""All that a caption may leave out. With "relation" instead of "place" two things are said to stand to each other; with
"neighbours" a pitch without a name is said to lie between two notes, of which nothing is said else."""


def modality_of(medium: AnyMedium) -> str:
    if isinstance(medium, MediaFile):
        return medium.modality
    return "image" if isinstance(medium, Scene) else "audio" if isinstance(medium, Sound) else "video"


def caption(medium: AnyMedium, language: Language = "en", mention: Collection[str] = EVERYTHING, style: int = 0) -> str:
    """One sentence without a full stop; of a file what its data set says, whatever is asked for."""
    if isinstance(medium, MediaFile):
        return medium.caption
    if isinstance(medium, Scene):
        return _scene(medium, language, mention, style)
    if isinstance(medium, Sound):
        return _sound(medium, language, mention, style)
    return _clip(medium, language, mention, style)


def thing_words(thing: Thing, language: Language, mention: Collection[str] = EVERYTHING, style: int = 0) -> str:
    """A thing without its place: "a large red star". Paint without a name (`paint.py`) and a colour
    that goes without saying (empty, `typical.py`) are left out."""
    size = word(SIZES, thing.size, language, style) if "size" in mention else ""
    colour = word(COLOURS, thing.colour, language, style) if thing.colour and not thing.paint else ""
    shape = word(SHAPES, thing.shape, language, style // 2)
    if language == "zh":
        if style % 3 == 1 and size:
            return f"一个{colour}{size.removesuffix('的')}{shape}"
        return f"一个{size}{colour}{shape}"
    if style % 3 == 1 and (colour or size):
        return f"{_a(shape)} that is {' and '.join(filter(None, (colour, size)))}"
    return _a(" ".join(filter(None, (size, colour, shape))))


def _scene(scene: Scene, language: Language, mention: Collection[str], style: int) -> str:
    if "relation" in mention and scene.relation is not None:
        first, second = (thing_words(thing, language, mention, 2 * (style // 2)) for thing in scene.things)
        how = word(RELATIONS, scene.relation, language, style)
        said = f"{first} {how} {second}" if language == "en" else f"{first}在{second}{how}"
    else:
        said = _listed([_placed(thing, language, mention, style) for thing in scene.things], language, style)
    if "background" in mention:
        ground = word(BACKGROUNDS, scene.background, language, style)
        if language == "zh":
            said += f"，背景是{ground}" if style % 2 else f"，{ground}背景"
        else:
            said += f", the background is {ground}" if style % 2 else f", on a {ground} background"
    return said


def _placed(thing: Thing, language: Language, mention: Collection[str], style: int) -> str:
    what = thing_words(thing, language, mention, style)
    if "place" not in mention:
        return what
    place = word(PLACES, thing.place, language, style)
    if language == "zh":
        return f"{what}在{place}" if style % 2 else f"{place}有{what}"
    return f"{place} {what}" if style % 4 == 3 else f"{what} {place}"


def _listed(items: list[str], language: Language, style: int) -> str:
    if language == "zh":
        return "，".join(items) if style % 2 == 0 else "和".join(items)
    if style % 2 == 0 and len(items) > 2:
        return ", ".join(items[:-1]) + " and " + items[-1]
    return " and ".join(items)


def _sound(sound: Sound, language: Language, mention: Collection[str], style: int) -> str:
    gliding = sound.direction != "steady"
    note = "" if sound.bend else word(NOTES, sound.note, language)
    if sound.bend and "neighbours" in mention:
        lower, upper = (word(NOTES, name, language) for name in sound.neighbours)
        note = f"between {lower} and {upper}" if language == "en" else f"{lower}和{upper}"
    loudness = word(LOUDNESS, sound.loudness, language, style) if "loudness" in mention else ""
    octave = word(OCTAVES, sound.octave, language, style) if "octave" in mention and not gliding else ""
    timbre = word(TIMBRES, sound.timbre, language) if "timbre" in mention else ""
    ending = ""
    if "direction" in mention and gliding:
        ending = word(DIRECTIONS, sound.direction, language, style)
    elif "beats" in mention and not gliding:
        ending = word(BEATS, sound.beats, language, style)
        if language == "en":
            ending = f"played {ending}"
    if language == "zh":
        loud = f"{loudness}的" if loudness else ""
        return f"{loud}{octave}{timbre}{note}音" + (f"，{ending}" if ending else "")
    if style % 3 == 1 and timbre:
        said = f"{_a(' '.join(filter(None, (loudness, octave, timbre))))} playing the note {note}".rstrip()
    else:
        said = _a(" ".join(filter(None, (loudness, octave, timbre, "note", note))))
    return said + (f", {ending}" if ending else "")


def _clip(clip: Clip, language: Language, mention: Collection[str], style: int) -> str:
    motion = word(MOTIONS, clip.motion, language, style)
    thing = Thing(clip.shape, clip.colour, "small", "centre", paint=clip.paint)
    what = thing_words(thing, language, (), 2 * (style // 2) if style % 3 == 1 else style)
    ground = word(BACKGROUNDS, clip.background, language, style) if "background" in mention else ""
    if language == "zh":
        return f"{what}{motion}" + (f"，{ground}背景" if ground else "")
    said = f"{what} that {motion}" if style % 2 else f"{what} {motion}"
    return said + (f", on a {ground} background" if ground else "")


def _a(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
