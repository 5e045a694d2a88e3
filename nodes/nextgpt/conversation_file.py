"""Conversation file: a conversation as JSON with its media beside it, in a folder or in one ZIP archive.

    trip_00002.json                                  {"format": "anyloom-conversation", "version": 1, "turns": [
    trip_media/image-0b66f3c2….png                      {"role": "user", "parts": [
    trip_media/audio-91d0aa57….wav                        {"type": "image", "file": "trip_media/image-0b66f3c2….png"},
                                                          {"type": "text", "text": "What is this?"}]}, ...]}

A person can read and write it. Paths are relative to the JSON and stay in its folder, so the folder can be moved as a
whole. Media are written without loss (see `medium.py`) and named by their content: a conversation that is saved again
with one more turn writes only what is new, and several conversations may share a folder without touching each other.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from graph_engine.errors import AnyloomError, NodeError
from graph_engine.graph.kinds import describe
from nodes.nextgpt.modality import MODALITIES, SPOKEN

FORMAT, VERSION = "anyloom-conversation", 1
NAME = "conversation.json"
"""Of the JSON inside an archive."""
ROLES = ("user", "assistant")
MAX_JSON_BYTES = 32 << 20
MAX_MEDIUM_BYTES = 8 << 30
"""Of one file inside an archive, unpacked."""
_OWN_FIELDS = ("type", "text", "modality", "tensor", "file", "fps")


def check_turns(turns: Sequence[Any]) -> None:
    """Raise NodeError, with turn and part counted from 1, unless user and assistant alternate in parts of known types."""
    for number, turn in enumerate(turns):
        where = f"turn {number + 1}"
        if not isinstance(turn, Mapping) or not isinstance(turn.get("parts"), list | tuple) or "role" not in turn:
            raise _fault(
                f"{where} is no turn: it must have a role and a list of parts, got {describe(turn)}.", "bad_turn"
            )
        wanted = ROLES[number % 2]
        if turn["role"] != wanted:
            raise _fault(
                f"{where} must be the {wanted}'s, its role is {turn['role']!r}: the user begins, then both take turns.",
                "wrong_role",
            )
        if not turn["parts"] and turn["role"] == "user":
            raise _fault(f"{where} is empty: it has neither text nor media.", "empty_turn")
        for position, part in enumerate(turn["parts"]):
            _check_part(part, f"{where}, part {position + 1}")


def _check_part(part: Any, where: str) -> None:
    if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
        raise _fault(f"{where}: a part must be an object with a type, got {describe(part)}.")
    kind = part["type"]
    if kind == "text":
        if not isinstance(part.get("text"), str):
            raise _fault(f"{where}: a text part must have a text, got {describe(part.get('text'))}.")
    elif kind in ("signal", "features"):
        known = SPOKEN if kind == "signal" else MODALITIES
        if part.get("modality") not in known:
            raise _fault(
                f"{where}: {part.get('modality')!r} is no modality of a {kind} part, it must be one of {', '.join(known)}."
            )
    elif kind not in SPOKEN:
        raise _fault(f"{where}: unknown type {kind!r}; known are text, features, signal, {', '.join(SPOKEN)}.")


def _fault(message: str, code: str = "bad_part") -> NodeError:
    return NodeError(message, remedy="Correct the conversation, or begin a new one.", code=code, port="conversation")


# --- writing ----------------------------------------------------------------------------------------------------


def write(turns: Sequence[Mapping[str, Any]], path: Path) -> int:
    """Write a conversation to `path` (JSON) and what is new of its media into a folder beside it; how many were new.

    Raises NodeError for what is no conversation and for fields that JSON cannot hold.
    """
    check_turns(turns)
    folder = path.parent / f"{path.stem.rpartition('_')[0] or path.stem}_media"
    before = set(folder.iterdir()) if folder.is_dir() else set()
    entries = []
    for number, turn in enumerate(turns):
        parts: list[dict[str, Any]] = []
        for position, part in enumerate(turn["parts"]):
            try:
                parts += _entries(part, folder)
            except AnyloomError as error:
                raise _placed(error, number, position) from error
        entries.append({"role": turn["role"], "parts": parts})
    document = {"format": FORMAT, "version": VERSION, "turns": entries}
    try:
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise _fault(f"the conversation holds what JSON cannot: {error}.") from None
    _aside(path, lambda target: target.write_text(text + "\n", encoding="utf-8"))
    return len(set(folder.iterdir()) - before) if folder.is_dir() else 0


def _entries(part: Mapping[str, Any], folder: Path) -> Iterator[dict[str, Any]]:
    """A part as JSON; a batch of media becomes as many parts."""
    from nodes.nextgpt.medium import FEATURES, digest, form_of, write_features

    kind = part["type"]
    more = {name: value for name, value in part.items() if name not in (*_OWN_FIELDS, kind)}
    if kind == "text":
        yield {"type": kind, "text": part["text"], **more}
        return
    if kind == "signal":
        yield {"type": kind, "modality": part["modality"], **more}
        return
    if kind == "features":
        name = f"{part['modality']}-features-{digest(part['tensor'])}{FEATURES}"
        _once(folder / name, lambda target: write_features(target, part["tensor"]))
        yield {"type": kind, "modality": part["modality"], **more, "file": f"{folder.name}/{name}"}
        return
    form = form_of(part.get(kind))
    if form is None:
        raise _fault(f"{describe(part.get(kind))} is no medium.")
    for value in form.single(part[kind]):
        name = f"{kind}-{digest(value)}{form.suffix}"
        _once(folder / name, lambda target, value=value: form.write(target, value))
        facts = {"fps": value["fps"]} if isinstance(value, Mapping) and "fps" in value else {}
        yield {"type": kind, **more, "file": f"{folder.name}/{name}", **facts}


def _once(path: Path, write: Any) -> None:
    """A file that is there already has this content: its name says so."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        _aside(path, write)


def _aside(path: Path, write: Any) -> None:
    """Readers see the whole file or none; two writers of one name do not meet."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
    os.close(handle)
    try:
        write(Path(name))
        os.chmod(name, 0o644)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def pack(path: Path, archive: Path) -> None:
    """The conversation at `path` (JSON, media beside it) as one ZIP archive. Raises NodeError as `read` does."""
    with _opened(path, None) as (document, file):
        names = dict.fromkeys(part["file"] for turn in document["turns"] for part in turn["parts"] if "file" in part)
        found = {name: file(name) for name in names}

        def write(target: Path) -> None:
            with zipfile.ZipFile(target, "w") as packed:
                text = json.dumps(document, indent=2, ensure_ascii=False)
                packed.writestr(NAME, text + "\n", zipfile.ZIP_DEFLATED)
                for name, source in found.items():
                    packed.write(source, name, zipfile.ZIP_STORED)

        _aside(archive, write)


# --- reading ----------------------------------------------------------------------------------------------------


def outline(path: Path) -> dict[str, Any]:
    """The checked JSON of a conversation, without its media: {format, version, turns}. Raises NodeError."""
    with _opened(path, None) as (document, _):
        return document


def media_of(document: Mapping[str, Any]) -> list[str]:
    """The relative names of the files that an outline refers to, each once."""
    return list(dict.fromkeys(part["file"] for turn in document["turns"] for part in turn["parts"] if "file" in part))


def read(path: Path, scratch: Path) -> list[dict[str, Any]]:
    """The conversation at `path`, a JSON or a ZIP archive, whose media are unpacked into `scratch` one by one.

    Raises NodeError for what is no conversation, with the turn and the part: a wrong role, an unknown type, a missing
    or damaged medium, a path that leaves the folder.
    """
    with _opened(path, scratch) as (document, file):
        turns = []
        for number, turn in enumerate(document["turns"]):
            parts = []
            for position, entry in enumerate(turn["parts"]):
                try:
                    parts.append(_part(entry, file))
                except AnyloomError as error:
                    raise _placed(error, number, position) from error
            turns.append({"role": turn["role"], "parts": parts})
        return turns


def _part(entry: Mapping[str, Any], file: Any) -> dict[str, Any]:
    from nodes.nextgpt.medium import read_features, reader_of

    kind = entry["type"]
    if kind in ("text", "signal"):
        return dict(entry)
    rest = {name: value for name, value in entry.items() if name not in ("file", "fps")}
    path = file(entry["file"])
    if kind == "features":
        return {**rest, "tensor": read_features(path)}
    value = reader_of(kind, path)(path)
    if "fps" in entry and isinstance(value, Mapping):
        value = {**value, "fps": float(entry["fps"])}  # containers round it
    return {**rest, kind: value}


@contextmanager
def _opened(path: Path, scratch: Path | None) -> Iterator[tuple[dict[str, Any], Any]]:
    """The checked JSON, and a function from a relative name to a path. Without `scratch` an archive's media stay packed."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as source:
            document = _document(source.read(MAX_JSON_BYTES + 1), path.name)
        yield document, lambda name: _beside(path, name)
        return
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if PurePosixPath(name).suffix == ".json"]
            inner = NAME if NAME in names else min(names, key=lambda name: (name.count("/"), name), default=None)
            if inner is None or archive.getinfo(inner).file_size > MAX_JSON_BYTES:
                raise _broken(path.name, "the archive has no conversation.json")
            document = _document(archive.read(inner), path.name)
            yield document, lambda name: _unpacked(archive, inner, name, scratch)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:  # damaged, odd method, password
        raise _broken(path.name, str(error)) from error


def _document(data: bytes, name: str) -> dict[str, Any]:
    from graph_engine.graph.document import load_json

    try:
        document = load_json(data, max_bytes=MAX_JSON_BYTES)
    except AnyloomError as error:
        place = f" ({error.problem.place})" if error.problem.place.startswith("line") else ""
        raise _broken(name, error.message.rstrip(".") + place) from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise _broken(name, f'it has no "format": "{FORMAT}"')
    if document.get("version") != VERSION:
        raise _broken(name, f"its version is {document.get('version')!r}, this Anyloom reads {VERSION}")
    if not isinstance(document.get("turns"), list):
        raise _broken(name, "it has no list of turns")
    check_turns(document["turns"])
    for number, turn in enumerate(document["turns"]):
        for position, part in enumerate(turn["parts"]):
            where = f"turn {number + 1}, part {position + 1}"
            if part["type"] in ("text", "signal"):
                continue
            if not isinstance(part.get("file"), str) or not part["file"]:
                raise _fault(f"{where}: a part of type {part['type']} must name its file.")
            if leaves(part["file"]):
                raise _outside(f"{where}: {part['file']!r}")
            fps = part.get("fps", 1)
            if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps <= 1000:
                raise _fault(f"{where}: fps must be in 0..1000, got {describe(fps)}.")
    return document


def leaves(name: str) -> bool:
    """Whether a relative name could lead out of the folder that holds it, on any system."""
    plain = name.replace("\\", "/")
    return plain.startswith("/") or ":" in plain or "\x00" in plain or ".." in plain.split("/")


def _beside(path: Path, name: str) -> Path:
    """A medium in the folder of the JSON, symbolic links followed."""
    root = path.parent.resolve()
    try:
        found = (root / name).resolve()
    except (OSError, RuntimeError, ValueError):
        found = root.parent
    if not found.is_relative_to(root):
        raise _outside(repr(name))
    if not found.is_file():
        raise _missing(name)
    return found


def _unpacked(archive: zipfile.ZipFile, inner: str, name: str, scratch: Path | None) -> Path:
    """A medium of the archive as a file in `scratch`, under a name of our own."""
    member = str(PurePosixPath(inner).parent / name)
    try:
        info = archive.getinfo(member)
    except KeyError:
        raise _missing(name) from None
    if info.file_size > MAX_MEDIUM_BYTES:
        raise _fault(f"{name} has {info.file_size:,} bytes unpacked, more than {MAX_MEDIUM_BYTES:,}.", "too_large")
    assert scratch is not None
    path = scratch / f"medium{PurePosixPath(name).suffix[:16]}"
    with archive.open(info) as source, path.open("wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
    return path


def _missing(name: str) -> NodeError:
    return NodeError(
        f"the file {name!r} is missing.",
        remedy="Put it back beside the conversation, or remove the part.",
        code="missing_medium",
        port="file",
    )


def _outside(what: str) -> NodeError:
    return NodeError(
        f"{what} leads outside the folder of the conversation.",
        remedy="Put the file beside the conversation and name it relative to it.",
        code="path_outside",
        port="file",
    )


def _broken(name: str, reason: str) -> NodeError:
    return NodeError(
        f"{name} is no conversation that can be read: {reason}.",
        remedy="Choose a file that nextgpt.save_conversation or /save wrote.",
        code="bad_conversation",
        port="file",
    )


def _placed(error: AnyloomError, turn: int, part: int) -> NodeError:
    """The error with the place in the conversation, counted from 1."""
    problem = error.problem
    return NodeError(
        f"turn {turn + 1}, part {part + 1}: {problem.message}",
        remedy=problem.remedy,
        code=problem.code,
        port=problem.port or "file",
    )
