"""Fields of a request, read strictly: what they are, or RequestError that names the place."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from graph_engine.errors import RequestError
from graph_engine.record import STATUSES

Request = Mapping[str, Any]
FRAME = frozenset({"op", "id"})
"""Fields of every request of a websocket."""


def only(request: Request, names: Iterable[str], place: str = "") -> None:
    """Raises RequestError for a field that is none of these: it would be as if it had not been sent, silently."""
    known = list(names)
    for name in request:
        if name not in known:
            shown = str(name)[:80]
            near = difflib.get_close_matches(shown, known, 1, 0.6)
            raise RequestError(
                f"there is no field {shown!r} here.",
                remedy=f"Did you mean {near[0]!r}?" if near else f"Use only {', '.join(known)}.",
                code="unknown_field",
                place=f"{place}/{shown}",
            )


def unframed(request: Request) -> Request:
    """A request of a websocket as a request of HTTP has it."""
    return {name: value for name, value in request.items() if name not in FRAME}


def text(request: Request, name: str) -> str:
    value = request.get(name)
    if not isinstance(value, str) or not value:
        raise RequestError(f'"{name}" must be a text.', remedy="Name it.", code="bad_field", place=f"/{name}")
    return value


def status(request: Request) -> str | None:
    found = request.get("status")
    if found is not None and found not in STATUSES:
        raise RequestError(
            f"{str(found)[:40]!r} is no status.",
            remedy=f"Use one of {', '.join(STATUSES)}.",
            code="bad_field",
            place="/status",
        )
    return found


def tag(request: Request) -> str:
    found = request.get("tag", "")
    if not isinstance(found, str) or len(found) > 64:
        raise RequestError('"tag" must be a short text.', remedy="Correct it.", code="bad_field", place="/tag")
    return found


def number(request: Request, name: str, default: int, high: int) -> int:
    value = request.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= high:
        raise RequestError(
            f'"{name}" must be a whole number in 0..{high}.', remedy="Correct it.", code="bad_field", place=f"/{name}"
        )
    return value
