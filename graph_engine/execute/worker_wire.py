"""Wire: messages between the server and one of its processes: msgpack over a socket pair, descriptors beside them."""

from __future__ import annotations

import array
import os
import socket
import struct
import threading
from collections import deque
from typing import Any, NamedTuple

import msgpack

_HEADER = struct.Struct("<IB3x")
"""length of the message, whether a descriptor comes with it"""
READ_BYTES = 64 * 1024
DESCRIPTORS_AT_ONCE = 32
MESSAGE_LIMIT_BYTES = 512 * 2**20


class Message(NamedTuple):
    """parts: the kind of message, then what belongs to it; fd: the descriptor that came along, or -1."""

    parts: list[Any]
    fd: int = -1


class Wire:
    """One end. `send` and `post` from any thread; `receive` and `arrived` from one."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._lock = threading.Lock()
        self._posted: deque[bytes] = deque()
        self._bytes = bytearray()
        self._descriptors: deque[int] = deque()

    def fileno(self) -> int:
        return self._socket.fileno()

    # --- out ----------------------------------------------------------------------------------------------------------

    def send(self, *parts: Any, fd: int = -1) -> None:
        """Waits while the other end does not read. `fd` stays the caller's. Raises OSError when the other end is gone."""
        data = _packed(parts, fd)
        with self._lock:
            self._send_posted()
            beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if fd >= 0 else []
            sent = self._socket.sendmsg([data], beside)
            if sent < len(data):
                self._socket.sendall(memoryview(data)[sent:])
        self._flush()

    def post(self, *parts: Any) -> None:
        """Never waits. What the other end does not take now goes before the next message that is sent."""
        self._posted.append(_packed(parts, -1))
        self._flush()

    def _send_posted(self) -> None:
        while self._posted:
            self._socket.sendall(self._posted[0])
            self._posted.popleft()

    def _flush(self) -> None:
        """Whoever holds the lock at the moment does this after it: so nothing that was posted is left behind."""
        while self._posted and self._lock.acquire(blocking=False):
            try:
                while self._posted:
                    data = self._posted[0]
                    sent = self._socket.send(data, socket.MSG_DONTWAIT)
                    if sent < len(data):
                        self._posted[0] = data[sent:]
                    else:
                        self._posted.popleft()
            except OSError:  # full, or gone: then nobody misses it
                return
            finally:
                self._lock.release()

    # --- in -----------------------------------------------------------------------------------------------------------

    def receive(self) -> Message:
        """The next message. Raises EOFError when the other end is gone."""
        while True:
            for message in self._complete(1):
                return message
            self._read(0)

    def arrived(self) -> list[Message]:
        """What has come so far, without waiting. Raises EOFError when the other end is gone and everything was seen."""
        try:
            self._read(socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        return self._complete()

    def _read(self, flags: int) -> None:
        room = socket.CMSG_SPACE(DESCRIPTORS_AT_ONCE * array.array("i").itemsize)
        try:
            data, beside, _, _ = self._socket.recvmsg(READ_BYTES, room, flags | socket.MSG_CMSG_CLOEXEC)
        except ConnectionError as error:
            raise EOFError from error
        for level, kind, content in beside:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                found = array.array("i")
                found.frombytes(content[: len(content) - len(content) % found.itemsize])
                self._descriptors.extend(found)
        if not data:
            raise EOFError
        self._bytes += data

    def _complete(self, limit: int = 1 << 30) -> list[Message]:
        found: list[Message] = []
        at = 0
        while len(found) < limit and len(self._bytes) - at >= _HEADER.size:
            length, has_fd = _HEADER.unpack_from(self._bytes, at)
            if length > MESSAGE_LIMIT_BYTES:
                raise EOFError(f"a message of {length} bytes")
            end = at + _HEADER.size + length
            if len(self._bytes) < end:
                break
            content = bytes(self._bytes[at + _HEADER.size : end])
            parts = msgpack.unpackb(content, raw=False, strict_map_key=False, unicode_errors="surrogatepass")
            found.append(Message(parts, self._descriptors.popleft() if has_fd else -1))
            at = end
        del self._bytes[:at]
        return found

    def close(self) -> None:
        self._socket.close()
        while self._descriptors:
            os.close(self._descriptors.popleft())


def _packed(parts: tuple[Any, ...], fd: int) -> bytes:
    content: bytes = msgpack.packb(parts, use_bin_type=True, unicode_errors="surrogatepass", default=_plain)
    return _HEADER.pack(len(content), fd >= 0) + content


def _plain(value: Any) -> Any:
    """Nodes say how far they are in whatever numbers they count in: those of numpy and torch too."""
    item = getattr(value, "item", None)
    return item() if callable(item) else str(value)
