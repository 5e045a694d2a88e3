"""Draws offload.csv: `python -m tests.bench.offload_plot offload.csv offload.svg`. Bars of seconds for each budget, ours and
the others; the line across is the least that any schedule needs."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

COLOURS = {"ours": "#2f7ed8", "model": "#8bbc21", "sequential": "#c42525", "group": "#f28f43"}
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 900, 420, 60, 60, 50


def draw(rows: Sequence[dict[str, str]]) -> str:
    """An SVG. What had no room is written where its bar would be."""
    budgets = list(dict.fromkeys(row["budget_gb"] for row in rows))
    most = max([float(row["seconds"]) for row in rows if row["seconds"]] + [float(row["least_s"]) for row in rows])
    scale = (HEIGHT - TOP - BOTTOM) / most
    ground = HEIGHT - BOTTOM
    group = (WIDTH - LEFT) / max(1, len(budgets))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="15">A turn of NExT-GPT, seconds by memory budget: {escape(title(rows[0]))}</text>',
    ]
    for number, (method, colour) in enumerate(COLOURS.items()):
        x = LEFT + number * 130
        parts.append(
            f'<rect x="{x}" y="32" width="12" height="12" fill="{colour}"/><text x="{x + 17}" y="43">{method}</text>'
        )
    parts.append(f'<line x1="{LEFT}" y1="{ground}" x2="{WIDTH}" y2="{ground}" stroke="black"/>')
    for place, budget in enumerate(budgets):
        begin = LEFT + place * group
        mine = [row for row in rows if row["budget_gb"] == budget]
        wide = group * 0.8 / max(1, len(mine))
        for index, row in enumerate(mine):
            x = begin + group * 0.1 + index * wide
            tall = float(row["seconds"]) * scale if row["seconds"] else 0.0
            said = f"{float(row['seconds']):.1f}" if row["seconds"] else row["status"]
            parts.append(
                f'<rect class="bar" x="{x:.1f}" y="{ground - tall:.1f}" width="{wide * 0.9:.1f}" height="{tall:.1f}" '
                f'fill="{COLOURS.get(row["method"], "grey")}"/>'
                f'<text x="{x + wide * 0.45:.1f}" y="{ground - tall - 4:.1f}" text-anchor="middle">{escape(said)}</text>'
            )
        least = ground - float(mine[0]["least_s"]) * scale
        parts.append(
            f'<line x1="{begin + group * 0.07:.1f}" y1="{least:.1f}" x2="{begin + group * 0.93:.1f}" y2="{least:.1f}" '
            'stroke="black" stroke-dasharray="4 3"/>'
            f'<text x="{begin + group / 2:.1f}" y="{HEIGHT - 20}" text-anchor="middle">{float(budget):g} GiB</text>'
        )
    return "\n".join([*parts, "</svg>\n"])


def title(row: dict[str, str]) -> str:
    return f"{row['device']}, torch {row['torch']}, {row['tokens']} tokens, {row['steps']} steps (dashes: the least)"


def main(words: Sequence[str]) -> int:
    if len(words) != 2:
        print(__doc__)
        return 2
    with Path(words[0]).open() as file:
        rows = list(csv.DictReader(file))
    Path(words[1]).write_text(draw(rows), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
