"""The workflow inside a media file: written when it is saved, read back when it is dropped on the canvas.

    PNG          text chunk `anyloom` (compressed zTXt when long)
    JPEG         comment segments `anyloom i/n`, because one segment holds 64 KB only
    WebP         EXIF UserComment
    GIF          comment extension
    WAV          LIST INFO chunk with ICMT, after the sound
    FLAC, MP3    tag `anyloom` (Vorbis comment, ID3 TXXX)
    MP4, WebM    tag `anyloom`

The text is JSON in ASCII, so no reader can get an encoding wrong. Files of ComfyUI carry `workflow` and `prompt`
instead, in the same places; they are recognised. Reading is bounded and never raises: a file is evidence, not input.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nodes.media import riff

KEY = "anyloom"
COMFYUI_KEYS = ("workflow", "prompt")
LIMIT_BYTES = 32 << 20
"""No workflow is larger; a larger text is not read."""
_SEGMENT = 60_000
_USER_COMMENT, _EXIF_IFD = 0x9286, 0x8769
_CAMERA_MAKE, _CAMERA_MODEL = 0x010F, 0x0110
_PNG = b"\x89PNG\r\n\x1a\n"


def read_workflow(path: Path) -> dict[str, Any] | None:
    """The workflow that a media file carries, as it was saved, or None.

    A file of ComfyUI gives `{"dialect": "comfyui", "workflow": {...}, "prompt": {...}}` with those of the two it has.
    """
    try:
        texts = _texts(path)
    except Exception:  # a damaged file can raise anything in three parsers; it carries no workflow then
        return None
    own = _parse(texts.get(KEY, ""))
    if own is not None:
        return own
    comfyui = {key: found for key in COMFYUI_KEYS if (found := _parse(texts.get(key, ""))) is not None}
    return {"dialect": "comfyui", **comfyui} if comfyui else None


def as_text(document: Mapping[str, Any]) -> str:
    """A workflow as one line of ASCII JSON."""
    return json.dumps(document, ensure_ascii=True, separators=(",", ":"))


def _parse(text: str) -> dict[str, Any] | None:
    if not text.lstrip().startswith("{") or len(text) > LIMIT_BYTES:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _texts(path: Path) -> dict[str, str]:
    """Every text of the file that may be a workflow, by key; a comment without a key counts as ours."""
    with path.open("rb") as file:
        start = file.read(12)
    if start.startswith(_PNG):
        return dict(_png_texts(path))
    if start.startswith(b"\xff\xd8"):
        return {KEY: _jpeg_text(path)}
    if start.startswith(b"RIFF"):
        return _webp_texts(path) if start[8:] == b"WEBP" else {KEY: _wav_text(path)}
    if start.startswith(b"GIF8"):
        return {KEY: _gif_text(path)}
    return _container_texts(path)


# --- PNG --------------------------------------------------------------------------------------------------------


def _png_texts(path: Path) -> Iterator[tuple[str, str]]:
    with path.open("rb") as file:
        file.seek(len(_PNG))
        while len(header := file.read(8)) == 8:
            size, id = struct.unpack(">I4s", header)
            if id == b"IEND":
                return
            if id not in (b"tEXt", b"zTXt", b"iTXt") or size > LIMIT_BYTES:
                file.seek(size + 4, 1)
                continue
            key, _, rest = file.read(size).partition(b"\0")
            file.seek(4, 1)
            if id == b"zTXt":
                text = _inflate(rest[1:]).decode("latin-1")
            elif id == b"iTXt":
                body = rest[2:].split(b"\0", 2)[2]
                text = (_inflate(body) if rest[0] else body).decode("utf-8", "replace")
            else:
                text = rest.decode("latin-1")
            yield key.decode("latin-1"), _twice_decoded(text)


def _inflate(data: bytes) -> bytes:
    return zlib.decompressobj().decompress(data, LIMIT_BYTES)


def _twice_decoded(text: str) -> str:
    """Some programs put UTF-8 into tEXt, which is Latin-1; undo that where it is possible."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def png_text(document: Mapping[str, Any]) -> Any:
    """What PIL's `save(pnginfo=)` takes."""
    from PIL.PngImagePlugin import PngInfo

    text, info = as_text(document), PngInfo()
    info.add_text(KEY, text, zip=len(text) > 2_000)
    return info


# --- JPEG -------------------------------------------------------------------------------------------------------


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(marker, place, content) of each segment before the picture itself."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != 0xDA:
        marker, size = data[place + 1], struct.unpack_from(">H", data, place + 2)[0]
        yield marker, place, data[place + 4 : place + 2 + size]
        place += 2 + size


def _jpeg_text(path: Path) -> str:
    parts: dict[int, str] = {}
    with path.open("rb") as file:
        data = file.read(LIMIT_BYTES)
    for marker, _, content in _jpeg_segments(data):
        head, _, body = content.partition(b"\n")
        if marker == 0xFE and head.startswith(KEY.encode() + b" "):
            parts[int(head.split()[1].partition(b"/")[0])] = body.decode("ascii")
    return "".join(parts[number] for number in sorted(parts))


def jpeg_with(data: bytes, document: Mapping[str, Any]) -> bytes:
    """An encoded JPEG with the workflow in comment segments, after its application segments."""
    place = 2
    for marker, start, content in _jpeg_segments(data):
        if 0xE0 <= marker <= 0xEF:
            place = start + 4 + len(content)
    text = as_text(document).encode("ascii")
    pieces = [text[start : start + _SEGMENT] for start in range(0, len(text), _SEGMENT)]
    segments = []
    for number, piece in enumerate(pieces, 1):
        body = f"{KEY} {number}/{len(pieces)}\n".encode() + piece
        segments.append(struct.pack(">HH", 0xFFFE, len(body) + 2) + body)
    return data[:place] + b"".join(segments) + data[place:]


# --- WebP, WAV, GIF ---------------------------------------------------------------------------------------------


def _webp_texts(path: Path) -> dict[str, str]:
    from PIL.Image import Exif

    texts: dict[str, str] = {}
    for chunk in riff.chunks(path):
        if chunk.id == b"EXIF":
            exif = Exif()
            exif.load(riff.read(path, chunk, LIMIT_BYTES))
            comment = exif.get_ifd(_EXIF_IFD).get(_USER_COMMENT, b"")
            if isinstance(comment, bytes):
                texts[KEY] = comment[8:].decode("ascii", "replace")
            for tag in (_CAMERA_MAKE, _CAMERA_MODEL):  # where ComfyUI puts `workflow:{...}` and `prompt:{...}`
                key, _, text = str(exif.get(tag, "")).partition(":")
                texts.setdefault(key, text)
    return texts


def webp_exif(document: Mapping[str, Any]) -> bytes:
    """What PIL's `save(exif=)` takes."""
    from PIL.Image import Exif

    exif = Exif()
    exif.get_ifd(_EXIF_IFD)[_USER_COMMENT] = b"ASCII\0\0\0" + as_text(document).encode("ascii")
    return exif.tobytes()


def _wav_text(path: Path) -> str:
    for chunk in riff.chunks(path):
        if chunk.id == b"LIST":
            data = riff.read(path, chunk, LIMIT_BYTES)
            place = 4 if data[:4] == b"INFO" else len(data)
            while place + 8 <= len(data):
                id, size = struct.unpack_from("<4sI", data, place)
                text = data[place + 8 : place + 8 + size].rstrip(b"\0").decode("utf-8", "replace")
                if id == b"ICMT" and _parse(text) is not None:
                    return text
                place += 8 + size + size % 2
    return ""


def add_to_wav(path: Path, document: Mapping[str, Any]) -> None:
    """Append a LIST INFO chunk whose comment is the workflow."""
    text = as_text(document).encode("ascii") + b"\0"
    body = struct.pack("<4sI", b"ICMT", len(text)) + text + b"\0" * (len(text) % 2)
    riff.append(path, b"LIST", b"INFO" + body)


def _gif_text(path: Path) -> str:
    """The comment extensions before the first picture, joined."""
    with path.open("rb") as file:
        data = file.read(LIMIT_BYTES)
    place = 13 + (3 << ((data[10] & 7) + 1) if data[10] & 0x80 else 0)
    comment = b""
    while data[place] == 0x21:
        label, place = data[place + 1], place + 2
        while size := data[place]:
            comment += data[place + 1 : place + 1 + size] if label == 0xFE else b""
            place += 1 + size
        place += 1
    return comment.decode("ascii", "replace")


# --- audio and video containers ---------------------------------------------------------------------------------


def _container_texts(path: Path) -> dict[str, str]:
    import av

    with av.open(str(path)) as container:
        tags = dict(container.metadata)
        for stream in container.streams:  # Ogg keeps its tags there
            tags = {**stream.metadata, **tags}
    return {key.lower(): text for key, text in tags.items()}
