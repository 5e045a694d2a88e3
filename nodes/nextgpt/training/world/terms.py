"""What there is in the world and how it is called, in English and in Chinese.

Every attribute is a table from its name to the words for it; the first word is the canonical one. Judges of text read
the same tables, so what can be said can be judged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")

Words = Mapping[Language, tuple[str, ...]]

COLOURS: Mapping[str, Words] = {
    "red": {"en": ("red", "scarlet"), "zh": ("红色",)},
    "orange": {"en": ("orange",), "zh": ("橙色",)},
    "yellow": {"en": ("yellow",), "zh": ("黄色",)},
    "green": {"en": ("green",), "zh": ("绿色",)},
    "cyan": {"en": ("cyan", "turquoise"), "zh": ("青色",)},
    "blue": {"en": ("blue",), "zh": ("蓝色",)},
    "purple": {"en": ("purple", "violet"), "zh": ("紫色",)},
}
RGB: Mapping[str, tuple[float, float, float]] = {
    "red": (0.87, 0.13, 0.13),
    "orange": (0.97, 0.53, 0.08),
    "yellow": (0.97, 0.89, 0.12),
    "green": (0.14, 0.67, 0.25),
    "cyan": (0.13, 0.80, 0.86),
    "blue": (0.15, 0.29, 0.86),
    "purple": (0.58, 0.20, 0.76),
}
"""sRGB in 0..1; every one saturated, and hues at least 23 degrees apart."""

SHAPES: Mapping[str, Words] = {
    "circle": {"en": ("circle", "disc"), "zh": ("圆形",)},
    "square": {"en": ("square",), "zh": ("方形",)},
    "triangle": {"en": ("triangle",), "zh": ("三角形",)},
    "star": {"en": ("star",), "zh": ("星形", "星星")},
    "cross": {"en": ("cross", "plus sign"), "zh": ("十字",)},
    "ring": {"en": ("ring",), "zh": ("圆环",)},
    "heart": {"en": ("heart",), "zh": ("心形", "爱心")},
    "moon": {"en": ("moon", "crescent"), "zh": ("月牙",)},
}
SYMMETRY: Mapping[str, int] = {
    "circle": 0,
    "square": 4,
    "triangle": 3,
    "star": 5,
    "cross": 4,
    "ring": 0,
    "heart": 1,
    "moon": 1,
}
"""How often a shape comes to itself in a full turn; 0: always, so that turning it cannot be seen."""

SIZES: Mapping[str, Words] = {
    "small": {"en": ("small", "little"), "zh": ("小的", "小")},
    "large": {"en": ("large", "big"), "zh": ("大的", "大")},
}
BACKGROUNDS: Mapping[str, Words] = {
    "white": {"en": ("white",), "zh": ("白色",)},
    "grey": {"en": ("grey", "gray"), "zh": ("灰色",)},
    "black": {"en": ("black",), "zh": ("黑色",)},
}
GREY: Mapping[str, float] = {"white": 0.95, "grey": 0.5, "black": 0.06}
"""Backgrounds have no hue, so that every object stands out by its own."""

PLACES: Mapping[str, Words] = {
    "top left": {"en": ("in the top left corner", "at the top left"), "zh": ("左上角",)},
    "top": {"en": ("at the top",), "zh": ("上方",)},
    "top right": {"en": ("in the top right corner", "at the top right"), "zh": ("右上角",)},
    "left": {"en": ("on the left", "at the left edge"), "zh": ("左边",)},
    "centre": {"en": ("in the centre", "in the middle"), "zh": ("中间",)},
    "right": {"en": ("on the right", "at the right edge"), "zh": ("右边",)},
    "bottom left": {"en": ("in the bottom left corner", "at the bottom left"), "zh": ("左下角",)},
    "bottom": {"en": ("at the bottom",), "zh": ("下方",)},
    "bottom right": {"en": ("in the bottom right corner", "at the bottom right"), "zh": ("右下角",)},
}
"""Row by row, so that the index is 3 x row + column."""

RELATIONS: Mapping[str, Words] = {
    "left of": {"en": ("to the left of", "left of"), "zh": ("的左侧",)},
    "right of": {"en": ("to the right of", "right of"), "zh": ("的右侧",)},
    "above": {"en": ("above", "over"), "zh": ("的上面",)},
    "below": {"en": ("below", "under"), "zh": ("的下面",)},
}

NOTES: Mapping[str, Words] = {name: {"en": (name,), "zh": (name,)} for name in ("C", "D", "E", "F", "G", "A", "B")}
STEPS: Mapping[str, int] = {"C": 8, "D": 9, "E": 10, "F": 11, "G": 12, "A": 13, "B": 15}
"""Frequencies in eighths of the octave's C: the harmonic series, not the tempered scale. With a C of 400 Hz every note
is a multiple of 50 Hz, because of what a vocoder can do: it is a convolution, so out of a spectrum that does not change
it can only make what repeats with every frame, and frames of the mini audio decoder are 20 ms apart."""

OCTAVES: Mapping[str, Words] = {
    "low": {"en": ("low", "deep"), "zh": ("低音",)},
    "high": {"en": ("high",), "zh": ("高音",)},
}
BASE_HZ: Mapping[str, float] = {"low": 400.0, "high": 800.0}
"""The C of each octave."""

TIMBRES: Mapping[str, Words] = {
    "flute": {"en": ("flute",), "zh": ("长笛",)},
    "organ": {"en": ("organ",), "zh": ("风琴",)},
    "violin": {"en": ("violin",), "zh": ("小提琴",)},
    "bell": {"en": ("bell",), "zh": ("铃",)},
}
BEATS: Mapping[str, Words] = {
    "once": {"en": ("once",), "zh": ("一次", "一声")},
    "twice": {"en": ("twice", "two times"), "zh": ("两次", "两声")},
    "three times": {"en": ("three times",), "zh": ("三次", "三声")},
    "four times": {"en": ("four times",), "zh": ("四次", "四声")},
}
DIRECTIONS: Mapping[str, Words] = {
    "steady": {"en": ("steady",), "zh": ("平稳",)},
    "rising": {"en": ("rising", "going up"), "zh": ("上升",)},
    "falling": {"en": ("falling", "going down"), "zh": ("下降",)},
}
LOUDNESS: Mapping[str, Words] = {
    "quiet": {"en": ("quiet", "soft"), "zh": ("轻声",)},
    "loud": {"en": ("loud",), "zh": ("响亮",)},
}
PEAKS: Mapping[str, float] = {"quiet": 0.1, "loud": 0.5}
"""Peak amplitude."""

MOTIONS: Mapping[str, Words] = {
    "right": {"en": ("moves to the right", "slides right"), "zh": ("向右移动",)},
    "left": {"en": ("moves to the left", "slides left"), "zh": ("向左移动",)},
    "up": {"en": ("moves up", "rises"), "zh": ("向上移动",)},
    "down": {"en": ("moves down", "sinks"), "zh": ("向下移动",)},
    "grows": {"en": ("grows", "gets bigger"), "zh": ("变大",)},
    "shrinks": {"en": ("shrinks", "gets smaller"), "zh": ("变小",)},
    "turns": {"en": ("turns", "rotates"), "zh": ("旋转",)},
    "still": {"en": ("stays still", "does not move"), "zh": ("静止不动",)},
}


def language_of(text: str) -> Language:
    """Chinese where there is a Chinese character."""
    return "zh" if re.search(r"[\u4e00-\u9fff]", text) else "en"


def word(table: Mapping[str, Words], name: str, language: Language, pick: int = 0) -> str:
    """A word for `name`: the canonical one, or another that `pick` chooses."""
    words = table[name][language]
    return words[pick % len(words)]
