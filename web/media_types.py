"""What a file is called in a Content-Type header, and which types a browser may show in place."""

from __future__ import annotations

import mimetypes
from pathlib import PurePath

INLINE = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".bmp": "image/bmp",
    ".avif": "image/avif",
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".m4a": "audio/mp4",
    ".weba": "audio/webm",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".mov": "video/quicktime",
    ".txt": "text/plain; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
    ".csv": "text/plain; charset=utf-8",
    ".log": "text/plain; charset=utf-8",
    ".json": "application/json",
}
"""Types that cannot carry a script. Everything else (HTML, SVG, PDF, ...) is only ever downloaded."""


def media_type(name: str) -> str:
    """The type without parameters, as a FILE value has it."""
    known = INLINE.get(PurePath(name).suffix.lower())
    return known.partition(";")[0] if known else mimetypes.guess_type(name)[0] or "application/octet-stream"


def headers(name: str) -> dict[str, str]:
    """How a file of this name is served."""
    from urllib.parse import quote

    inline = INLINE.get(PurePath(name).suffix.lower())
    plain = quote(PurePath(name).name.encode("utf-8", "replace"))
    if inline:
        return {"Content-Type": inline, "Content-Disposition": f"inline; filename*=UTF-8''{plain}"}
    return {
        "Content-Type": media_type(name),
        "Content-Disposition": f"attachment; filename*=UTF-8''{plain}",
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }
