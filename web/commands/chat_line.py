"""Line: what a person typed into the chat: words, a command, or files dropped into the terminal."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from nodes.nextgpt.modality import SPOKEN
from web.media_types import media_type


class Words(NamedTuple):
    text: str


class Command(NamedTuple):
    name: str
    rest: str


class Dropped(NamedTuple):
    paths: tuple[Path, ...]


ATTACH = tuple(SPOKEN)
"""`/image PATH`, `/video PATH`, ...: one command per modality that a turn can show."""
_COMMAND = re.compile(r"/([a-z]+)(?:\s+(.*))?", re.DOTALL)


def understand(line: str) -> Words | Command | Dropped | None:
    """None for an empty line. A line of nothing but paths of media files attaches them; `/text` is never needed for
    words that merely hold a path."""
    line = line.strip()
    if not line:
        return None
    paths = _paths(line)
    if paths and all(path.is_file() and is_medium(path) for path in paths):
        return Dropped(tuple(paths))
    match = _COMMAND.fullmatch(line)
    if match is not None:
        return Command(match[1], (match[2] or "").strip())
    if paths and len(paths) == 1 and line[0] in "/~'\"" and is_medium(paths[0]):
        return Dropped(tuple(paths))  # meant as a file, and the caller says that it is not there
    if line.startswith("/"):
        return Command(line[1:].split()[0] if line[1:].split() else "", "")
    return Words(line)


def path_of(text: str) -> Path:
    """One path as it was typed or dropped: quotes, escaped spaces, file:// and ~ are understood."""
    found = _paths(text)
    if len(found) == 1:
        return found[0]
    return Path(text).expanduser()  # spaces without quotes


def is_medium(path: Path) -> bool:
    return media_type(path.name).partition("/")[0] in ATTACH


def _paths(line: str) -> list[Path]:
    """Every word of the line as a path; none when the quotes do not fit."""
    whole = Path(line).expanduser()
    try:
        if whole.is_file():
            return [whole]
        words = shlex.split(line)
    except (ValueError, OSError):
        return []
    return [Path(unquote(urlsplit(word).path) if word.startswith("file://") else word).expanduser() for word in words]
