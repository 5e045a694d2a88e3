"""A data set on disk to talks: JSON, JSON lines, webdataset archives and Hugging Face data sets, with every fault and its
place.

A path is a file or a folder. Media are looked for beside the file, in folders called like their modality (`image`,
`images`), and one folder up, which is where the original's layout has them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graph_engine.errors import InvalidError, Problem, RequestError
from nodes.nextgpt.training.data.archive import archived
from nodes.nextgpt.training.data.hugging_face import is_saved, saved
from nodes.nextgpt.training.data.record import Broken, Find, talks_of
from nodes.nextgpt.training.world.talk import Talk

ENDINGS = (".json", ".jsonl", ".tar")
SHOWN = 20
"""Problems that an error lists; the count is of all."""


@dataclass(frozen=True)
class DataSet:
    """talks that are good, and problems of the records that are not, with "FILE:RECORD" as their place."""

    talks: tuple[Talk, ...]
    problems: tuple[Problem, ...]

    @property
    def kinds(self) -> Counter[str]:
        return Counter(talk.kind for talk in self.talks)


def read_set(path: Path) -> DataSet:
    """Everything that can be read, and everything that cannot. Raises RequestError for a path without annotations."""
    whole = path.is_file() or is_saved(path)
    files = [path] if whole else sorted(p for p in path.rglob("*") if p.suffix in ENDINGS) if path.is_dir() else []
    if not files:
        raise RequestError(
            f"{path} holds no data set.",
            remedy="Give a .json, .jsonl or .tar file, or a folder with some.",
            code="no_data",
        )
    talks: list[Talk] = []
    problems: list[Problem] = []
    for file in files:
        for place, record, find in _records(file, problems):
            try:
                talks += talks_of(record, find)
            except Broken as error:
                problems.append(Problem(error.code, f"{error}.", "Correct or remove the record.", place=place))
    return DataSet(tuple(talks), tuple(problems))


def read_talks(path: Path, kinds: Sequence[str]) -> list[Talk]:
    """The talks of these kinds. Raises InvalidError with the problems of broken records, RequestError for none at all."""
    found = read_set(path)
    if found.problems:
        raise InvalidError(found.problems[:SHOWN])
    talks = [talk for talk in found.talks if talk.kind in kinds]
    if not talks:
        there = ", ".join(f"{count} {kind}" for kind, count in sorted(found.kinds.items())) or "nothing"
        raise RequestError(
            f"{path} has no talks of the kinds {', '.join(kinds)}; it has {there}.",
            remedy="Give another data set, or train another stage with this one.",
            code="empty_data",
        )
    return talks


def _records(file: Path, problems: list[Problem]) -> Iterator[tuple[str, Any, Find]]:
    if is_saved(file):
        yield from saved(file, problems)
        return
    if file.suffix == ".tar":
        yield from archived(file, problems)
        return
    find = _beside(file)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problems.append(Problem("unreadable", f"it cannot be read: {error}.", "Fetch it again.", place=str(file)))
        return
    if file.suffix == ".jsonl":
        # Not splitlines: it also splits at letters that may stand in a caption, U+2028 for one.
        for number, line in enumerate(text.split("\n"), 1):
            if not line.strip():
                continue
            try:
                yield f"{file}:{number}", json.loads(line), find
            except (ValueError, RecursionError) as error:
                told = Problem("bad_line", f"the line is no JSON: {error}.", "Correct it.", place=f"{file}:{number}")
                problems.append(told)
        return
    try:
        records = json.loads(text)
    except (ValueError, RecursionError) as error:
        problems.append(Problem("bad_line", f"it is no JSON: {error}.", "Correct it.", place=str(file)))
        return
    if not isinstance(records, list):
        problems.append(Problem("bad_record", "it holds no list of records.", "Give a list.", place=str(file)))
        return
    for number, record in enumerate(records, 1):
        yield f"{file}:{number}", record, find


def _beside(file: Path) -> Find:
    roots = (file.parent, file.parent.parent)

    def find(modality: str, name: str) -> Path | None:
        for root in roots:
            for folder in ("", modality, f"{modality}s"):
                try:
                    path = (root / folder / name).resolve()
                    # A name of a data set may not lead out of it.
                    if path.is_relative_to(root.resolve()) and path.is_file():
                        return path
                except (OSError, ValueError):  # letters that no file name has, or too many
                    return None
        return None

    return find
