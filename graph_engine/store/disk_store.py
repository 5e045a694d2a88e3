"""Artifacts kept on disk between runs, within a quota; several processes may share the folder."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import threading
import time
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

from graph_engine.errors import StoreError
from graph_engine.store.artifacts import Artifact, Shape
from graph_engine.store.codec import decode_artifact, decode_note, encode_artifact_pieces
from graph_engine.store.frame import PREFIX_BYTES, Buffer, read_note, read_prefix

_PLAIN_KEY = re.compile(r"[0-9a-z][0-9a-z#:_.-]{0,119}")
_SUFFIX = ".artifact"
"""Only files with this end are ever removed as damaged: a mistaken folder must not cost somebody his own files."""
_TEMPORARY = ".writing-"
_STALE_AFTER_S = 3600.0
_RESCAN_AFTER_S = 60.0
_FIRST_READ_BYTES = 4096


class Stored(NamedTuple):
    """shape and bytes of the artifact (in memory); file_bytes: what its file takes."""

    shape: Shape
    bytes: int
    file_bytes: int


class DiskStore:
    """One file per artifact, in 256 subfolders. Files are written aside and renamed, so a reader sees all or nothing.

    Use it from any thread. A file that another process removed is a miss, a damaged one is removed and a miss.
    """

    def __init__(self, folder: Path | str, quota_bytes: int, *, fsync: bool = False) -> None:
        """Reads the head of every file in `folder` (some 20 µs each): call it in a thread when there may be many.

        fsync: wait for the disk at each put. Without it a power failure may lose or damage recent files; damage is
        found by the checksum, and costs computing them again. Raises StoreError when the folder cannot be used.
        """
        self.folder, self.quota_bytes, self._fsync = Path(folder), quota_bytes, fsync
        self._root = str(self.folder)
        self.shapes: OrderedDict[str, Stored] = OrderedDict()
        """By key, least recently used first. Read it freely; only this class changes it."""
        self._gate = threading.Lock()
        """Held while a file appears or goes, so that the table says what is there."""
        self._scanning = threading.Lock()
        self._changed: set[str] | None = None
        """Keys entered or dropped since the scan under way began; None while there is none."""
        self._bytes = 0
        self._hits = self._misses = self._evictions = 0
        self._serial = itertools.count()
        try:
            os.makedirs(self._root, exist_ok=True)
            self._scan()
            self._shrink()
        except OSError as error:
            raise self._unusable("read", error) from error

    def contains(self, key: str) -> bool:
        """A table lookup; for an unknown key also a look for a file that another process wrote."""
        return self.shape(key) is not None

    def shape(self, key: str) -> Stored | None:
        """As `contains`, with what is known of the artifact without reading it. No use in the sense of the quota."""
        stored = self.shapes.get(key)
        if stored is None:
            path = self._path(key)
            if os.path.exists(path) and (stored := self._read_head(path, key)) is not None:
                self._settle(key, stored)
        return stored

    def get(self, key: str) -> Artifact | None:
        path = self._path(key)
        try:
            with open(path, "rb", buffering=0) as file:
                if (size := os.fstat(file.fileno()).st_size) > self.quota_bytes:
                    raise StoreError(f"{path} is larger than the quota.", code="value_damaged")
                buffer = bytearray(size)
                view, filled = memoryview(buffer), 0
                while filled < len(buffer) and (count := file.readinto(view[filled:])):
                    filled += count
                view.release()
            artifact = decode_artifact(buffer)
            if artifact.key != key:
                raise StoreError(f"{path} holds another artifact.", code="value_damaged")
            os.utime(path)
        except FileNotFoundError:
            self._settle(key, None)
            self._misses += 1
            return None
        except StoreError:
            self.discard(key)
            self._misses += 1
            return None
        except OSError as error:
            raise self._unusable("read", error) from error
        self._hits += 1
        self._settle(key, Stored(artifact.shape, artifact.bytes, len(buffer)))
        return artifact

    def put(self, artifact: Artifact) -> bool:
        """Returns whether it is kept; one that alone exceeds the quota is not.

        Raises StoreError for outputs that have no form on disk (code `value_unstorable`) and when the disk fails.
        """
        path = self._path(artifact.key)
        known = self.shapes.get(artifact.key)
        if known is not None and os.path.exists(path):
            with contextlib.suppress(OSError):
                os.utime(path)  # so that other processes see the use
            self._settle(artifact.key, known)
            return True
        pieces = encode_artifact_pieces(artifact)
        stored = Stored(artifact.shape, artifact.bytes, sum(map(len, pieces)))
        if stored.file_bytes > self.quota_bytes:
            return False
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            self._write(path, pieces, artifact.key, stored)
            self._shrink()
        except OSError as error:
            raise self._unusable("written", error) from error
        return True

    def discard(self, key: str) -> bool:
        """Returns whether its file was there."""
        with self._gate:
            self._enter(key, None)
            try:
                os.unlink(self._path(key))
                return True
            except OSError:
                return False

    def clear(self) -> None:
        """Removes every artifact, those of other processes included."""
        try:
            self._scan()
        except OSError as error:
            raise self._unusable("read", error) from error
        for key in list(self.shapes):
            self.discard(key)

    def stats(self) -> dict[str, Any]:
        """bytes: of the files that this process knows."""
        return {
            "hits": self._hits,
            "misses": self._misses,
            "entries": len(self.shapes),
            "bytes": self._bytes,
            "evictions": self._evictions,
            "quota_bytes": self.quota_bytes,
        }

    def _path(self, key: str) -> str:
        """Where the artifact lies. A key that is no plain file name goes by its digest, so none leaves the folder."""
        if _PLAIN_KEY.fullmatch(key):
            name = key
        else:
            name = "~" + hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=32).hexdigest()
        return f"{self._root}/{zlib.crc32(name.encode()) & 255:02x}/{name}{_SUFFIX}"

    def _write(self, path: str, pieces: list[Buffer], key: str, stored: Stored) -> None:
        aside = f"{os.path.dirname(path)}/{_TEMPORARY}{os.getpid()}-{next(self._serial)}-{os.urandom(4).hex()}"
        try:
            with open(aside, "xb", buffering=0) as file:
                for piece in pieces:
                    view = memoryview(piece)
                    while len(view):
                        view = view[file.write(view) :]
                if self._fsync:
                    os.fsync(file.fileno())
            with self._gate:
                os.replace(aside, path)
                self._enter(key, stored)
        except BaseException:
            _remove(aside)
            raise

    # --- the table -----------------------------------------------------------------------------------------------

    def _enter(self, key: str, stored: Stored | None) -> None:
        """Makes the key the latest used one, or (None) drops it. The caller holds the gate."""
        old = self.shapes.pop(key, None)
        if stored is not None:
            self.shapes[key] = stored
        self._bytes += (stored.file_bytes if stored else 0) - (old.file_bytes if old else 0)
        if self._changed is not None:
            self._changed.add(key)

    def _settle(self, key: str, stored: Stored | None) -> None:
        """Enter what was found a moment ago, unless another thread has changed it since."""
        with self._gate:
            if os.path.exists(self._path(key)) == (stored is not None):
                self._enter(key, stored)

    def _shrink(self) -> None:
        if self._bytes <= self.quota_bytes:
            return
        if time.monotonic() - self._scanned > _RESCAN_AFTER_S:  # what other processes wrote and used since
            self._scan()
        while True:
            with self._gate:
                if self._bytes <= self.quota_bytes or not self.shapes:
                    return
                key = next(iter(self.shapes))
                self._enter(key, None)
                _remove(self._path(key))
                self._evictions += 1

    def _scan(self) -> None:
        """Make the table anew from the folder: files by their last use, stale leftovers of crashed writers removed."""
        with self._scanning:
            self._scan_alone()

    def _scan_alone(self) -> None:
        self._scanned = time.monotonic()
        with self._gate:
            self._changed = set()
            before = list(self.shapes.items())
        known = {self._path(key): (key, stored) for key, stored in before}
        found: list[tuple[int, str, Stored]] = []
        stale_before_ns = time.time_ns() - int(_STALE_AFTER_S * 1e9)
        for shard in range(256):
            try:
                with os.scandir(f"{self._root}/{shard:02x}") as listing:
                    entries = list(listing)
            except FileNotFoundError:
                continue  # a subfolder is made when its first file is written
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                    if entry.name.startswith(_TEMPORARY) and status.st_mtime_ns < stale_before_ns:
                        os.unlink(entry.path)
                    if not entry.name.endswith(_SUFFIX):
                        continue
                    key, stored = known.get(entry.path) or self._read_any_head(entry.path)
                except OSError:
                    continue  # removed by another process, or unreadable: as good as absent
                if stored is not None:
                    found.append((status.st_mtime_ns, key, stored._replace(file_bytes=status.st_size)))
        found.sort(key=lambda row: row[0])
        with self._gate:
            # What changed meanwhile may have been seen before or after: for those the table knows better.
            changed, self._changed = self._changed, None
            meanwhile = {key: stored for key, stored in self.shapes.items() if key in changed}
            self.shapes = OrderedDict((key, stored) for _, key, stored in found if key not in changed)
            self.shapes.update(meanwhile)
            self._bytes = sum(stored.file_bytes for stored in self.shapes.values())

    def _read_head(self, path: str, key: str) -> Stored | None:
        try:
            found, stored = self._read_any_head(path)
        except OSError:
            return None
        return stored if found == key else None

    def _read_any_head(self, path: str) -> tuple[str, Stored | None]:
        """Key and shape from the first bytes of a file. A file that is no whole artifact is removed."""
        with open(path, "rb", buffering=0) as file:
            total = os.fstat(file.fileno()).st_size
            head = file.read(_FIRST_READ_BYTES)
            try:
                prefix = read_prefix(head)
                if prefix.total_bytes != total:
                    raise StoreError(f"{path} is cut short.", code="value_damaged")
                if (missing := PREFIX_BYTES + prefix.note_bytes - len(head)) > 0:
                    head += file.read(missing)
                note = decode_note(read_note(head, prefix))
                if self._path(note.key) != path:
                    raise StoreError(f"{path} holds another artifact.", code="value_damaged")
            except StoreError:
                _remove(path)
                return "", None
        return note.key, Stored(note.shape, note.bytes, total)

    def _unusable(self, verb: str, error: OSError) -> StoreError:
        return StoreError(
            f"the artifact folder {self.folder} cannot be {verb}: {error.strerror or error}.",
            remedy="Check its permissions and that the disk has room, or choose another folder.",
            code="disk_store",
        )


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
