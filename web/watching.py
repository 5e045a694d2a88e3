"""From the batches of a run's log to frames of bearable size."""

from __future__ import annotations

from collections.abc import Iterator

from graph_engine.execute.events import Event

PIECE_BYTES = 512 * 1024
LIGHT = frozenset({"running", "done", "cached", "started", "queued", "skipped", "blocked", "cancelled", "progress"})
"""Types whose events are small, whatever a node does."""


def pieces(batch: list[Event]) -> Iterator[list[Event]]:
    """The batch in parts of about PIECE_BYTES, so that a thousand previews are not one frame."""
    start = weight = 0
    for index, event in enumerate(batch):
        if event.type not in LIGHT:
            weight += _weight(event)
            if weight > PIECE_BYTES and index > start:
                yield batch[start:index]
                start, weight = index, _weight(event)
    yield batch[start:] if start else batch


def _weight(event: Event) -> int:
    image = event.data.get("image")
    if isinstance(image, bytes):
        return len(image)
    if event.type in ("chunk", "log"):
        return sum(len(value) for value in event.data.values() if isinstance(value, str))
    return 1000
