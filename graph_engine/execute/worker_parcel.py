"""Parcel: a value on its way to another process of this machine.

Small values travel in the message. What is large lies in a memory file (`memfd_create`) whose descriptor travels with it:
it has no name, so there is nothing to leak. The kernel frees it when the last process that holds it has let go or died.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

from graph_engine.store.codec import flatten, restore
from graph_engine.store.frame import Buffer

INLINE_BYTES = 32 * 1024
"""Up to here a copy through the socket costs less than a file and a mapping."""
PIECES_AT_ONCE = 512
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL if hasattr(fcntl, "F_SEAL_SEAL") else 0
"""The receiver maps it; a sender that cut it off afterwards would end the receiver with a bus error. Sealing it against
writing too would make the kernel wait for whoever has touched its pages, and refuse after a while."""


class Parcel(NamedTuple):
    """tree: the value without its tensors; body: the bytes of these, unless they lie in the file `fd` (else -1).

    Whoever holds a parcel owns the descriptor: `opened` and `drop` give it back.
    """

    tree: bytes
    body: bytes = b""
    fd: int = -1

    @classmethod
    def of(cls, value: Any, path: str = "value") -> Parcel:
        """Raises StoreError for a value that has no plain form, MemoryError without memory for it."""
        tree, pieces = flatten(value, path=path)
        if sum(map(len, pieces)) <= INLINE_BYTES:
            return cls(tree, b"".join(pieces))
        try:
            return cls(tree, b"", memory_file(pieces))
        except OSError as error:
            raise MemoryError(f"no shared memory for {path}: {error}") from error

    def opened(self) -> Any:
        """The value. Its tensors lie in the memory that the sender wrote, and may be changed without anybody noticing."""
        try:
            if self.fd < 0:
                return restore(self.tree, memoryview(bytearray(self.body)))
            return restore(self.tree, mapped(self.fd))
        finally:
            self.drop()

    def drop(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


def memory_file(pieces: Sequence[Buffer]) -> int:
    """The descriptor of a new sealed file in memory with this content."""
    fd = os.memfd_create("anyloom", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        left = [memoryview(piece).cast("B") for piece in pieces if len(piece)]
        left.reverse()
        while left:
            written = os.writev(fd, left[: -PIECES_AT_ONCE - 1 : -1])
            while written:
                piece = left.pop()
                if written < len(piece):
                    left.append(piece[written:])
                    break
                written -= len(piece)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
        return fd
    except BaseException:
        os.close(fd)
        raise


_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
_LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_FAILED = ctypes.c_void_p(-1).value


def mapped(fd: int) -> memoryview:
    """The content of a memory file, to be read and written by nobody else, for as long as something refers to it.

    Python's own `mmap` keeps a descriptor per mapping, and a process may have fewer of these than a cache has results.
    """
    size = os.fstat(fd).st_size
    address = _LIBC.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE, fd, 0)
    if address is None or address == _FAILED:
        code = ctypes.get_errno()
        raise (MemoryError if code == errno.ENOMEM else OSError)(code, os.strerror(code))
    area = (ctypes.c_ubyte * size).from_address(address)
    weakref.finalize(area, _LIBC.munmap, address, size).atexit = False  # at the end others may still look at it
    return memoryview(area)
