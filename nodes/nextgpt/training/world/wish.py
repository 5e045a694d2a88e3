"""What a medium has to have, as JSON: the attributes that a request mentions, and no others.

    {"modality": "image", "things": [{"shape", "colour", "size"?, "place"?}, ...], "relation"?, "background"?}
    {"modality": "audio", "note", "octave"?, "timbre"?, "beats"?, "direction"?, "loudness"?}
    {"modality": "video", "shape", "colour", "motion", "background"?}
    {"modality": "text", "about": one of the above} or {"modality": "text", "says": {attribute: value}}

A value may be a list: any of its entries will do. This is also the form of `anyloom evaluate --prompts`.
Names and values are those of `terms.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from nodes.nextgpt.training.world.caption import Medium
from nodes.nextgpt.training.world.scene import Scene
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
)

_THING: Mapping[str, Collection[str]] = {"shape": SHAPES, "colour": COLOURS, "size": SIZES, "place": PLACES}
_MEDIUM: Mapping[str, Mapping[str, Collection[str]]] = {
    "image": {"relation": RELATIONS, "background": BACKGROUNDS},
    "audio": {
        "note": NOTES,
        "octave": OCTAVES,
        "timbre": TIMBRES,
        "beats": BEATS,
        "direction": DIRECTIONS,
        "loudness": LOUDNESS,
    },
    "video": {"shape": SHAPES, "colour": COLOURS, "motion": MOTIONS, "background": BACKGROUNDS},
}
"""Beside the things of a picture."""


def wish_of(medium: Medium, mention: Collection[str]) -> Mapping[str, Any]:
    """What is said of a medium, as what has to be true of it."""
    if isinstance(medium, Scene):
        told = ("shape", "colour", *(name for name in ("size", "place") if name in mention))
        wish: dict[str, Any] = {
            "modality": "image",
            "things": [{name: getattr(thing, name) for name in told} for thing in medium.things],
        }
        if "relation" in mention and medium.relation is not None:
            wish["relation"] = medium.relation
        return wish | ({"background": medium.background} if "background" in mention else {})
    if isinstance(medium, Sound):
        gliding = medium.direction != "steady"
        names = [name for name in ("octave", "timbre", "beats", "direction", "loudness") if name in mention]
        # A glide is not said to be low or to sound once; a steady sound is not said to be steady, but is to be.
        names = [name for name in names if not (gliding and name in ("octave", "beats"))]
        return {"modality": "audio", "note": medium.note, **{name: getattr(medium, name) for name in names}}
    told = ("shape", "colour", "motion", *(("background",) if "background" in mention else ()))
    return {"modality": "video", **{name: getattr(medium, name) for name in told}}


def fault_of(wish: Any) -> str:
    """What is wrong with a wish that somebody wrote, in words; empty for one that can be judged."""
    if not isinstance(wish, Mapping):
        return "it is no object"
    modality = wish.get("modality")
    if modality == "text":
        return _fault_of_text(wish)
    if not isinstance(modality, str) or modality not in _MEDIUM:
        return f"its modality {modality!r} is none of {', '.join(_MEDIUM)}, text"
    return _fault_of_medium(wish, modality)


def _fault_of_text(wish: Mapping[str, Any]) -> str:
    if ("about" in wish) == ("says" in wish):
        return f"it has {'both' if 'about' in wish else 'neither'} about {'and' if 'about' in wish else 'nor'} says"
    if unknown := set(wish) - {"modality", "about", "says"}:
        return f"{min(unknown)!r} is none of about, says"
    if "says" in wish:
        says = wish["says"]
        if not isinstance(says, Mapping) or not says:
            return "says is no object with an attribute and its value"
        return _fault_of_values(says, _THING)
    about = wish["about"]
    if isinstance(about, Mapping) and about.get("modality") == "text":
        return f"about: its modality 'text' is none of {', '.join(_MEDIUM)}"
    return (fault := fault_of(about)) and f"about: {fault}"


def _fault_of_medium(wish: Mapping[str, Any], modality: str) -> str:
    rest = {name: value for name, value in wish.items() if name != "modality"}
    if modality == "image":
        things = rest.pop("things", None)
        if not isinstance(things, list) or not 1 <= len(things) <= 3 or not all(isinstance(t, Mapping) for t in things):
            return "its things are no list of one to three objects"
        for number, thing in enumerate(things, 1):
            if fault := _fault_of_values(thing, _THING, f" of thing {number}"):
                return fault
        if "relation" in rest and len(things) != 2:
            return f"a relation is one of two things, and it has {len(things)}"
    return _fault_of_values(rest, _MEDIUM[modality])


def _fault_of_values(values: Mapping[str, Any], tables: Mapping[str, Collection[str]], where: str = "") -> str:
    for name, value in values.items():
        if name not in tables:
            return f"{name!r}{where} is none of {', '.join(tables)}"
        if value == []:
            return f"{name}{where} is an empty list, which nothing can be"
        for entry in value if isinstance(value, list) else [value]:
            if not isinstance(entry, str) or entry not in tables[name]:
                return f"{name} {entry!r}{where} is none of {', '.join(tables[name])}"
    return ""
