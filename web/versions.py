"""Versions: what a saved workflow was before it was saved again, so that nothing is lost by saving or removing it.

One file per former state in `.versions/NAME/`, named by the moment at which it was replaced and by its digest.
"""

from __future__ import annotations

import calendar
import os
import re
import time
from pathlib import Path
from typing import NamedTuple

from graph_engine.errors import NotFoundError
from web.paths import leads_inside

FOLDER = ".versions"
KEPT = 100
KEPT_BYTES = 64 << 20
"""Per workflow; the newest one is kept whatever its size."""
ID = re.compile(r"\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{16}")


class Version(NamedTuple):
    """replaced: unix seconds at which something else took its place."""

    id: str
    replaced: float
    etag: str
    bytes: int


def keep(root: Path, name: str, path: Path, etag: str) -> None:
    """`path` is about to be replaced or removed: keep what it holds now."""
    folder = _folder(root, name)
    folder.mkdir(parents=True, exist_ok=True)
    now = time.time()
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"
    target = folder / f"{stamp}-{etag}.json"
    try:
        os.link(path, target)  # the file itself is never written to: a new one takes its place
    except OSError:  # a file system without links
        target.write_bytes(path.read_bytes())
    _prune(root, name)


def versions(root: Path, name: str) -> list[Version]:
    """Newest first."""
    found = []
    folder = _folder(root, name)
    for path in folder.iterdir() if folder.is_dir() else ():
        if ID.fullmatch(path.stem) and path.suffix == ".json" and path.is_file() and not path.is_symlink():
            found.append(Version(path.stem, _moment(path.stem), path.stem.rpartition("-")[2], path.stat().st_size))
    return sorted(found, reverse=True)


def locate(root: Path, name: str, id: str) -> Path:
    """Raises NotFoundError."""
    path = _folder(root, name) / f"{id}.json"
    if not ID.fullmatch(id) or not leads_inside(path, root.resolve()) or not path.is_file():
        raise NotFoundError(
            f"{name!r} has no version {id[:60]!r}.",
            remedy=f"GET /api/v1/versions/{name} lists them; old ones make way for new ones.",
            code="unknown_version",
        )
    return path


def _prune(root: Path, name: str) -> None:
    total = 0
    for number, version in enumerate(versions(root, name)):
        total += version.bytes
        if number and (number >= KEPT or total > KEPT_BYTES):
            locate(root, name, version.id).unlink(missing_ok=True)


def _folder(root: Path, name: str) -> Path:
    return root / FOLDER / name


def _moment(id: str) -> float:
    whole, _, fraction = id.partition("Z-")[0].partition(".")
    return calendar.timegm(time.strptime(whole, "%Y%m%dT%H%M%S")) + int(fraction) / 1e6
