"""Small pictures of pictures and films, for lists: made when first asked for, kept in memory while there is room."""

from __future__ import annotations

import asyncio
import io
from collections import OrderedDict
from pathlib import Path
from typing import Any

from graph_engine.errors import NodeError, NotFoundError, RequestError
from web import media_types
from web.playable import REFUSED

KEPT_BYTES = 32 << 20
AT_ONCE = 2
"""Decoding takes memory: a picture of 60 megapixels some 200 MB."""
MAX_PIXELS = 64_000_000
QUALITY = 80


class Thumbnails:
    """Of one server, used on its loop."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, int, int, int], bytes] = OrderedDict()
        self._bytes = 0
        self._room = asyncio.Semaphore(AT_ONCE)

    async def of(self, path: Path, size: int) -> tuple[bytes, str]:
        """WebP with sides of at most `size` pixels, and its etag. Raises NotFoundError for a file that is no picture and no
        film, RequestError for one that is too large or damaged."""
        facts = path.stat()
        key = (str(path), facts.st_mtime_ns, facts.st_size, size)
        etag = f"{facts.st_mtime_ns:x}-{facts.st_size:x}-{size:x}"
        found = self._kept.get(key)
        if found is None:
            async with self._room:
                found = self._kept.get(key)
                if found is None:
                    found = await asyncio.to_thread(_make, path, size)
                    self._keep(key, found)
        if key in self._kept:
            self._kept.move_to_end(key)
        return found, etag

    def _keep(self, key: tuple[str, int, int, int], data: bytes) -> None:
        self._kept[key] = data
        self._bytes += len(data)
        while self._bytes > KEPT_BYTES and len(self._kept) > 1:
            self._bytes -= len(self._kept.popitem(last=False)[1])


def _make(path: Path, size: int) -> bytes:
    kind = media_types.media_type(path.name).partition("/")[0]
    if kind not in ("image", "video") or path.suffix.lower() in REFUSED:
        raise NotFoundError(
            f"there is no small picture of {path.name[:80]!r}.",
            remedy="Only pictures and films have one.",
            code="no_thumbnail",
        )
    try:
        image = _first_frame(path) if kind == "video" else _picture(path, size)
        image.thumbnail((size, size))
        out = io.BytesIO()
        image.save(out, "WEBP", quality=QUALITY, method=2)
        return out.getvalue()
    except (NodeError, RequestError):
        raise
    except Exception as error:  # decoders raise whatever they like for what is damaged
        from nodes.media.file_faults import short

        raise RequestError(
            f"{path.name[:80]!r} cannot be shown: {type(error).__name__}: {short(error, path)[:200]}.",
            remedy="The file is damaged or of a kind that is not known; make it again.",
            code="damaged_file",
        ) from error


def _picture(path: Path, size: int) -> Any:
    from PIL import Image, ImageOps

    from nodes.media.deep_grey import is_deep, shallow

    with Image.open(path) as image:
        if image.width * image.height > MAX_PIXELS:
            raise RequestError(
                f"{path.name[:80]!r} has {image.width} x {image.height} pixels.",
                remedy="Open it in full instead.",
                code="too_large",
            )
        image.draft("RGB", (2 * size, 2 * size))  # JPEG is decoded at a fraction of its size
        turned = ImageOps.exif_transpose(image)
        if is_deep(turned):
            turned = shallow(turned)
        clear = "A" in turned.getbands() or "transparency" in turned.info
        return turned.convert("RGBA" if clear else "RGB")


def _first_frame(path: Path) -> Any:
    from web.transcode import opened

    with opened(path) as container:
        stream = container.streams.video[0]
        if stream.codec_context.width * stream.codec_context.height > MAX_PIXELS:
            raise RequestError(f"{path.name[:80]!r} is too large.", remedy="Open it in full.", code="too_large")
        for frame in container.decode(stream):
            return frame.to_image().rotate(round(frame.rotation / 90) * 90, expand=True)  # a phone's mark
    raise ValueError("it has no picture")
