"""Parcel: a workflow and the files that it reads as one file, a zip archive, to be opened on another server.

    workflow.json           the document, as it is
    parcel.json             {"format": "anyloom.parcel", "version": 1, "files": [{"digest", "name", "uses": [place]}]}
    files/DIGEST.suffix     each file once, by the BLAKE2b-128 of its content; not compressed, media are already

`place` is where the document names the file, as a JSON pointer (RFC 6901), so that opening one needs no node types.
What is opened comes from anybody: everything is bounded before it is read, and nothing is kept unless all of it is right.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

from graph_engine.errors import AnyloomError, NotFoundError, RequestError
from graph_engine.graph.document import dump_json, load_json, parse
from graph_engine.graph.registry import Registry
from graph_engine.store.folders import Folders
from web import inbox
from web.frames import too_large
from web.media_types import media_type

FORMAT, VERSION = "anyloom.parcel", 1
SUFFIX = ".anyloom"
MEDIA_TYPE = "application/zip"
DOCUMENT, MANIFEST = "workflow.json", "parcel.json"
MAX_FILES = 1000
MAX_USES = 100_000
MAX_DIRECTORY_BYTES = 1 << 20
"""Of the archive's list of entries, which zipfile reads as a whole."""
MANIFEST_BYTES = 8 << 20
GROWTH, ROOM_BYTES = 20, 64 << 20
"""What is unpacked is at most so many times the archive, or ROOM_BYTES: archives that grow beyond that are bombs."""
PIECE_BYTES = 256 * 1024
_ENTRY = re.compile(r"files/[0-9a-f]{32}(?:\.[A-Za-z0-9]{1,16})?")
_END = struct.Struct("<4s4H2LH")


class Use(NamedTuple):
    """A file that a document names: as it stands there, and where."""

    name: str
    place: tuple[str | int, ...]
    node: str
    input: str

    @property
    def pointer(self) -> str:
        return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in self.place)


def uses(document: Any, registry: Registry) -> Iterator[Use]:
    """Every file that an input with a file field names, at whatever depth the document has nodes."""
    asked: list[tuple[tuple[str | int, ...], Any]] = [((), document)]
    while asked:
        place, value = asked.pop()
        if isinstance(value, Mapping):
            type = registry.get(value["type"]) if isinstance(value.get("type"), str) else None
            values = value.get("values")
            if type is not None and type.takes_files and isinstance(values, Mapping):
                for input in type.inputs:
                    if input.widget is None or not input.widget.upload:
                        continue
                    named = values.get(input.name)
                    if named and isinstance(named, str):
                        yield Use(named, (*place, "values", input.name), str(place[-1] if place else ""), input.name)
                    elif isinstance(named, list):
                        for index, name in enumerate(named):
                            if name and isinstance(name, str):
                                at = (*place, "values", input.name, index)
                                yield Use(name, at, str(place[-1] if place else ""), input.name)
            asked.extend(((*place, key), part) for key, part in value.items() if isinstance(part, Mapping | list))
        elif isinstance(value, list):
            asked.extend(((*place, key), part) for key, part in enumerate(value) if isinstance(part, Mapping | list))


def pack(document: Mapping[str, Any], folders: Folders, registry: Registry, to: BinaryIO, limit: int) -> None:
    """Write the archive. limit: bytes of all files together. Raises NotFoundError that names the node, RequestError."""
    found: dict[str, tuple[Path, dict[str, Any]]] = {}
    total = 0
    for use in sorted(uses(document, registry)):
        try:
            path = folders.existing(use.name)
        except AnyloomError as error:
            raise NotFoundError(
                f"the file {use.name[:200]!r} cannot be put in: {error.message}",
                remedy="Choose a file that is there, or take the node away.",
                code="file_not_found",
                node=use.node,
                port=use.input,
            ) from None
        digest = folders.digest(use.name)
        if digest not in found:
            total += path.stat().st_size
            if total > limit:
                raise too_large("what the workflow reads", total, limit)
            found[digest] = (path, {"digest": digest, "name": PurePosixPath(use.name).name, "uses": []})
            if len(found) > MAX_FILES:
                raise RequestError(
                    f"the workflow reads more than {MAX_FILES} files.", remedy="Share it in parts.", code="too_large"
                )
        found[digest][1]["uses"].append(use.pointer)
    manifest = {"format": FORMAT, "version": VERSION, "files": [entry for _, entry in found.values()]}
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED, allowZip64=False) as archive:
        archive.writestr(MANIFEST, json.dumps(manifest, ensure_ascii=False, indent=1))
        archive.writestr(DOCUMENT, dump_json(document))
        for digest, (path, entry) in found.items():
            archive.write(path, f"files/{digest}{_suffix(entry['name'])}", zipfile.ZIP_STORED)


class Opened(NamedTuple):
    """files: FILE values with `existing`, as an upload answers."""

    document: dict[str, Any]
    files: list[dict[str, Any]]


def unpack(source: Path, folders: Folders, limit: int, *, max_bytes: int = 1 << 24, max_nodes: int = 100_000) -> Opened:
    """Bring in the files and give the document with their names as they are here. All of it, or nothing.

    limit: bytes of all files together; max_bytes, max_nodes: of the document. Raises RequestError (`bad_parcel`, `too_large`)
    for what is no parcel or a hostile one, DocumentError for the document in it.
    """
    _check_directory(source)
    waiting: list[tuple[dict[str, Any], Path, int]] = []
    try:
        with zipfile.ZipFile(source) as archive:
            entries = _checked(archive, source.stat().st_size, limit, max_bytes)
            document = parse(
                load_json(archive.read(entries[DOCUMENT]), max_bytes=max_bytes),
                max_bytes=max_bytes,
                max_nodes=max_nodes,
            ).raw
            listed = _manifest(load_json(archive.read(entries[MANIFEST]), max_bytes=MANIFEST_BYTES), entries, document)
            for entry, info in listed:
                waiting.append(
                    (entry, _extract(archive, info, entry["digest"], folders.roots["input"]), info.file_size)
                )
        files = []
        for entry, temporary, size in waiting:
            name = inbox.safe_name(entry["name"])
            path, existing = inbox.settle(folders.roots["input"], name, temporary, entry["digest"], size)
            files.append({**folders.describe(path, media_type(path.name)), "existing": existing})
            for place in entry["uses"]:
                document = _replaced(document, _steps(place), files[-1]["name"])
        return Opened(document, files)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, OSError, RuntimeError, ValueError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # of the disk, not of the archive
        raise _bad(f"it cannot be read: {str(error)[:200]}") from None
    finally:
        for _, temporary, _ in waiting:
            temporary.unlink(missing_ok=True)


def _check_directory(source: Path) -> None:
    """The size of the list of entries, before anything reads it. An archive that needs zip64 is larger than any here."""
    size = source.stat().st_size
    with source.open("rb") as file:
        file.seek(max(0, size - 65_536 - _END.size))
        tail = file.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or at + _END.size > len(tail):
        raise _bad("it is no zip archive")
    _, disk, first, here, entries, directory, _, _ = _END.unpack_from(tail, at)
    if disk or first or here != entries or 0xFFFF in (entries, here) or directory == 0xFFFFFFFF:
        raise _bad("it is an archive of several parts or of the 64 bit kind")
    if entries > MAX_FILES + 2 or directory > MAX_DIRECTORY_BYTES:
        raise _bad(f"it has {entries} entries, more than {MAX_FILES}")


def _checked(archive: zipfile.ZipFile, size: int, limit: int, max_bytes: int) -> dict[str, zipfile.ZipInfo]:
    """Every entry by its name; only names, kinds and sizes that a parcel has."""
    found: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.orig_filename
        if name not in (DOCUMENT, MANIFEST) and not _ENTRY.fullmatch(name):
            raise _bad(f"{ascii(name)[:80]} is no name of an entry")
        if name in found:
            raise _bad(f"{name} is there twice")
        if info.flag_bits & 0x1:
            raise _bad(f"{name} is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _bad(f"{name} is compressed in a way that is not known")
        found[name] = info
    if DOCUMENT not in found or MANIFEST not in found:
        raise _bad(f"it has no {DOCUMENT if DOCUMENT not in found else MANIFEST}")
    for name, most in ((DOCUMENT, max_bytes), (MANIFEST, MANIFEST_BYTES)):
        if found[name].file_size > most:
            raise too_large(name, found[name].file_size, most)
    unpacked = sum(info.file_size for info in found.values())
    if sum(info.compress_size for info in found.values()) > size or unpacked > max(GROWTH * size, ROOM_BYTES):
        raise _bad(f"it would unpack to {unpacked:,} bytes out of {size:,}")
    if unpacked > limit:
        raise too_large("what it unpacks to", unpacked, limit)
    return found


def _manifest(
    raw: Any, entries: Mapping[str, zipfile.ZipInfo], document: Any
) -> list[tuple[dict[str, Any], zipfile.ZipInfo]]:
    """Its files with their entries; every file is listed and every place names a text of the document."""
    if not isinstance(raw, dict) or raw.get("format") != FORMAT or not isinstance(raw.get("files"), list):
        raise _bad(f"its {MANIFEST} is none")
    if raw.get("version") != VERSION:
        raise _bad(f"it has version {str(raw.get('version'))[:20]}, newer than {VERSION}; update Anyloom")
    by_digest = {name[6:38]: info for name, info in entries.items() if name.startswith("files/")}
    found: list[tuple[dict[str, Any], zipfile.ZipInfo]] = []
    places: set[str] = set()
    for entry in raw["files"]:
        digest = entry.get("digest") if isinstance(entry, dict) else None
        if not isinstance(digest, str) or digest not in by_digest or not isinstance(entry.get("name"), str):
            raise _bad(f"its {MANIFEST} lists a file that is not there")
        if not isinstance(entry.get("uses"), list) or not all(isinstance(place, str) for place in entry["uses"]):
            raise _bad(f"its {MANIFEST} does not say where {digest} is used")
        for place in entry["uses"]:
            if place in places or len(places) >= MAX_USES or not isinstance(_at(document, _steps(place)), str):
                raise _bad(f"{place[:80]!r} is no place of its document that names a file")
            places.add(place)
        found.append((entry, by_digest.pop(digest)))
    if by_digest:
        raise _bad(f"it has files that its {MANIFEST} does not list")
    return found


def _extract(archive: zipfile.ZipFile, info: zipfile.ZipInfo, digest: str, root: Path) -> Path:
    """The entry as a temporary file in the input folder, when its content is what its name says."""
    handle, temporary = tempfile.mkstemp(dir=root, prefix=".upload-", suffix=".part")
    path, found, size = Path(temporary), hashlib.blake2b(digest_size=16), 0
    try:
        with os.fdopen(handle, "wb") as file, archive.open(info) as entry:
            while part := entry.read(PIECE_BYTES):
                size += len(part)
                if size > info.file_size:
                    raise _bad(f"{info.filename} is larger than it says")
                found.update(part)
                file.write(part)
        if found.hexdigest() != digest or size != info.file_size:
            raise _bad(f"the content of {info.filename} is not what its name says")
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def _steps(pointer: str) -> list[str]:
    if not pointer.startswith("/") or pointer.count("/") > 64:
        raise _bad(f"{pointer[:80]!r} is no place of its document")
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer[1:].split("/")]


def _at(value: Any, steps: list[str]) -> Any:
    for step in steps:
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list):
            value = value[int(step)] if re.fullmatch(r"\d{1,6}", step) and int(step) < len(value) else None
        else:
            return None
    return value


def _replaced(value: Any, steps: list[str], by: str) -> Any:
    """A copy of what leads to the place; the rest is shared."""
    if not steps:
        return by
    step, *rest = steps
    if isinstance(value, list):
        index = int(step)
        return [*value[:index], _replaced(value[index], rest, by), *value[index + 1 :]]
    return {**value, step: _replaced(value[step], rest, by)}


def _suffix(name: str) -> str:
    suffix = PurePosixPath(inbox.safe_name(name)).suffix
    with suppress(UnicodeEncodeError):
        suffix.encode("ascii")
        return suffix if re.fullmatch(r"\.[A-Za-z0-9]{1,16}", suffix) else ""
    return ""


def _bad(why: str) -> RequestError:
    return RequestError(
        f"this file is no shared workflow that can be opened: {why}.",
        remedy="Ask for it again; `Share as one file` in the editor makes one.",
        code="bad_parcel",
    )
