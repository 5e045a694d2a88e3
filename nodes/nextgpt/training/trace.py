"""The trace of a stage: one line of JSON per step, for people and curves. Training goes on by snapshots, not by it."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from graph_engine.errors import StoreError

NAME = "trace.jsonl"


class Trace:
    """Lines after the snapshot from which training goes on are dropped. Raises StoreError for a full disk."""

    def __init__(self, path: Path, done: int) -> None:
        self.path = path
        draft = path.with_name(f"{path.name}.part")
        with self._named():
            path.parent.mkdir(parents=True, exist_ok=True)
            kept = path.read_text(encoding="utf-8").splitlines(keepends=True)[:done] if path.is_file() else []
            # Line by line, so that whatever ends the process, the trace has every step that a snapshot has.
            self._file = draft.open("w", encoding="utf-8", buffering=1)
            try:
                self._file.writelines(kept)
                draft.replace(path)
            except OSError:
                self.close()
                draft.unlink(missing_ok=True)
                raise

    def add(self, event: Mapping[str, Any]) -> None:
        rounded = {
            key: round(value, 6) if isinstance(value, float) and math.isfinite(value) else value
            for key, value in event.items()
        }
        with self._named():
            self._file.write(json.dumps(rounded) + "\n")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"{self.path} cannot be written: {error.strerror or error}.",
                remedy="Make room and go on with --resume, from the last snapshot.",
                code="checkpoint_unwritable",
            ) from error
