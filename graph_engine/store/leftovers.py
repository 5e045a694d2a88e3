"""What is left over: scratch folders and half files of engines that were killed, and previews that no result names."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

_SCRATCH = re.compile(r"(job|worker)-[a-z0-9_]{8}")
"""As `mkdtemp` names the folders of jobs and of processes of devices."""
_PARCEL = re.compile(r"\.parcel-[a-z0-9_]{8}")
"""A workflow with its media, while it is made."""
_UPLOAD = re.compile(r"\.upload-[a-z0-9_]{8}\.part")
"""A file, while it comes in."""
_SLACK_S = 2.0
"""A file system may tell the time more coarsely than the clock that a run began by."""


def remove_scratch(temp: Path, input: Path) -> int:
    """Remove what engines that were killed left there; returns how many things. Call it before an engine begins anything,
    with the lock of its data folder held: then nobody uses them.

    Where a folder is a link, another engine may have the same one, so nothing is removed.
    """
    folders = [path for path in _entries(temp) if _SCRATCH.fullmatch(path.name) and path.is_dir()]
    files = [path for path in _entries(temp) if _PARCEL.fullmatch(path.name)]
    files += [path for path in _entries(input) if _UPLOAD.fullmatch(path.name)]
    for path in folders:
        shutil.rmtree(path, ignore_errors=True)
    for path in files:
        with suppress(OSError):
            path.unlink()
    return sum(not path.exists() for path in folders + files)


def _entries(folder: Path) -> list[Path]:
    if folder.is_symlink() or not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if not path.is_symlink()]


class Named:
    """The files in `temp` that results name."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._spans: list[tuple[float, float]] = []
        """Unix seconds, of runs with results too large for the record: which files those name is not known here."""

    def add(self, result: Any, created: float, finished: float | None) -> None:
        """result: of a run's record, or a part of one; created, finished: of the run, unix seconds."""
        for one in _objects(result):
            if one.get("folder") == "temp" and isinstance(one.get("name"), str):
                self._names.add(one["name"])
            if "artifact" in one:
                self._spans.append((created - _SLACK_S, float("inf") if finished is None else finished + _SLACK_S))

    def has(self, name: str, written: float) -> bool:
        """Whether some result names this file, or may. written: unix seconds."""
        return name in self._names or any(begin <= written <= end for begin, end in self._spans)


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


def remove_previews(temp: Path, named: Named, before: float, stopped: Callable[[], bool]) -> int:
    """Remove the files that were written before unix second `before` and that no result names; returns how many.

    Hidden files and scratch folders are left alone. Blocks; call it in a thread. stopped: asked before each file.
    """
    if temp.is_symlink():
        return 0
    count = 0
    for folder, folders, files in os.walk(temp):
        here = Path(folder)
        folders[:] = [
            name for name in folders if not name.startswith(".") and not (here == temp and _SCRATCH.match(name))
        ]
        for file in files:
            if stopped():
                return count
            path = here / file
            with suppress(OSError):
                facts = path.lstat()
                name = path.relative_to(temp).as_posix()
                if not file.startswith(".") and facts.st_mtime < before and not named.has(name, facts.st_mtime):
                    path.unlink()
                    count += 1
    return count
