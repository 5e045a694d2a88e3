"""Draws the tables of `tests.bench.kernels` and `tests.bench.unets`:

    python -m tests.bench.kernels_plot out/bench/kernels.csv docs/kernels.svg
    python -m tests.bench.kernels_plot out/bench/unets-*.csv docs/unets.svg
    make bench-gpu-plot

For each case a bar per way: how much of the roof it reaches, the longer the faster. Beside it its time, and how many times as
fast ours is. What was not measured is named where its bar would be. Times of several tables are never compared.
"""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

OURS = ("triton", "ours+graph")
COLOURS = {
    "triton": "#2f7ed8", "ours+graph": "#2f7ed8", "ours": "#8fb8e8", "eager": "#c42525", "torch": "#c42525",
    "sdpa": "#1aadce", "sdpa.flash": "#8bbc21", "sdpa.cudnn": "#5b8a00", "sdpa.efficient": "#b9d68a", "xformers": "#910000",
    "compile": "#f7b987", "reduce-overhead": "#f28f43", "max-autotune": "#c96a1c",
}  # fmt: skip
WIDTH, LABEL, BAR, TOP, LINE, GAP, TALLEST = 580, 120, 250, 70, 15, 12, 1500
"""Of a column, of the names in it, of a bar that reaches the roof; above all columns; of a line; between cases; of a column."""
LETTERS = 38
"""Of a reason that fit beside a bar."""


class Entry(NamedTuple):
    """A way of a case. seconds, share: None where there is no time; told: why."""

    way: str
    seconds: float | None
    share: float | None
    told: str


class Group(NamedTuple):
    """A case of one table."""

    title: str
    entries: list[Entry]

    @property
    def height(self) -> int:
        return LINE * (len(self.entries) + 1) + GAP


def groups_of(rows: Sequence[dict[str, str]], table: str = "") -> list[Group]:
    """The cases of a table, in its order. table: its name, where there are several."""
    found: dict[str, Group] = {}
    for row in rows:
        if "way" in row:
            title, way, unit, scale = f"{row['model']}, a step", row["way"], "ms", 1e-3
        else:
            title = f"{row['operation']} {row['case']}, {row['calls_per_step']} times a step"
            way, unit, scale = row["kernels"], "us", 1e-6
        floor = float(row[f"floor_{unit}"] or "nan")
        beside = f" ({table})" if table else ""
        times = [float(row[f"{unit}_{which}"]) * scale for which in ("first", "second") if row[f"{unit}_{which}"]]
        share = float(row["roof_share"]) if times else None
        group = found.setdefault(title, Group(f"{title}, floor {time_of(floor * scale)}{beside}", []))
        group.entries.append(Entry(way, min(times, default=None), share, row["told"]))
    return list(found.values())


def draw(groups: Sequence[Group], about: dict[str, str]) -> str:
    """An SVG."""
    most = max(TALLEST, max((group.height for group in groups), default=0))
    columns: list[list[Group]] = [[]]
    for group in groups:
        if columns[-1] and sum(one.height for one in columns[-1]) + group.height > most:
            columns.append([])
        columns[-1].append(group)
    wide = WIDTH * len(columns)
    tall = TOP + max(sum(group.height for group in column) for column in columns)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{tall}" font-family="sans-serif" font-size="11">',
        f'<rect width="{wide}" height="{tall}" fill="white"/>',
        f'<text x="10" y="20" font-size="15">{escape(title(about))}</text>',
        '<text x="10" y="38">share of the roof; the line is all of it. Beside each bar its time, and how many times as fast '
        "ours is</text>",
    ]
    for number, column in enumerate(columns):
        left, y = 10 + number * WIDTH, TOP
        for group in column:
            parts += draw_group(group, left, y)
            y += group.height
    return "\n".join([*parts, "</svg>\n"])


def draw_group(group: Group, left: float, top: float) -> list[str]:
    ours = next((entry.seconds for entry in group.entries if entry.way in OURS), None)
    begin, end = left + LABEL, top + LINE * (len(group.entries) + 1) - 4
    parts = [f'<text x="{left}" y="{top + 2}" font-weight="bold">{escape(group.title)}</text>']
    for index, entry in enumerate(group.entries):
        y = top + 6 + index * LINE
        parts.append(f'<text x="{begin - 6}" y="{y + 10}" text-anchor="end">{escape(entry.way)}</text>')
        if entry.seconds is None or entry.share is None:
            said = entry.told if len(entry.told) <= LETTERS else entry.told[: LETTERS - 3] + "..."
            parts.append(f'<text x="{begin + 4}" y="{y + 10}" fill="grey">{escape(said or "not measured")}</text>')
            continue
        long = BAR * min(1.0, entry.share)
        said = f"{time_of(entry.seconds)}, {entry.share:.0%}"
        if ours is not None and entry.way not in OURS:
            said += f", ours {entry.seconds / ours:.2f}x"
        parts.append(
            f'<rect class="bar" x="{begin}" y="{y}" width="{long:.1f}" height="{LINE - 3}" '
            f'fill="{COLOURS.get(entry.way, "grey")}"/>'
            f'<text x="{begin + BAR + 6}" y="{y + 10}">{escape(said)}</text>'
        )
    parts.append(
        f'<line x1="{begin + BAR}" y1="{top + 4}" x2="{begin + BAR}" y2="{end}" stroke="black" stroke-dasharray="4 3"/>'
    )
    return parts


def time_of(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "unknown"
    return f"{seconds * 1e3:.2f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.1f} us"


def title(about: dict[str, str]) -> str:
    versions = ", ".join(f"{name} {about[name]}" for name in ("torch", "triton", "driver") if about.get(name))
    return f"{about['device']}, {about['dtype']}, {versions}"


def main(words: Sequence[str]) -> int:
    *tables, picture = words or ("",)
    groups: list[Group] = []
    about: dict[str, str] = {}
    for name in tables:
        with Path(name).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        about = about or next(iter(rows), {})
        groups += groups_of(rows, Path(name).stem if len(tables) > 1 else "")
    if not groups or not picture.endswith(".svg"):
        print(__doc__, file=sys.stderr)
        return 2
    Path(picture).write_text(draw(groups, about), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
