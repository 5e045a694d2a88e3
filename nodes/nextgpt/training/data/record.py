"""One record of a data set to talks: the original's formats, told apart by their keys.

=====================  ==========================================================================================
T-X pair               {"caption", "image_name" | "video_name" | "audio_name"}
X to text              {"input_image" | ..., "conversations": [{"from", "value" with "<image>"}, ...]}
text to X              {"output_image" | ..., "image_captions": [..], "conversations": [...]}
text to text and X     {"audio_captions": [..], "audio_caption_embeddings": ["34706.wav.npy"], "conversations": [...]}
MosIT, raw             {"image_list": [{"image_name", "caption"}], "video_list", "audio_list", "conversation": [...]}
MosIT, converted       captions and embeddings as lists, placeholders in the answers, "conversations"
=====================  ==========================================================================================

Media stand where their placeholder (`<image>`, `<video>`, `<audio>`) stands, in the order of their list. Turns without
placeholders that say `input_modality` or `output_modality` have the next medium at their end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nodes.nextgpt.training.media_file import MediaFile
from nodes.nextgpt.training.world.talk import Part, Said, Talk
from nodes.nextgpt.training.world.terms import language_of

MODALITIES = ("image", "video", "audio")
_PLACEHOLDER = re.compile(r"<(image|video|audio)>")
Find = Callable[[str, str], Path | None]
"""(modality, name) -> the medium's file, None if it is not there."""


class Broken(ValueError):
    """What is wrong with a record, and a code for it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def talks_of(record: Any, find: Find) -> list[Talk]:
    """The talks of a record: two of a pair (to describe it, to make it), one of any other. Raises Broken."""
    if not isinstance(record, Mapping):
        raise Broken("bad_record", f"a record is an object, not {type(record).__name__}")
    if "caption" in record:
        return _pair(record, find)
    turns = record.get("conversations", record.get("conversation"))
    if not isinstance(turns, list) or not turns:
        raise Broken("bad_record", "it has neither a caption nor a conversation")
    given, made = _media(record, find)
    return [_talk(turns, given, made)]


def _pair(record: Mapping[str, Any], find: Find) -> list[Talk]:
    caption = record["caption"]
    if not isinstance(caption, str) or not caption.strip():
        raise Broken("bad_record", "its caption is empty")
    named = [(m, record[f"{m}_name"]) for m in MODALITIES if f"{m}_name" in record]
    if len(named) != 1:
        raise Broken("bad_record", f"a pair names one image, video or audio; this names {len(named)}")
    modality, name = named[0]
    medium = _found(find, modality, name, caption)
    language = language_of(caption)
    describe = {"en": f"Describe the {modality}.", "zh": "请描述一下。"}[language]
    return [
        Talk(f"describe {modality}", language, (Said("user", (medium, describe)), Said("assistant", (caption,))), ()),
        Talk(
            f"make {modality}",
            language,
            (Said("user", (caption,)), Said("assistant", (caption, medium))),
            (),
            (caption,),
        ),
    ]


def _media(record: Mapping[str, Any], find: Find) -> tuple[dict[str, list[MediaFile]], dict[str, list[MediaFile]]]:
    """Media of the user's side and of the assistant's, by modality, in order."""
    given: dict[str, list[MediaFile]] = {m: [] for m in MODALITIES}
    made: dict[str, list[MediaFile]] = {m: [] for m in MODALITIES}
    for modality in MODALITIES:
        captions = _texts(record.get(f"{modality}_captions"))
        for name in _texts(record.get(f"input_{modality}")):
            given[modality].append(_found(find, modality, name, ""))
        names = _texts(record.get(f"output_{modality}"))
        # Instruction files name the embedding of the caption, which is named after the medium.
        names = names or [name.removesuffix(".npy") for name in _texts(record.get(f"{modality}_caption_embeddings"))]
        if names and captions and len(names) != len(captions):
            raise Broken("media_mismatch", f"{len(names)} {modality} names and {len(captions)} captions")
        for index, name in enumerate(names):
            made[modality].append(_found(find, modality, name, captions[index] if captions else ""))
        entries = record.get(f"{modality}_list") or []
        if not isinstance(entries, list):
            raise Broken("bad_record", f"its {modality}_list is no list")
        for entry in entries:
            if not isinstance(entry, Mapping) or not isinstance(entry.get(f"{modality}_name"), str):
                raise Broken("bad_record", f"an entry of {modality}_list has no {modality}_name")
            medium = _found(find, modality, entry[f"{modality}_name"], str(entry.get("caption") or ""))
            made[modality].append(medium)
    return given, made


def _talk(turns: list[Any], given: dict[str, list[MediaFile]], made: dict[str, list[MediaFile]]) -> Talk:
    said: list[Said] = []
    captions: list[str] = []
    left = {"user": {m: list(v) for m, v in given.items()}, "assistant": {m: list(v) for m, v in made.items()}}
    for number, turn in enumerate(turns):
        speaker = turn.get("from") if isinstance(turn, Mapping) else None
        role = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}.get(str(speaker))
        if role is None or not isinstance(turn.get("value"), str):
            raise Broken("bad_record", f"turn {number + 1} has no speaker (human, gpt) or no value")
        if role != ("user", "assistant")[number % 2]:
            raise Broken("bad_record", f"turn {number + 1} is the {role}'s; speakers take turns, the user begins")
        parts = _parts(turn, role, left[role], number)
        said.append(Said(role, tuple(parts)))  # type: ignore[arg-type]
        if role == "assistant":
            captions += [p.caption or str(turn.get("caption") or "") for p in parts if isinstance(p, MediaFile)]
    over = {m: len(v) for side in left.values() for m, v in side.items() if v}
    if over:
        told = ", ".join(f"{count} {m}" for m, count in over.items())
        raise Broken("media_mismatch", f"more media are listed than have a place in the text: {told} too many")
    if said[-1].role != "assistant":
        raise Broken("bad_record", "it ends with the user; there is no answer to learn")
    language = language_of(" ".join(p for turn in said for p in turn.parts if isinstance(p, str)))
    return Talk(_kind(said), language, tuple(said), (), tuple(captions))


def _parts(turn: Mapping[str, Any], role: str, media: dict[str, list[MediaFile]], number: int) -> list[Part]:
    parts: list[Any] = []

    def place(modality: str) -> None:
        if not media[modality]:
            raise Broken(
                "media_mismatch", f"turn {number + 1} has a place for a {modality}, but none is left in the list"
            )
        parts.append(media[modality].pop(0))

    pieces = _PLACEHOLDER.split(turn["value"])
    for index, piece in enumerate(pieces):
        if index % 2:
            place(piece)
        elif piece.strip():
            parts.append(piece.strip())
    told = str(turn.get("input_modality" if role == "user" else "output_modality") or "text")
    if len(pieces) == 1 and told in MODALITIES:
        place(told)
    return parts


def _kind(said: list[Said]) -> str:
    given = [p.modality for turn in said if turn.role == "user" for p in turn.parts if isinstance(p, MediaFile)]
    made = [p.modality for turn in said if turn.role == "assistant" for p in turn.parts if isinstance(p, MediaFile)]
    if given and made:
        return "cross"
    if given:
        return f"describe {given[0]}"
    if made:
        return f"make {made[0]}" if len(made) == 1 else "mixed"
    return "chat"


def _found(find: Find, modality: str, name: Any, caption: str) -> MediaFile:
    if not isinstance(name, str) or not name:
        raise Broken("bad_record", f"the name of a {modality} is no text")
    path = find(modality, name)
    if path is None:
        raise Broken("missing_medium", f"the {modality} {name!r} is not there")
    return MediaFile(modality, path, caption)


def _texts(value: Any) -> list[str]:
    if value is None:
        return []
    entries = value if isinstance(value, list) else [value]
    if not all(isinstance(entry, str) for entry in entries):
        raise Broken("bad_record", "a list of names or captions holds something that is no text")
    return list(entries)
