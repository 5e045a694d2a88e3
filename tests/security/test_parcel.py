"""Shared workflows: what was packed is opened elsewhere as it was; nothing hostile leaves a trace."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graph_engine.errors import AnyloomError, NotFoundError, RequestError
from graph_engine.graph.registry import Registry
from graph_engine.store.folders import Folders
from web import parcel

LIMIT = 1 << 20


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.discover()


def folders(root: Path) -> Folders:
    return Folders(root / "input", root / "output", root / "temp")


def document(**files: Any) -> dict[str, Any]:
    nodes = {id: {"type": "media.load_image", "values": {"file": name}} for id, name in files.items()}
    return {"format": "anyloom", "version": 1, "title": "shared", "nodes": nodes}


def test_a_workflow_goes_elsewhere_with_its_files(tmp_path: Path, registry: Registry) -> None:
    here, there = folders(tmp_path / "here"), folders(tmp_path / "there")
    (here.roots["input"] / "cat.png").write_bytes(b"a cat")
    (here.roots["output"] / "made.png").write_bytes(b"made")
    (here.roots["input"] / "same.png").write_bytes(b"a cat")
    (there.roots["input"] / "cat.png").write_bytes(b"another cat")
    (there.roots["input"] / "made.png").write_bytes(b"made")
    raw = document(a="cat.png", b="output/made.png", c="same.png", d="")
    raw["ui"] = {"kept/as~it": ["is"]}
    # at any depth: a graph inside the document
    raw["inner"] = [{"nodes": {"e": {"type": "media.load_image", "values": {"file": "cat.png"}}}}]
    packed = io.BytesIO()
    parcel.pack(raw, here, registry, packed, LIMIT)
    with zipfile.ZipFile(packed) as archive:
        assert json.loads(archive.read("workflow.json")) == raw
        assert len(archive.namelist()) == 4  # equal content once
    (tmp_path / "x.anyloom").write_bytes(packed.getvalue())
    opened = parcel.unpack(tmp_path / "x.anyloom", there, LIMIT)
    nodes = opened.document["nodes"]
    assert nodes["a"]["values"]["file"] == nodes["c"]["values"]["file"] == "cat (1).png"
    assert nodes["b"]["values"]["file"] == "made.png"
    assert opened.document["inner"][0]["nodes"]["e"]["values"]["file"] == "cat (1).png"
    assert opened.document["ui"] == raw["ui"]
    assert (there.roots["input"] / "cat (1).png").read_bytes() == b"a cat"
    assert [(file["name"], file["existing"]) for file in opened.files] == [("cat (1).png", False), ("made.png", True)]
    again = parcel.unpack(tmp_path / "x.anyloom", there, LIMIT)
    assert all(file["existing"] for file in again.files)
    assert sorted(path.name for path in there.roots["input"].iterdir()) == ["cat (1).png", "cat.png", "made.png"]


def test_what_cannot_be_shared_is_named(tmp_path: Path, registry: Registry) -> None:
    here = folders(tmp_path)
    with pytest.raises(NotFoundError) as missing:
        parcel.pack(document(a="gone.png"), here, registry, io.BytesIO(), LIMIT)
    assert (missing.value.problem.node, missing.value.problem.port) == ("a", "file")
    with pytest.raises(NotFoundError):
        parcel.pack(document(a="../../etc/passwd"), here, registry, io.BytesIO(), LIMIT)
    (here.roots["input"] / "large.png").write_bytes(bytes(2000))
    with pytest.raises(RequestError) as large:
        parcel.pack(document(a="large.png"), here, registry, io.BytesIO(), 1999)
    assert large.value.problem.code == "too_large"


Entries = dict[str, bytes]


def entries(content: bytes = b"a cat", name: str = "cat.png", place: str = "/nodes/a/values/file") -> Entries:
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    manifest = {"format": "anyloom.parcel", "version": 1, "files": [{"digest": digest, "name": name, "uses": [place]}]}
    return {
        "parcel.json": json.dumps(manifest).encode(),
        "workflow.json": json.dumps(document(a="cat.png")).encode(),
        f"files/{digest}.png": content,
    }


def zipped(found: Entries, method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in found.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return out.getvalue()


def without(name: str) -> bytes:
    return zipped({key: value for key, value in entries().items() if key != name})


def with_(name: str, content: bytes = b"x") -> bytes:
    return zipped({**entries(), name: content})


def twice() -> bytes:
    """An entry under a name that is there already: readers differ in which one they take."""
    data = with_("files/" + "0" * 32 + ".pnx")
    digest = next(name for name in entries() if name.startswith("files/"))
    return data.replace(("files/" + "0" * 32 + ".pnx").encode(), digest.encode())


def overlapping() -> bytes:
    """Many entries that share one stretch of the archive: each is small, all together are not."""
    data = bytearray(zipped(entries(bytes(50_000))))
    at = data.rfind(b"PK\5\6")
    start = int.from_bytes(data[at + 16 : at + 20], "little")
    last = data.rfind(b"PK\1\2", 0, at)
    record = bytes(data[last:at])
    extra = b"".join(record.replace(b".png", f".p{number:02}".encode()) for number in range(40))
    size = at - start + len(extra)
    head = bytes(data[:at]) + extra
    end = bytearray(data[at:])
    end[8:10] = end[10:12] = (43).to_bytes(2, "little")
    end[12:16] = size.to_bytes(4, "little")
    return head + bytes(end)


HOSTILE: dict[str, tuple[str, Callable[[], bytes]]] = {
    "no zip": ("no zip", lambda: b"GIF89a" * 100),
    "nothing": ("no zip", lambda: b""),
    "half of one": ("no zip", lambda: zipped(entries())[:300]),
    "its end alone": ("cannot be read", lambda: zipped(entries())[-22:]),
    "a path upwards": ("no name", lambda: with_("../../evil.png")),
    "a path of the root": ("no name", lambda: with_("/etc/evil")),
    "a path with backslashes": ("no name", lambda: with_("files\\..\\evil")),
    "a folder": ("no name", lambda: with_("files/")),
    "a file that is not listed": ("does not list", lambda: with_("files/" + "0" * 32 + ".png")),
    "no manifest": ("has no parcel", lambda: without("parcel.json")),
    "no document": ("has no workflow", lambda: without("workflow.json")),
    "a manifest that is none": ("is none", lambda: zipped({**entries(), "parcel.json": b"[]"})),
    "a manifest that is no JSON": ("UTF-8", lambda: zipped({**entries(), "parcel.json": b"\xff{"})),
    "a newer one": (
        "version 2",
        lambda: zipped(
            {**entries(), "parcel.json": entries()["parcel.json"].replace(b'"version": 1', b'"version": 2')}
        ),
    ),
    "a document that is none": ("not an Anyloom", lambda: zipped({**entries(), "workflow.json": b'{"nodes": []}'})),
    "a place that is none": ("no place", lambda: zipped(entries(place="/nodes/b/values/file"))),
    "a place that is no text": ("no place", lambda: zipped(entries(place="/nodes/a"))),
    "a place that is deep": ("no place", lambda: zipped(entries(place="/a" * 100))),
    "a changed byte": ("CRC", lambda: zipped(entries()).replace(b"a cat", b"a dog")),
    "content under another name": (
        "not what its name says",
        lambda: zipped(
            {name: b"a dog" if name.startswith("files/") else content for name, content in entries().items()}
        ),
    ),
    "a bomb": ("unpack to", lambda: zipped(entries(bytes(80 << 20)), zipfile.ZIP_DEFLATED)),
    "more than the limit": ("more than the limit", lambda: zipped(entries(bytes(LIMIT + 1)))),
    "many entries": ("1103 entries", lambda: zipped({**entries(), **{f"files/{n:032x}": b"" for n in range(1100)}})),
    "one entry twice": ("twice", twice),
    "entries over each other": ("unpack to", overlapping),
    "another compression": ("compressed in a way", lambda: zipped(entries(), zipfile.ZIP_BZIP2)),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_nothing_hostile_is_opened(tmp_path: Path, kind: str) -> None:
    there = folders(tmp_path / "data")
    path = tmp_path / "x.anyloom"
    why, make = HOSTILE[kind]
    path.write_bytes(make())
    with pytest.raises(AnyloomError, match=re.escape(why)) as refused:
        parcel.unpack(path, there, LIMIT)
    assert refused.value.problem.code != "error"
    assert refused.value.problem.remedy
    assert [entry for root in there.roots.values() for entry in root.iterdir()] == []
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["data", "x.anyloom"]


def test_the_archive_of_these_tests_is_opened_when_nothing_is_wrong_with_it(tmp_path: Path) -> None:
    path = tmp_path / "x.anyloom"
    path.write_bytes(zipped(entries(name="../..\\a?b.png")))
    opened = parcel.unpack(path, folders(tmp_path / "data"), LIMIT)
    assert re.fullmatch(r"[\w ._-]+\.png", opened.document["nodes"]["a"]["values"]["file"])
