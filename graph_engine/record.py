"""A run as people see it: in lists, in history, as the answer to a call."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

STATUSES = ("queued", "running", "succeeded", "partial", "failed", "cancelled")
ENDED = frozenset(STATUSES[2:])


@dataclass(slots=True)
class RunRecord:
    """Times are unix seconds; `result` is {node: {port: value}} for the targets.

    A value in `result` is JSON: a literal as it is, a FILE as {"file": {folder, name, media_type, bytes, ...}}, a skipped
    port as {"skipped": message}, and anything large as {"artifact": key, "port": index, "kind": name, "summary": text},
    to be fetched with `Engine.artifact(key)`.
    """

    id: str
    status: str
    number: int = 0
    name: str = ""
    client: str = ""
    priority: int = 0
    created: float = 0.0
    started: float | None = None
    finished: float | None = None
    nodes: int = 0
    result: dict[str, dict[str, Any]] = field(default_factory=dict)
    errors: list[dict[str, Any]] = field(default_factory=list)
    paused: list[str] = field(default_factory=list)
    """Nodes at whose breakpoint it waits, at the moment it was asked for."""

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}
