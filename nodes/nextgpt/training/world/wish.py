"""What a medium has to have, as JSON: the attributes that a request mentions, and no others.

    {"modality": "image", "things": [{"shape", "colour", "size"?, "place"?}, ...], "relation"?, "background"?}
    {"modality": "audio", "note", "octave"?, "timbre"?, "beats"?, "direction"?, "loudness"?}
    {"modality": "video", "shape", "colour", "motion", "background"?}
    {"modality": "text", "about": one of the above} or {"modality": "text", "says": {attribute: value}}

A value may be a list: any of its entries will do. This is also the form of `anyloom evaluate --prompts`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from nodes.nextgpt.training.world.caption import Medium
from nodes.nextgpt.training.world.scene import Scene
from nodes.nextgpt.training.world.sound import Sound


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
