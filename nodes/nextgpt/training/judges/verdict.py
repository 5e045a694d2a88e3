"""Verdicts: whether a medium or an answer has what was wished for, attribute by attribute."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nodes.nextgpt.training.judges import clip, picture, sound, words

Verdict = Mapping[str, bool]
_SLACK = 6.0
"""Pixels that one thing must lie further left than another to be left of it; a third of the way between two places."""


def judge(wish: Mapping[str, Any], value: Any) -> Verdict:
    """value: "H W 3" for an image, "F H W 3" for a video, a waveform "S" of 16 kHz for audio, a text. None: all wrong."""
    modality = wish.get("modality")
    if modality == "image":
        return _image(wish, None if value is None else picture.look(value))
    if modality == "audio":
        heard = None if value is None else sound.listen(value)
        return _facts(wish, heard, ("note", "octave", "timbre", "beats", "direction", "loudness"))
    if modality == "video":
        seen = None if value is None else clip.watch(value)
        return _facts(wish, seen, ("shape", "colour", "motion", "background"))
    if modality == "text":
        return _text(wish, "" if value is None else str(value))
    raise ValueError(f"a wish is for image, audio, video or text, not {modality!r}")


def _facts(wish: Mapping[str, Any], found: Any, names: Sequence[str]) -> Verdict:
    """Of those that are wished for; of nothing, nothing is right."""
    return {name: found is not None and _is(getattr(found, name), wish[name]) for name in names if name in wish}


def _is(value: Any, wanted: Any) -> bool:
    return value in wanted if isinstance(wanted, (list, tuple)) else value == wanted


def _image(wish: Mapping[str, Any], seen: picture.Look | None) -> Verdict:
    wanted: Sequence[Mapping[str, Any]] = wish["things"]
    named = sorted({name for thing in wanted for name in thing})
    facts = {"count": seen is not None and len(seen.objects) == len(wanted)}
    pairs = _paired(seen.objects, wanted) if seen is not None else []
    full = facts["count"]
    for name in named:
        facts[name] = full and all(_is(getattr(found, name), thing[name]) for found, thing in pairs if name in thing)
    if "relation" in wish:
        facts["place"] = full and len(pairs) == 2 and _stands(pairs[0][0], pairs[1][0], wish["relation"])
    if "background" in wish:
        facts["background"] = seen is not None and _is(seen.background, wish["background"])
    return facts


def _paired(
    found: Sequence[picture.Seen], wanted: Sequence[Mapping[str, Any]]
) -> list[tuple[picture.Seen, Mapping[str, Any]]]:
    """Each wished thing with the object that has most of it; each object once. At most three, so all ways are tried."""
    from itertools import permutations

    def score(order: Iterable[picture.Seen]) -> int:
        return sum(
            _is(getattr(seen, name), value)
            for seen, thing in zip(order, wanted, strict=False)
            for name, value in thing.items()
        )

    if not found:
        return []
    orders: list[tuple[picture.Seen, ...]] = list(permutations(found[:4], min(len(found[:4]), len(wanted))))
    return list(zip(max(orders, key=score), wanted, strict=False))


def _stands(first: picture.Seen, second: picture.Seen, how: str | Sequence[str]) -> bool:
    across, down = second.x - first.x, second.y - first.y
    stands = {
        "left of": across > _SLACK,
        "right of": across < -_SLACK,
        "above": down > _SLACK,
        "below": down < -_SLACK,
    }
    return any(stands[way] for way in ([how] if isinstance(how, str) else how))


def _text(wish: Mapping[str, Any], text: str) -> Verdict:
    told = words.read(text)
    if "says" in wish:
        thing = told.things[0] if told.things else {}
        return {name: _is(thing.get(name), value) for name, value in wish["says"].items()}
    about = wish["about"]
    if about["modality"] == "audio":
        return {name: _is(told.sound.get(name), value) for name, value in about.items() if name != "modality"}
    if about["modality"] == "video":
        thing = told.things[0] if told.things else {}
        said = {**thing, "motion": told.motion, "background": told.background}
        return {name: _is(said.get(name), value) for name, value in about.items() if name != "modality"}
    wanted = about["things"]
    facts = {"count": len(told.things) == len(wanted)}
    for name in sorted({name for thing in wanted for name in thing}):
        facts[name] = facts["count"] and all(
            _is(thing.get(name), entry[name]) for thing, entry in zip(told.things, wanted, strict=False)
        )
    if "background" in about:
        facts["background"] = _is(told.background, about["background"])
    if "relation" in about:
        facts["place"] = _is(told.relation, about["relation"])
    return facts
