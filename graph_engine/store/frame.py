"""The envelope of a stored value: sizes and checksums first, so that nothing in a file is believed unproven.

0   8  magic, the last byte is the version        24  8  body bytes
8   4  note bytes (free for the caller)           32  4  CRC-32 of all that follows the note
12  4  CRC-32 of the note                         36  4  CRC-32 of the 36 bytes before
16  8  tree bytes                                 40     note, tree, zeros up to a multiple of 64, body
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from graph_engine.errors import StoreError

MAGIC = b"ANYLOOM\x01"
PREFIX_BYTES = 40
ALIGN_BYTES = 64
TREE_LIMIT_BYTES = 256 * 2**20
"""Small values decode to several times their bytes; a larger tree is refused, by the writer as by the reader."""
NOTE_LIMIT_BYTES = 16 * 2**20

_PREFIX = struct.Struct("<8sIIQQI")

Buffer = bytes | bytearray | memoryview


class Prefix(NamedTuple):
    note_bytes: int
    note_crc: int
    tree_bytes: int
    body_bytes: int
    rest_crc: int

    @property
    def body_start(self) -> int:
        return -(-(PREFIX_BYTES + self.note_bytes + self.tree_bytes) // ALIGN_BYTES) * ALIGN_BYTES

    @property
    def total_bytes(self) -> int:
        return self.body_start + self.body_bytes


def framed(note: bytes, tree: bytes, body: Sequence[Buffer]) -> list[Buffer]:
    """The pieces of the whole file, to be written one after the other. Raises ValueError beyond the limits."""
    if len(tree) > TREE_LIMIT_BYTES or len(note) > NOTE_LIMIT_BYTES:
        raise ValueError(f"{max(len(tree), len(note))} bytes of small values are too many; put them in a tensor")
    sizes = Prefix(len(note), zlib.crc32(note), len(tree), sum(map(len, body)), 0)
    padding = bytes(sizes.body_start - PREFIX_BYTES - len(note) - len(tree))
    crc = 0
    for piece in (tree, padding, *body):
        crc = zlib.crc32(piece, crc)
    prefix = _PREFIX.pack(MAGIC, *sizes._replace(rest_crc=crc))
    return [prefix, struct.pack("<I", zlib.crc32(prefix)), note, tree, padding, *body]


def read_prefix(buffer: Buffer) -> Prefix:
    """The sizes of what follows; raises StoreError unless the first `PREFIX_BYTES` are whole."""
    if len(buffer) < PREFIX_BYTES or bytes(buffer[:7]) != MAGIC[:7]:
        raise damaged("it does not begin as a stored value does")
    if buffer[7] != MAGIC[7]:
        raise damaged(f"it has format version {buffer[7]}, this Anyloom reads version {MAGIC[7]}")
    end = _PREFIX.size
    if struct.unpack("<I", buffer[end:PREFIX_BYTES])[0] != zlib.crc32(buffer[:end]):
        raise damaged("its first bytes are not as they were written")
    prefix = Prefix(*_PREFIX.unpack(buffer[:end])[1:])
    if prefix.note_bytes > NOTE_LIMIT_BYTES or prefix.tree_bytes > TREE_LIMIT_BYTES:
        raise damaged("its header is larger than any that is written")
    return prefix


def read_note(buffer: Buffer, prefix: Prefix) -> bytes:
    """The caller's note; raises StoreError when it is cut short or changed."""
    note = bytes(buffer[PREFIX_BYTES : PREFIX_BYTES + prefix.note_bytes])
    if len(note) != prefix.note_bytes or zlib.crc32(note) != prefix.note_crc:
        raise damaged("its note is not as it was written")
    return note


def unframed(view: memoryview) -> tuple[memoryview, memoryview]:
    """Tree and body of a whole file; raises StoreError unless both are as they were written."""
    prefix = read_prefix(view)
    if prefix.total_bytes != len(view):
        raise damaged(f"it should have {prefix.total_bytes} bytes and has {len(view)}")
    start = PREFIX_BYTES + prefix.note_bytes
    if zlib.crc32(view[start:]) != prefix.rest_crc:
        raise damaged("its content is not as it was written")
    return view[start : start + prefix.tree_bytes], view[prefix.body_start :]


def damaged(why: str) -> StoreError:
    return StoreError(f"this is no readable stored value: {why}.", remedy="Compute it again.", code="value_damaged")
