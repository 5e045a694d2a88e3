"""A table as a picture, for reports and for models that look instead of reading."""

from __future__ import annotations

from typing import Annotated, Any

from graph_engine import Image, Widget, node
from nodes.data.kinds import Table
from nodes.data.table_text import columns_of, is_number, written

ROW_PIXELS, LETTER_PIXELS, MARGIN = 30, 8.5, 16
LONGEST = 48


@node(id="data.table_picture", category="data/chart")
def table_picture(table: Table, title: str = "", rows: Annotated[int, Widget(min=1, max=200)] = 40) -> Image:
    """Draw a table: IMAGE "1 H W 3", as large as its cells need. rows: of a longer table the first so many."""
    from nodes.data.drawing import draw

    shown = table["rows"][:rows]
    cells = [[_short(written(cell)) for cell in row] for row in shown]
    if len(table["rows"]) > rows:
        cells.append([f"… {len(table['rows']) - rows} more", *[""] * (len(table["columns"]) - 1)])
    names = [_short(name) for name in table["columns"]]
    widths = [max(_width(text) for text in column) + 2 for column in zip(names, *cells, strict=True)]
    sides = ["right" if is_number(column) else "left" for column in columns_of(table).values()]

    def paint(figure: Any) -> None:
        axes = figure.add_subplot()
        axes.axis("off")
        axes.set_title(title)
        total = sum(widths)
        drawn = axes.table(
            cells or [[""] * len(names)],
            colLabels=names,
            colWidths=[width / total for width in widths],
            bbox=[0, 0, 1, 1],
        )
        drawn.auto_set_font_size(False)
        drawn.set_fontsize(11)
        for (row, column), cell in drawn.get_celld().items():
            cell.set_edgecolor("#d1d5db")
            cell.set_text_props(ha=sides[column], weight="bold" if row == 0 else "normal")
            cell.PAD = 0.5 / widths[column]
            cell.set_facecolor("#e8eef7" if row == 0 else "#ffffff" if row % 2 else "#f7f8fa")

    height = (len(cells) + 1) * ROW_PIXELS + (34 if title else 0) + MARGIN
    return draw(min(4096, max(240, int(sum(widths) * LETTER_PIXELS) + MARGIN)), min(8192, height), paint)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def _width(text: str) -> int:
    """In letters; a Chinese character is as wide as two."""
    return sum(2 if ord(sign) > 0x2E7F else 1 for sign in text)
