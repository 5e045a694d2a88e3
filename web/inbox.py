"""Files that people bring in: streamed into the input folder, never over another file, equal ones kept once."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from graph_engine.errors import RequestError
from graph_engine.store.folders import Folders
from web.frames import too_large
from web.media_types import media_type

PART_BYTES = 256 * 1024
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\/]')


def safe_name(name: str) -> str:
    """The last part of a name, without what some file system or shell trips over."""
    last = name.replace("\\", "/").rpartition("/")[2].encode("utf-8", "replace").decode()
    cleaned = _UNSAFE.sub("_", last).strip(" .")
    stem, dot, suffix = cleaned.rpartition(".")
    if not dot:
        stem, suffix = cleaned, ""
    while len(stem.encode()) > 150:
        stem = stem[:-1]
    return f"{stem or 'upload'}{dot}{suffix[:16]}" if cleaned else "upload"


async def receive(folders: Folders, name: str, parts: AsyncIterator[bytes], limit: int) -> dict[str, Any]:
    """Keep what `parts` yields as a file in the input folder; its FILE value with `existing`.

    Raises RequestError when it is larger than `limit`; nothing is left behind then.
    """
    root = folders.roots["input"]
    name = safe_name(name)
    handle, temporary = await asyncio.to_thread(tempfile.mkstemp, dir=root, prefix=".upload-", suffix=".part")
    digest, size = hashlib.blake2b(digest_size=16), 0
    try:
        with os.fdopen(handle, "wb") as file:
            async for part in parts:
                size += len(part)
                if size > limit:
                    raise too_large(f"the file {name!r}", None, limit)
                await asyncio.to_thread(_take, file, digest, part)
        path, existing = await asyncio.to_thread(settle, root, name, Path(temporary), digest.hexdigest(), size)
    finally:
        await asyncio.shield(asyncio.to_thread(Path(temporary).unlink, missing_ok=True))
    return {**folders.describe(path, media_type(path.name)), "existing": existing}


def _take(file: Any, digest: Any, part: bytes) -> None:
    digest.update(part)
    file.write(part)


def settle(root: Path, name: str, temporary: Path, digest: str, size: int) -> tuple[Path, bool]:
    """Give the file a name: its own, the one under which the same content is there, or `name (1).ext`."""
    wanted = Path(name)
    for number in range(10_000):
        path = root / (f"{wanted.stem} ({number}){wanted.suffix}" if number else name)
        try:
            # An empty file claims the name, so that two uploads at once cannot get the same one.
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        except FileExistsError:
            if path.is_file() and not path.is_symlink() and path.stat().st_size == size and _digest(path) == digest:
                return path, True
            continue
        os.replace(temporary, path)
        return path, False
    raise RequestError(f"there are ten thousand files called {name!r}.", remedy="Use another name.", code="too_many")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


async def read_parts(path: Path) -> AsyncIterator[bytes]:
    """A local file in pieces, for `receive`."""
    with path.open("rb") as file:
        while part := await asyncio.to_thread(file.read, PART_BYTES):
            yield part
