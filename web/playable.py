"""Playable: forms of media that every browser shows, made when they are asked for and kept on disk while there is room.

    pictures   PNG       TIFF, deep greys, PSD and what else Pillow opens
    sounds     AAC       AIFF, float WAV, WMA and what else FFmpeg knows
    films      H.264     AVI, MKV with old codecs, WMV, ProRes, ...

They are previews: at most ten minutes, with sides of at most 1280 pixels (films) and 4096 (pictures).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from graph_engine.errors import AnyloomError, NotFoundError, RequestError
from web import media_types

KEPT_BYTES = 2 << 30
SUFFIXES = {"image": "png", "audio": "m4a", "video": "mp4"}
MEDIA_TYPES = {"png": "image/png", "m4a": "audio/mp4", "mp4": "video/mp4", "wav": "audio/wav"}
REFUSED = frozenset({".svg", ".svgz", ".m3u", ".m3u8", ".pls"})
"""Programs and lists of other files."""
Make = Callable[[Path], None]


class Playable:
    """Of one server, used on its loop. One is made at a time: a film takes all cores that it gets."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._turn = asyncio.Semaphore(1)

    async def of_file(self, path: Path) -> Path:
        """The playable form of a file. Raises NotFoundError for what is no medium, RequestError for what is damaged."""
        medium = media_types.media_type(path.name).partition("/")[0]
        if medium not in SUFFIXES or path.suffix.lower() in REFUSED:
            raise NotFoundError(
                f"there is no other form of {path.name[:80]!r}.",
                remedy="Only pictures, sounds and films have one.",
                code="no_playable",
            )
        facts = path.stat()
        return await self.of(
            f"{path}\0{facts.st_mtime_ns}\0{facts.st_size}",
            SUFFIXES[medium],
            lambda target: _transcode(path, medium, target),
        )

    async def of(self, key: str, suffix: str, make: Make) -> Path:
        """The file that `make` wrote for this key, or writes now."""
        name = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        path = self.root / f"{name}.{suffix}"
        if not path.is_file():
            async with self._turn:
                if not path.is_file():
                    await asyncio.to_thread(self._make, path, make)
        await asyncio.to_thread(_touch, path)
        return path

    def _make(self, path: Path, make: Make) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{path.stem}.part.{path.suffix.lstrip('.')}")
        try:
            make(unfinished)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        self._make_room(path)

    def _make_room(self, newest: Path) -> None:
        found = sorted(((one.stat().st_mtime, one.stat().st_size, one) for one in self.root.iterdir()), reverse=True)
        kept = 0
        for _, size, one in found:
            kept += size
            if kept > KEPT_BYTES and one != newest:
                one.unlink(missing_ok=True)


def _touch(path: Path) -> None:
    with suppress(OSError):  # gone since: the answer says so
        os.utime(path)


def _transcode(source: Path, medium: str, target: Path) -> None:
    from web.transcode import to_m4a, to_mp4, to_png

    try:
        {"image": to_png, "audio": to_m4a, "video": to_mp4}[medium](source, target)
    except AnyloomError:
        raise
    except Exception as error:  # decoders raise whatever they like for what is damaged
        from nodes.media.file_faults import short

        raise RequestError(
            f"{source.name[:80]!r} cannot be shown: {type(error).__name__}: {short(error, source)[:200]}.",
            remedy="The file is damaged or of a kind that is not known; make it again.",
            code="damaged_file",
        ) from error
