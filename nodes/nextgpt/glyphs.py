"""Glyphs: text of any script in a picture, whatever fonts there are.

The font that comes with Pillow draws Latin, so that pictures look the same everywhere; other characters are looked for
in fonts that systems usually have. A character that no font has is written as its code point (`u4E2D`), because the box
that fonts draw for what they lack says nothing.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from PIL import ImageFont

FONTS = (
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "NotoSansSC-Regular.otf",
    "NotoSansSC-Regular.ttf",
    "SourceHanSansSC-Regular.otf",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "DroidSansFallback.ttf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "Arial Unicode.ttf",
    "msyh.ttc",
    "simsun.ttc",
    "DejaVuSans.ttf",
)
"""Files by the names under which Linux, macOS and Windows have them, those with Chinese first."""
CODE_SIZE = 0.62
"""Size of code points in relation to the text around them."""


class Span(NamedTuple):
    """Characters that one font draws."""

    text: str
    font: Any


class Line(NamedTuple):
    """A line of text, ready to be drawn: its spans, its width in pixels, and the characters that no font has."""

    spans: tuple[Span, ...]
    width: float
    lacking: str


@lru_cache(maxsize=4096)
def line(text: str, size: float) -> Line:
    """`text` set in a size in pixels."""
    spans: list[Span] = []
    lacking = ""
    for character in text:
        font = next((font for font in _fonts(size) if _has(font, character)), None)
        if font is None:
            lacking += character
            spans.append(Span(f" u{ord(character):04X}", _default(size * CODE_SIZE)))
        elif spans and spans[-1].font is font:
            spans[-1] = spans[-1]._replace(text=spans[-1].text + character)
        else:
            spans.append(Span(character, font))
    return Line(tuple(spans), sum(span.font.getlength(span.text) for span in spans), lacking)


def draw_line(draw: Any, place: tuple[float, float], text: str, size: float, fill: Any) -> None:
    """Write `text` with the left end of its base line at `place`."""
    x, y = place
    for span in line(text, size).spans:
        draw.text((x, y), span.text, fill=fill, font=span.font, anchor="ls")
        x += span.font.getlength(span.text)


@lru_cache(maxsize=32)
def _default(size: float) -> Any:
    return ImageFont.load_default(size)


@lru_cache(maxsize=32)
def _fonts(size: float) -> tuple[Any, ...]:
    return (_default(size), *(ImageFont.truetype(name, size) for name in FONTS if _exists(name)))


@lru_cache(maxsize=64)
def _exists(name: str) -> bool:
    try:
        ImageFont.truetype(name, 12)
    except OSError:
        return False
    return True


@lru_cache(maxsize=8192)
def _has(font: Any, character: str) -> bool:
    """Whether the font draws this character otherwise than one that no font has."""
    if character.isspace():
        return True
    mask, none = font.getmask(character), font.getmask("\U0010fffe")
    return bool(mask.size != none.size or bytes(mask) != bytes(none))
