"""Heat strip: an answer as a row of tokens that wraps like text, coloured by how sure the language model was of each.

Under every line of tokens runs one row per modality: the probability that the model gave, at each place, to beginning a
run of its signals, on a logarithmic scale. A run of signals is one wide cell in the colour of its modality.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw

from nodes.nextgpt.glyphs import draw_line, line
from nodes.nextgpt.modality import noun_of

INK, SOFT, FAINT, PAPER = "#22262e", "#6b7280", "#eaecf0", "#ffffff"
BLANK, BROKEN = "#f1f2f4", "#4b5563"
HUES = ("#2f6fc4", "#b5443c", "#b07a00", "#2b8a63", "#8350a8", "#4b7d8c", "#a8487a")
"""One per modality, in the order of the vocabulary; all dark enough for white text."""
SURE = ((0.0, (244, 164, 138)), (0.5, (255, 240, 196)), (1.0, (203, 230, 238)))
"""Colours of a confidence of 0, 1/2 and 1."""
DECADES = 6
"""The rows of the modalities show probabilities from 10^-6 to 1."""
MOST_TOKENS = 1200
"""Of a longer answer the middle is left out."""
FORCED = {"ending": "forced at the end", "budget": "forced, no room left", "given": "given"}


@dataclass(frozen=True)
class Cell:
    """Tokens `start` to `stop` (exclusive) as one box with a label; several tokens are a run of one modality."""

    start: int
    stop: int
    label: str
    fill: Any
    ink: str


@dataclass(frozen=True)
class Strip:
    """What is drawn.

    cells      in spoken order
    mass       {modality: probability of its first signal token at each token; None where it is not known}; one that is
               known nowhere has no row
    counts     {modality: items in the answer}
    title, notes  lines above and below
    confidence whether the cells show one
    """

    cells: Sequence[Cell]
    mass: Mapping[str, Sequence[float | None]]
    counts: Mapping[str, int]
    title: str
    notes: Sequence[str]
    confidence: bool


def hue(modalities: Sequence[str], name: str) -> str:
    return HUES[list(modalities).index(name) % len(HUES)]


def sure(confidence: float) -> tuple[int, ...]:
    """The colour of a confidence 0..1 (what lies outside is clamped)."""
    value = min(max(confidence, 0.0), 1.0)
    for (low, dark), (high, light) in itertools.pairwise(SURE):
        if value <= high:
            part = (value - low) / (high - low)
            return tuple(round(a + (b - a) * part) for a, b in zip(dark, light, strict=True))
    return SURE[-1][1]


def level(probability: float) -> float:
    """Height of a bar, 0..1: logarithmic over `DECADES`."""
    if not probability > 0:
        return 0.0
    return min(max(1 + math.log10(probability) / DECADES, 0.0), 1.0)


def draw_strip(strip: Strip, width: int, size: int) -> Any:
    """The picture (Pillow, RGB), `width` pixels wide, with text of `size` pixels; it is as high as it has to be."""
    return _Sheet(strip, width, size).draw()


class _Sheet:
    """One drawing: lengths in pixels follow from the text size."""

    def __init__(self, strip: Strip, width: int, size: int) -> None:
        self.strip, self.width, self.size = strip, width, float(size)
        self.small = size * 0.68
        self.margin = round(size * 1.4)
        self.names = list(strip.mass)
        self.rows = [name for name in self.names if any(known is not None for known in strip.mass[name])]
        labels = [line(noun_of(name), self.small).width for name in self.rows]
        self.left = self.margin + round(max([*labels, size * 2]) + size * 0.6)
        self.right = width - self.margin
        self.cell = round(size * 1.75)
        self.bar = round(size * 0.62)
        self.gap = max(2, round(size * 0.14))
        self.pitch = self.cell + (self.bar + self.gap) * len(self.rows) + round(size * 0.95)
        self.lines = self._wrapped()

    def _width_of(self, cell: Cell) -> int:
        pad = self.size * (0.5 if cell.stop - cell.start == 1 else 0.9)
        wide = max(line(cell.label, self.size * 0.9).width + 2 * pad, (cell.stop - cell.start) * self.size * 0.45)
        return round(min(max(wide, self.size * 1.1), self.right - self.left))

    def _wrapped(self) -> list[list[tuple[Cell, int, int]]]:
        """Lines of (cell, left, right)."""
        lines: list[list[tuple[Cell, int, int]]] = [[]]
        x = self.left
        for cell in self.strip.cells:
            wide = self._width_of(cell)
            if x + wide > self.right and lines[-1]:
                lines.append([])
                x = self.left
            lines[-1].append((cell, x, x + wide))
            x += wide + self.gap
        return lines if lines[0] else []

    def draw(self) -> Any:
        head = self.margin + round(self.size * 2.5)
        legend, legend_at = self._flow(self._legend()), head + self.pitch * len(self.lines) + round(self.size * 0.4)
        notes_at = legend_at + round(self.size * (1.0 + 1.6 * (legend[-1][1] + 1)))
        rows = [row for note in self.strip.notes for row in self._folded(note)]
        height = notes_at + round(self.size * 1.25 * len(rows)) + self.margin // 2
        picture = Image.new("RGB", (self.width, height), PAPER)
        self.pen = ImageDraw.Draw(picture)
        title = self._cut(self.strip.title, self.size * 1.15, self.right - self.margin)
        draw_line(self.pen, (self.margin, self.margin + self.size), title, self.size * 1.15, INK)
        for number, cells in enumerate(self.lines):
            self._line(cells, head + self.pitch * number)
        for x, row, paint in legend:
            paint(x, legend_at + self.size * (1.1 + 1.6 * row))
        for number, note in enumerate(rows):
            place = (self.margin, notes_at + self.size * (1.25 * number + 0.7))
            draw_line(self.pen, place, note, self.small * 1.1, SOFT)
        return picture

    def _line(self, cells: list[tuple[Cell, int, int]], top: int) -> None:
        """The tokens of one line and the rows under them."""
        first = f"{cells[0][0].start}"
        place = self.left - line(first, self.small).width - self.size * 0.5
        draw_line(self.pen, (place, top + self.cell * 0.62), first, self.small, SOFT)
        for cell, left, right in cells:
            self.pen.rounded_rectangle((left, top, right, top + self.cell), round(self.size * 0.22), cell.fill)
            label = self._cut(cell.label, self.size * 0.9, right - left - self.size * 0.4)
            middle = (left + right - line(label, self.size * 0.9).width) / 2
            draw_line(self.pen, (middle, top + self.cell * 0.64), label, self.size * 0.9, cell.ink)
        for row, name in enumerate(self.rows):
            self._bars(name, cells, top + self.cell + self.gap * 2 + row * (self.bar + self.gap))

    def _bars(self, name: str, cells: list[tuple[Cell, int, int]], top: int) -> None:
        """The row of one modality: a bar per token, as high as the logarithm of the probability."""
        noun = noun_of(name)
        place = self.left - line(noun, self.small).width - self.size * 0.5
        colour = hue(self.names, name)
        draw_line(self.pen, (place, top + self.bar * 0.88), noun, self.small, colour)
        values, low = self.strip.mass[name], top + self.bar
        for cell, left, right in cells:
            tokens = cell.stop - cell.start
            for index in range(tokens):
                x0, x1 = (left + round((right - left) * part / tokens) for part in (index, index + 1))
                known = values[cell.start + index]
                if known is None:
                    self.pen.line((x0, low, x1, low), FAINT)
                    continue
                self.pen.rectangle((x0, top, x1, low), FAINT)
                high = round(self.bar * level(known))
                if high:
                    self.pen.rectangle((x0, low - high, x1, low), colour)

    def _legend(self) -> list[tuple[float, Callable[[float, float], None]]]:
        """What the colours mean: (width, how to draw it at x and base line) per entry."""
        size, high = self.size, round(self.size * 0.8)
        entries: list[tuple[float, Callable[[float, float], None]]] = []

        def words(text: str, after: float, paint: Callable[[float, float], None], before: str = "") -> None:
            """An entry: words before, something painted `after` pixels wide, words behind."""
            first, second = (line(part, self.small).width for part in (before, text))
            lead = first + size * 0.4 if before else 0.0

            def draw(x: float, base: float) -> None:
                draw_line(self.pen, (x, base - size * 0.12), before, self.small, SOFT)
                paint(x + lead, base)
                draw_line(self.pen, (x + lead + after + size * 0.4, base - size * 0.12), text, self.small, SOFT)

            entries.append((lead + after + size * 0.4 + second, draw))

        def gradient(x: float, base: float) -> None:
            for step in range(60):
                at = round(x + step * size * 0.1)
                self.pen.rectangle((at, base - high, at + round(size * 0.1), base), sure(step / 59))

        def swatch(colour: str) -> Callable[[float, float], None]:
            return lambda x, base: self.pen.rounded_rectangle(
                (x, base - high, x + high, base), round(size * 0.2), colour
            )

        def stairs(x: float, base: float) -> None:
            for step in range(DECADES + 1):
                left, part = x + size * 0.36 * step, round(high * step / DECADES)
                self.pen.rectangle((left, base - high, left + size * 0.3, base), FAINT)
                if part:
                    self.pen.rectangle((left, base - part, left + size * 0.3, base), SOFT)

        if self.strip.confidence:
            words("1", size * 6.1, gradient, "how sure of a token: 0")
        else:
            words("", 0, lambda x, base: None, "how sure of a token: not recorded")
        for name in self.names:
            words(f"{noun_of(name)} × {self.strip.counts.get(name, 0)}", high, swatch(hue(self.names, name)))
        if self.rows:
            words("1", size * 0.36 * (DECADES + 1), stairs, "rows: chance that one begins here: 10⁻⁶")
        return entries

    def _flow(
        self, entries: list[tuple[float, Callable[[float, float], None]]]
    ) -> list[tuple[float, int, Callable[[float, float], None]]]:
        """Entries of the legend as (x, row, draw), wrapped."""
        placed, x, row = [], float(self.margin), 0
        for wide, draw in entries:
            if x + wide > self.right and x > self.margin:
                x, row = float(self.margin), row + 1
            placed.append((x, row, draw))
            x += wide + self.size * 0.9
        return placed

    def _cut(self, text: str, size: float, room: float) -> str:
        while text and line(text, size).width > room:
            text = f"{text[:-2]}…" if len(text) > 2 else ""
        return text

    def _folded(self, note: str) -> list[str]:
        """A note as lines that fit."""
        rows, room = [""], self.right - self.margin
        for word in note.split(" "):
            longer = f"{rows[-1]} {word}".strip()
            if rows[-1] and line(longer, self.small * 1.1).width > room:
                rows.append(word)
            else:
                rows[-1] = longer
        return rows
