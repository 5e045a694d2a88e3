"""Estimates: what jobs took in memory beside their models, as it was seen, kept over restarts.

One row per node type, kind of device and size class (the power of two above what the type states for its literals), so that
a film teaches nothing about a thumbnail. A file of JSON beside the queue, replaced as a whole; a damaged one is begun anew,
because it holds nothing that cannot be learned again.
"""

from __future__ import annotations

import json
import os
import threading
from contextlib import suppress
from pathlib import Path

FILE_NAME = "estimates.json"
MARGIN = 1.25
"""Over the most that was seen: the next one may take a little more."""


class Estimates:
    """Any thread. seen: the most a job took; least: what was too little when a job ran out of memory."""

    def __init__(self, folder: Path | None = None) -> None:
        """Without a folder nothing is kept."""
        self._path = folder / FILE_NAME if folder is not None else None
        self._lock = threading.Lock()
        self._seen: dict[str, int] = {}
        self._least: dict[str, int] = {}
        self._changed = False
        if self._path is not None:
            with suppress(OSError, ValueError, TypeError, AttributeError):
                entry = json.loads(self._path.read_text("utf-8"))
                self._seen = {str(key): int(value) for key, value in entry["seen"].items()}
                self._least = {str(key): int(value) for key, value in entry["least"].items()}

    def corrected(self, row: str, stated: int) -> int:
        """What to reserve for a job whose type states so many bytes."""
        with self._lock:
            seen = self._seen.get(row)
            return max(round(seen * MARGIN) if seen is not None else stated, self._least.get(row, 0))

    def saw(self, row: str, bytes: int) -> None:
        """A job of this row took so many bytes at its peak."""
        with self._lock:
            if bytes > self._seen.get(row, -1):
                self._seen[row], self._changed = bytes, True

    def too_little(self, row: str, bytes: int) -> None:
        """A job ran out of memory: keep so many for the next one. Written at once, the process may not live long."""
        with self._lock:
            self._least[row] = max(bytes, self._least.get(row, 0))
            self._changed = True
        self.save()

    def least(self, row: str) -> int:
        with self._lock:
            return self._least.get(row, 0)

    def save(self) -> None:
        """To the file, if there is something new. A disk that fails changes nothing: it is learned again."""
        with self._lock:
            if self._path is None or not self._changed:
                return
            self._changed = False
            text = json.dumps({"seen": self._seen, "least": self._least}, indent=1, sort_keys=True)
            fresh = self._path.with_suffix(".new")
            with suppress(OSError):
                fresh.write_text(text, "utf-8")
                os.replace(fresh, self._path)


def row_of(type: str, version: str, device: str, stated: int) -> str:
    """The row for a job of this type, version and size on this device."""
    size = 1 << (stated - 1).bit_length() if stated > 0 else 0
    return f"{type}@{version} {device.partition(':')[0]} {size}"
