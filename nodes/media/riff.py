"""RIFF, the container of WAV and WebP: walk its chunks, append one. Format: IBM/Microsoft, 1991."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

UNKNOWN_SIZE = 0xFFFFFFFF
"""What programs write that stream into a pipe and cannot go back."""


class Chunk(NamedTuple):
    id: bytes
    offset: int
    """Of the first byte after the chunk's header."""
    size: int
    """As the header says; the file may be shorter."""


def chunks(path: Path) -> Iterator[Chunk]:
    """The chunks of a RIFF file up to its end; nothing for a file of another format."""
    end = path.stat().st_size
    with path.open("rb") as file:
        if file.read(12)[:4] != b"RIFF":
            return
        place = 12
        while place + 8 <= end:
            file.seek(place)
            id, size = struct.unpack("<4sI", file.read(8))
            yield Chunk(id, place + 8, size)
            place += 8 + size + size % 2


def read(path: Path, chunk: Chunk, limit_bytes: int) -> bytes:
    """The content of a chunk; empty when it is larger than the limit."""
    if chunk.size > limit_bytes:
        return b""
    with path.open("rb") as file:
        file.seek(chunk.offset)
        return file.read(chunk.size)


def append(path: Path, id: bytes, data: bytes) -> None:
    """Add a chunk at the end and correct the length in the header."""
    with path.open("r+b") as file:
        file.seek(0, 2)
        if file.tell() % 2:
            file.write(b"\0")
        file.write(struct.pack("<4sI", id, len(data)) + data + b"\0" * (len(data) % 2))
        size = file.tell() - 8
        file.seek(4)
        file.write(struct.pack("<I", size))


def missing_bytes(path: Path) -> int:
    """How many bytes of a WAV file's `data` chunk are not there: more than 0 for a file that was cut off."""
    end = path.stat().st_size
    for chunk in chunks(path):
        if chunk.id == b"data":
            return 0 if chunk.size == UNKNOWN_SIZE else max(0, chunk.offset + chunk.size - end)
    return 0
