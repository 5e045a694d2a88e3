"""Result: what a run gave, with the texts and files among it in reach."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any


class Result:
    """A run that has ended (or was not waited for): its record with the results in reach."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self.record = dict(record)
        self.id: str = record["id"]
        self.status: str = record["status"]
        self.outputs: dict[str, dict[str, Any]] = record["result"]
        self.errors: list[dict[str, Any]] = record["errors"]

    @property
    def ok(self) -> bool:
        return self.status == "succeeded"

    def _values(self, kind: str) -> Iterator[Any]:
        pending = deque(value for ports in self.outputs.values() for value in ports.values())
        while pending:
            value = pending.popleft()
            if isinstance(value, list):
                pending.extendleft(reversed(value))
            elif isinstance(value, dict):
                if isinstance(value.get(kind), dict if kind == "file" else str):
                    yield value
            elif kind == "text" and isinstance(value, str):
                yield value

    @property
    def text(self) -> str:
        """Every text among the results, one after the other."""
        return "\n".join(value if isinstance(value, str) else value["text"] for value in self._values("text"))

    @property
    def files(self) -> list[dict[str, Any]]:
        """Every file among the results: {folder, name, media_type, bytes}."""
        return [value["file"] for value in self._values("file")]

    @property
    def artifacts(self) -> list[dict[str, Any]]:
        """Every large value: {artifact, port, kind, summary}; fetch it with `client.artifact`."""
        return list(self._values("artifact"))

    def __repr__(self) -> str:
        return f"<Result {self.id} {self.status}: {len(self.text)} characters, {len(self.files)} files>"


def places(files: Iterable[Mapping[str, Any]], folder: str | Path) -> list[Path]:
    """Where each file of one result goes: under its own name and subfolders inside `folder`, each at a place of its own.

    A name leads nowhere else, whatever a server says. Equal names, as of an output and a preview, are numbered.
    """
    taken: set[Path] = set()
    found = []
    for file in files:
        parts = [part for part in PurePosixPath(file["name"]).parts if part not in ("/", "//", "..")]
        wanted = path = Path(folder, *(parts or ["file"]))
        number = 0
        while path in taken:
            number += 1
            path = wanted.with_name(f"{wanted.stem} ({number}){wanted.suffix}")
        taken.add(path)
        found.append(path)
    return found
