"""Charts of tables."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from graph_engine import Image, NodeError, Widget, node
from nodes.data.kinds import Table
from nodes.data.table_edit import place_of
from nodes.data.table_text import columns_of, is_number, written

MOST_SLICES = 12
MOST_TICKS = 24
Pixels = Annotated[int, Widget(min=160, max=4096, step=8)]


@node(id="data.chart", category="data/chart")
def chart(
    table: Table,
    form: Literal["bar", "horizontal bar", "line", "area", "scatter", "pie"] = "bar",
    labels: Annotated[str, Widget(placeholder="the first column", label="labels or x")] = "",
    values: Annotated[str, Widget(placeholder="all columns of numbers")] = "",
    title: str = "",
    stacked: bool = False,
    width: Pixels = 960,
    height: Pixels = 600,
) -> Image:
    """Draw a table: IMAGE "1 H W 3".

    labels: the column along the x axis. values: the columns that are drawn, separated by commas. A pie shows one column;
    beyond 12 slices the smallest become one.
    """
    from nodes.data.drawing import draw

    columns = columns_of(table)
    if not table["rows"]:
        raise NodeError("the table has no rows to draw.", remedy="Give it rows.", code="empty_table", port="table")
    label = table["columns"][place_of(table, labels, "labels")] if labels else table["columns"][0]
    if values:
        names = [table["columns"][place_of(table, name.strip(), "values")] for name in values.split(",")]
    else:
        names = [name for name, column in columns.items() if name != label and is_number(column)]
        if not names and len(columns) == 1 and is_number(columns[label]):
            names = [label]
    if not names:
        raise NodeError(
            f"no column of numbers is left to draw beside {label!r}.",
            remedy="Name one in `values`; cells must be numbers or empty.",
            code="no_number",
            port="values",
        )
    for name in names:
        if not is_number(columns[name]):
            raise NodeError(
                f"column {name!r} does not hold numbers only.",
                remedy="Choose a column of numbers, or filter the rows first.",
                code="no_number",
                port="values",
            )
    ticks = [written(cell) for cell in columns[label]]
    if form == "pie":
        return draw(width, height, lambda figure: _pie(figure, ticks, columns[names[0]], names[0], title))

    def paint(figure: Any) -> None:
        axes = figure.add_subplot()
        series = {name: [float("nan") if cell is None else float(cell) for cell in columns[name]] for name in names}
        positions: Any = columns[label] if form in ("line", "area", "scatter") and is_number(columns[label]) else None
        if "bar" in form:
            _bars(axes, ticks, series, horizontal=form != "bar", stacked=stacked)
        else:
            _curves(axes, ticks, positions, series, form, stacked)
        if len(names) > 1:
            axes.legend()
        else:
            (axes.set_xlabel if form == "horizontal bar" else axes.set_ylabel)(names[0])
        (axes.set_ylabel if form == "horizontal bar" else axes.set_xlabel)(label)
        axes.set_title(title)

    return draw(width, height, paint)


def _bars(axes: Any, ticks: list[str], series: dict[str, list[float]], *, horizontal: bool, stacked: bool) -> None:
    import numpy

    places = numpy.arange(len(ticks))
    wide = 0.8 if stacked else 0.8 / len(series)
    floor = numpy.zeros(len(ticks))
    for number, (name, numbers) in enumerate(series.items()):
        heights = numpy.nan_to_num(numpy.asarray(numbers))
        at = places if stacked else places + (number - (len(series) - 1) / 2) * wide
        if horizontal:
            axes.barh(at, heights, wide, left=floor if stacked else 0, label=name)
        else:
            axes.bar(at, heights, wide, bottom=floor if stacked else 0, label=name)
        floor = floor + heights
    _name_places(axes, ticks, horizontal=horizontal)
    axes.grid(visible=False, axis="y" if horizontal else "x")
    if horizontal:
        axes.invert_yaxis()  # the first row of the table on top


def _curves(
    axes: Any, ticks: list[str], positions: Any, series: dict[str, list[float]], form: str, stacked: bool
) -> None:
    import numpy

    x = numpy.arange(len(ticks)) if positions is None else numpy.asarray(positions, dtype=float)
    order = numpy.argsort(x, kind="stable")
    floor = numpy.zeros(len(ticks))
    for name, numbers in series.items():
        y = numpy.asarray(numbers)
        if form == "scatter":
            axes.scatter(x, y, label=name, s=28)
            continue
        if stacked:
            y = numpy.nan_to_num(y) + floor
        if form == "area":
            axes.fill_between(x[order], floor[order] if stacked else 0, y[order], alpha=0.5, label=name)
        axes.plot(x[order], y[order], marker="o" if len(x) <= 60 else "", label=name if form == "line" else None)
        floor = y if stacked else floor
    if positions is None:
        _name_places(axes, ticks, horizontal=False)


def _name_places(axes: Any, ticks: list[str], *, horizontal: bool) -> None:
    """Names under the places; of very many every n-th, and long ones aslant."""
    step = -(-len(ticks) // MOST_TICKS)
    places, names = range(0, len(ticks), step), [_short(name) for name in ticks[::step]]
    if horizontal:
        axes.set_yticks(places, names)
    else:
        aslant = sum(map(len, names)) > 70
        axes.set_xticks(places, names, rotation=40 if aslant else 0, ha="right" if aslant else "center")


def _pie(figure: Any, ticks: list[str], column: Any, name: str, title: str) -> None:
    parts = [(label, float(cell)) for label, cell in zip(ticks, column, strict=True) if cell]
    if not parts or any(size < 0 for _, size in parts):
        raise NodeError(
            f"a pie needs numbers above 0, {name!r} has {'none' if not parts else 'negative ones'}.",
            remedy="Draw bars instead.",
            code="no_number",
            port="values",
        )
    if len(parts) > MOST_SLICES:
        parts.sort(key=lambda part: -part[1])
        rest = parts[MOST_SLICES - 1 :]
        parts = [*parts[: MOST_SLICES - 1], (f"{len(rest)} others", sum(size for _, size in rest))]
    axes = figure.add_subplot()
    axes.pie(
        [size for _, size in parts],
        labels=[_short(label) for label, _ in parts],
        autopct="%.0f %%",
        startangle=90,
        counterclock=False,
        wedgeprops={"edgecolor": "white"},
        textprops={"color": "#1f2937"},
    )
    axes.set_title(title or name)


def _short(text: str) -> str:
    return text if len(text) <= 24 else text[:23] + "…"
