"""Durations: how long steps computed, as it was seen, kept over restarts.

One row per node type, kind of device and size class, as of what they took in memory (`estimates.py`), one for all sizes, and
per pass: twenty denoising steps teach what fifty take. A file of JSON beside the queue, replaced as a whole; a damaged one
is begun anew, because it holds nothing that cannot be learned again.
"""

from __future__ import annotations

import json
import os
import threading
from contextlib import suppress
from pathlib import Path

FILE_NAME = "durations.json"
MEMORY = 0.25
"""Weight of the latest time in what is usual."""
KEPT = 2_000
"""Rows; those that were not seen for longest go."""


class Durations:
    """Any thread."""

    def __init__(self, folder: Path | None = None) -> None:
        """Without a folder nothing is kept."""
        self._path = folder / FILE_NAME if folder is not None else None
        self._lock = threading.Lock()
        self._pass_s: dict[str, float] = {}
        """Row -> seconds per pass, those seen last at the end."""
        self._changed = False
        if self._path is not None:
            with suppress(OSError, ValueError, TypeError, AttributeError, KeyError):
                rows = json.loads(self._path.read_text("utf-8"))["pass_s"]
                self._pass_s = {str(row): max(0.0, float(seconds)) for row, seconds in rows.items()}

    def saw(self, row: str, seconds: float, passes: int = 1) -> None:
        """A step of this row computed for so long, in so many passes."""
        latest = seconds / max(1, passes)
        with self._lock:
            usual = self._pass_s.pop(row, latest)
            self._pass_s[row] = usual + MEMORY * (latest - usual)
            if len(self._pass_s) > KEPT:
                del self._pass_s[next(iter(self._pass_s))]
            self._changed = True

    def usual_s(self, row: str, passes: int = 1) -> float | None:
        """How long a step of this row may be expected to compute; None while none was seen."""
        with self._lock:
            usual = self._pass_s.get(row)
        return None if usual is None else usual * max(1, passes)

    def save(self) -> None:
        """To the file, if there is something new. A disk that fails changes nothing: it is learned again."""
        with self._lock:
            if self._path is None or not self._changed:
                return
            self._changed = False
            text = json.dumps({"pass_s": self._pass_s}, indent=1)
            fresh = self._path.with_suffix(".new")
            with suppress(OSError):
                fresh.write_text(text, "utf-8")
                os.replace(fresh, self._path)
