"""A workflow as a picture: `python -m docs.draw_graph WORKFLOW OUT [--width 1600] [--colours 0]`.

Nodes stand where the document's `ui` puts them, closed up; without `ui` they stand in layers. The picture is at least
`--width` wide. Links go around the nodes. Only ports that are linked are named on the left side of a node.
Dots are ports in the colour of their kind, a square is a list.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import networkx
from PIL import Image, ImageColor, ImageDraw, ImageFont

from graph_engine.errors import AnyloomError
from graph_engine.graph.document import Document, DocumentNode, parse
from graph_engine.graph.kinds import ANY, Kind, ModelKind
from graph_engine.graph.registry import Registry
from graph_engine.graph.subgraph import Subgraph, definition_of

SCALE = 3
"""Drawn so many times larger and scaled down, for smooth curves."""
TITLE, ROW, WIDGET = 25, 17, 19
"""Heights in pixels of the picture."""
PAD, GAP_X, GAP_Y, MARGIN, CORNER, DOT = 8, 32, 26, 24, 8, 4.2
CLEAR, LANE = 11.0, 6.0
"""How far a passing link stays away from a node, and from another link."""
NARROWEST = 118
"""A node's width below which names no longer fit; the picture gets wider instead."""
CLOSE = 0.5
"""Of the distance between two rows at least this much stays."""
BACKGROUND, GRID = "#16181d", "#1e2127"
BODY, EDGE, FIELD, TEXT, DIM = "#262a33", "#0c0d10", "#1b1e25", "#e6e9ef", "#98a0af"
HEADS = {"nextgpt": "#3d3558", "media": "#274a4b", "control": "#4a4031", "data": "#3f4a35"}
OTHER_HEAD = "#3a3f4b"
Point = tuple[float, float]


@dataclass
class Port:
    name: str
    kind: Kind
    as_list: bool = False


@dataclass
class Box:
    """A node as it is drawn; x and y are its upper left corner."""

    id: str
    title: str
    pack: str
    inputs: list[Port]
    outputs: list[Port]
    widgets: list[tuple[str, str]]
    x: float = 0
    y: float = 0
    width: float = 0
    links: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def height(self) -> float:
        ports = (len(self.inputs) + len(self.outputs)) * ROW
        return TITLE + 7 + ports + len(self.widgets) * WIDGET + (4 if self.widgets else 0) + 4

    def output_at(self, index: int) -> Point:
        return self.x + self.width, self.y + TITLE + 5 + ROW * (index + 0.5)

    def input_at(self, index: int) -> Point:
        return self.x, self.y + TITLE + 5 + ROW * (len(self.outputs) + index + 0.5)


def boxes_of(document: Document, registry: Registry) -> dict[str, Box]:
    boxes: dict[str, Box] = {}
    for id, node in document.nodes.items():
        subgraph = document.subgraphs.get(definition_of(node.type) or "")
        if subgraph is not None:
            boxes[id] = _instance(node, subgraph, registry)
            continue
        type = registry[node.type]
        inputs = [Port(name, _kind(type.input(name))) for name in node.links]
        outputs = [Port(port.name, port.kind, port.as_list) for port in type.outputs]
        widgets = [(name, _short(value)) for name, value in node.values.items()]
        title = node.title or type.title
        boxes[id] = Box(id, title, node.type.partition(".")[0], inputs, outputs, widgets, links=dict(node.links))
    for box in boxes.values():  # a port that takes any kind shows the kind that arrives
        for port in box.inputs:
            source, output = box.links[port.name]
            if port.kind == ANY and source in boxes:
                port.kind = next((one.kind for one in boxes[source].outputs if one.name == output), ANY)
    return boxes


def _instance(node: DocumentNode, subgraph: Subgraph, registry: Registry) -> Box:
    """Its border, in the colours that nodes have for those kinds."""
    known = {port.kind.name: port.kind for type in registry for port in (*type.inputs, *type.outputs)}
    kinds = {port.name: known.get(port.kind, ANY) for port in subgraph.inputs.values()}
    inputs = [Port(name, kinds.get(name, ANY)) for name in node.links]
    outputs = [Port(port.name, known.get(port.kind, ANY)) for port in subgraph.outputs.values()]
    values = {port.name: port.default for port in subgraph.inputs.values() if port.given} | node.values
    widgets = [(name, _short(value)) for name, value in values.items() if name not in node.links]
    title = node.title or subgraph.title or subgraph.name
    return Box(node.id, title, "subgraph", inputs, outputs, widgets, links=dict(node.links))


def _kind(port: Any) -> Kind:
    return port.kind if port is not None else ANY


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


# --- places -----------------------------------------------------------------------------------------------------


def place(boxes: dict[str, Box], raw: Mapping[str, Any], width: int) -> tuple[int, int]:
    """Give every box its place and width; returns the size of the picture without its legend."""
    spots = {id: raw[id].get("ui", {}) for id in boxes}
    if all("x" in spot and "y" in spot for spot in spots.values()):
        for id, box in boxes.items():
            box.x, box.y = float(spots[id]["x"]), float(spots[id]["y"])
    else:
        _layers(boxes)
    columns = sorted({box.x for box in boxes.values()})
    steps = [after - before for before, after in pairwise(columns)]
    inner = width - 2 * MARGIN
    # The narrowest step between two columns has to hold a node and room for the links.
    whole = columns[-1] - columns[0]
    share = min(steps) / (whole + min(steps)) if steps else 1.0
    step = max(min(inner * share, 260.0), NARROWEST + GAP_X)
    node_width = step - GAP_X if steps else min(inner, 220.0)
    stretch = step / min(steps) if steps else 1.0
    for box in boxes.values():
        box.x = MARGIN + (box.x - columns[0]) * stretch
        box.width = node_width
    used = MARGIN * 2 + whole * stretch + node_width
    width = max(width, int(used))
    shift = (width - used) / 2
    for box in boxes.values():
        box.x += shift
    _spread(boxes)
    # Links may pass above the highest node and below the lowest one.
    heights = [y for link in links_of(boxes) for _, y in link.way]
    top = min([*heights, *(box.y for box in boxes.values())])
    bottom = max([*heights, *(box.y + box.height for box in boxes.values())])
    for box in boxes.values():
        box.y += MARGIN - top
    return width, int(bottom - top + 2 * MARGIN)


def _spread(boxes: dict[str, Box]) -> None:
    """Close up, row by row: what stood at one height still does, and no box touches the one above it."""
    rows: dict[float, list[Box]] = defaultdict(list)
    for box in boxes.values():
        rows[box.y].append(box)
    below: dict[float, float] = defaultdict(float)
    before, at = min(rows), 0.0
    for height in sorted(rows):
        at = max([at + (height - before) * CLOSE, *(below[box.x] for box in rows[height])])
        for box in rows[height]:
            box.y = max(at, below[box.x])
            below[box.x] = box.y + box.height + GAP_Y
        before = height


def _layers(boxes: dict[str, Box]) -> None:
    """Sources left, readers right; within a layer by the middle of what is read, to keep crossings few."""
    digraph = networkx.DiGraph()
    digraph.add_nodes_from(boxes)
    digraph.add_edges_from((source, id) for id, box in boxes.items() for source, _ in box.links.values())
    row: dict[str, float] = {}
    for column, layer in enumerate(networkx.topological_generations(digraph)):

        def middle(id: str) -> float:
            above = [row[source] for source in digraph.predecessors(id)]
            return sum(above) / len(above) if above else 0.0

        height = 0.0
        for id in sorted(layer, key=lambda id: (middle(id), list(boxes).index(id))):
            boxes[id].x, boxes[id].y = column * 300.0, height
            row[id] = height + boxes[id].height / 2
            height += boxes[id].height + GAP_Y


# --- ways -------------------------------------------------------------------------------------------------------


class Ways:
    """Ways for links around the nodes: level across each column in between, through the gaps from one to the next."""

    def __init__(self, boxes: dict[str, Box]) -> None:
        self.columns: dict[float, list[Box]] = defaultdict(list)
        for box in boxes.values():
            self.columns[box.x].append(box)
        self.taken: dict[float, list[tuple[float, str]]] = defaultdict(list)

    def find(self, start: Point, end: Point, who: str) -> list[Point]:
        """The points that a link passes level: start, then both sides of every column crossed, then the end."""
        between = [x for x in sorted(self.columns) if start[0] < x and x + self._width(x) < end[0]]
        best: dict[float, tuple[float, list[float]]] = {start[1]: (0.0, [])}
        for x in between:
            spots = self._free(x, who, {start[1], end[1], *best})
            best = {
                y: min((cost + self._cost(before, y), [*path, y]) for before, (cost, path) in best.items())
                for y in spots
            }
        _, heights = min((cost + self._cost(y, end[1]), path) for y, (cost, path) in best.items())
        points = [start]
        for x, y in zip(between, heights, strict=True):
            self.taken[x].append((y, who))
            points += [(x - 3, y), (x + self._width(x) + 3, y)]
        return [*points, end]

    def _width(self, x: float) -> float:
        return self.columns[x][0].width

    @staticmethod
    def _cost(before: float, after: float) -> float:
        return abs(after - before) + (12 if abs(after - before) > 1 else 0)

    def _free(self, x: float, who: str, wishes: set[float]) -> set[float]:
        """Heights at which a link may cross the column: those wished for, and the nearest that are free."""
        others = [(y - LANE, y + LANE) for y, owner in self.taken[x] if owner != who]
        walls = [(box.y - CLEAR, box.y + box.height + CLEAR) for box in self.columns[x]] + others
        edges = {edge for wall in walls for edge in wall} | wishes | {y for y, owner in self.taken[x] if owner == who}
        return {y for y in edges if not any(low < y < high for low, high in walls)}


@dataclass
class Drawn:
    """A link with its way; thin ones carry models and lie below the others."""

    way: list[Point]
    kind: Kind
    thin: bool


def links_of(boxes: dict[str, Box]) -> list[Drawn]:
    """The links from node to node; short ones choose their way first."""
    ways = Ways(boxes)
    ends: list[tuple[float, Point, Point, str, Kind]] = []
    for box in boxes.values():
        for index, port in enumerate(box.inputs):
            source, output = box.links[port.name]
            if source in boxes:
                at = next(n for n, one in enumerate(boxes[source].outputs) if one.name == output)
                start, end = boxes[source].output_at(at), box.input_at(index)
                ends.append((end[0] - start[0], start, end, f"{source}.{output}", boxes[source].outputs[at].kind))
    return [
        Drawn(ways.find(start, end, who), kind, isinstance(kind, ModelKind))
        for _, start, end, who, kind in sorted(ends, key=lambda link: link[:3])
    ]


# --- ink --------------------------------------------------------------------------------------------------------


class Ink:
    """A canvas in pixels of the finished picture."""

    def __init__(self, width: int, height: int) -> None:
        self.size = width, height
        self.image = Image.new("RGB", (width * SCALE, height * SCALE), BACKGROUND)
        self.draw = ImageDraw.Draw(self.image, "RGBA")
        self.fonts = {size: ImageFont.load_default(size * SCALE) for size in (11, 12, 13, 14, 22)}

    def box(
        self, x: float, y: float, width: float, height: float, fill: str, radius: float = CORNER, **more: Any
    ) -> None:
        corners = [x * SCALE, y * SCALE, (x + width) * SCALE, (y + height) * SCALE]
        self.draw.rounded_rectangle(corners, radius * SCALE, fill=fill, **more)

    def text(self, at: Point, text: str, size: int, fill: str, anchor: str = "lm") -> None:
        self.draw.text((at[0] * SCALE, at[1] * SCALE), text, font=self.fonts[size], fill=fill, anchor=anchor)

    def fitting(self, text: str, size: int, room: float) -> str:
        """The text, or its beginning with three dots."""
        text = " ".join(text.split())
        font = self.fonts[size]
        if font.getlength(text) <= room * SCALE:
            return text
        while text and font.getlength(text + "...") > room * SCALE:
            text = text[:-1]
        return text.rstrip() + "..."

    def dot(self, at: Point, port: Port) -> None:
        x, y, r = at[0] * SCALE, at[1] * SCALE, DOT * SCALE
        shape = self.draw.rectangle if port.as_list else self.draw.ellipse
        shape([x - r, y - r, x + r, y + r], fill=port.kind.color, outline=EDGE, width=SCALE)

    def link(self, ways: list[Point], color: str, thin: bool) -> None:
        """Level at every point of the way, a cubic in between."""
        points: list[Point] = []
        for start, end in pairwise(ways):
            reach = min(140.0, max(abs(end[0] - start[0]) * 0.55, 14.0))
            corners = (start, (start[0] + reach, start[1]), (end[0] - reach, end[1]), end)
            points += [_cubic(corners, step / 40) for step in range(41)]
        large = [(x * SCALE, y * SCALE) for x, y in points]
        width = 1.5 if thin else 2.3
        self.draw.line(large, fill=(*_rgb(BACKGROUND), 255), width=round((width + 2) * SCALE), joint="curve")
        self.draw.line(large, fill=_mixed(color, 0.62 if thin else 0.92), width=round(width * SCALE), joint="curve")

    def save(self, path: Path, colours: int = 0) -> None:
        """colours: of a palette, which makes the file a quarter as large; 0 keeps all."""
        picture = self.image.resize(self.size, Image.Resampling.LANCZOS)
        if colours:
            picture = picture.convert("RGB").quantize(colours, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        picture.save(path, optimize=True)


def _rgb(color: str) -> tuple[int, int, int]:
    red, green, blue = ImageColor.getrgb(color)[:3]
    return red, green, blue


def _mixed(color: str, share: float) -> tuple[int, int, int]:
    """The colour before the background."""
    red, green, blue = (round(a * share + b * (1 - share)) for a, b in zip(_rgb(color), _rgb(BACKGROUND), strict=True))
    return red, green, blue


def _cubic(corners: tuple[Point, Point, Point, Point], t: float) -> Point:
    s = 1 - t
    weights = (s * s * s, 3 * s * s * t, 3 * s * t * t, t * t * t)
    x, y = (sum(weight * corner[axis] for weight, corner in zip(weights, corners, strict=True)) for axis in (0, 1))
    return x, y


def paint(boxes: dict[str, Box], title: str, description: str, size: tuple[int, int]) -> Ink:
    head = 40
    legend = _legend(boxes)
    ink = Ink(size[0], size[1] + head)
    lines = _wrapped(ink, legend, size[0] - 2 * MARGIN)
    ink = Ink(size[0], size[1] + head + 22 * len(lines) + 6)
    for box in boxes.values():
        box.y += head
    for column in range(10, ink.size[0], 20):
        for row in range(10, ink.size[1], 20):
            ink.box(column - 0.6, row - 0.6, 1.2, 1.2, GRID, 0.6)
    ink.text((MARGIN, MARGIN + 6), title, 22, TEXT)
    after = MARGIN + ink.fonts[22].getlength(title) / SCALE + 18
    ink.text((after, MARGIN + 9), ink.fitting(description, 13, size[0] - after - MARGIN), 13, DIM)
    for link in sorted(links_of(boxes), key=lambda link: not link.thin):
        ink.link(link.way, link.kind.color, link.thin)
    for box in boxes.values():
        _paint_box(ink, box)
    y = float(size[1] + head + 8)
    for line in lines:
        x = float(MARGIN)
        for name, port in line:
            ink.dot((x + 4, y), port)
            ink.text((x + 13, y), name, 11, DIM)
            x += 13 + ink.fonts[11].getlength(name) / SCALE + 16
        y += 22
    return ink


def _paint_box(ink: Ink, box: Box) -> None:
    ink.box(box.x - 1, box.y - 1, box.width + 2, box.height + 2, EDGE, CORNER + 1)
    ink.box(box.x, box.y, box.width, box.height, BODY)
    ink.box(box.x, box.y, box.width, TITLE, HEADS.get(box.pack, OTHER_HEAD), corners=(True, True, False, False))
    title = box.width - 2 * PAD
    size = next((size for size in (13, 12) if ink.fonts[size].getlength(box.title) <= title * SCALE), 11)
    ink.text((box.x + PAD, box.y + TITLE / 2), ink.fitting(box.title, size, title), size, TEXT)
    room = box.width - 2 * PAD - 4
    for index, port in enumerate(box.outputs):
        x, y = box.output_at(index)
        ink.text((x - PAD - 2, y), ink.fitting(port.name, 12, room), 12, TEXT, "rm")
        ink.dot((x, y), port)
    for index, port in enumerate(box.inputs):
        x, y = box.input_at(index)
        ink.text((x + PAD + 2, y), ink.fitting(port.name, 12, room), 12, TEXT)
        ink.dot((x, y), port)
    y = box.y + TITLE + 7 + ROW * (len(box.inputs) + len(box.outputs))
    for name, value in box.widgets:
        ink.box(box.x + 6, y + 1, box.width - 12, WIDGET - 3, FIELD, 4)
        middle = y + (WIDGET - 1) / 2
        value = ink.fitting(value, 11, (box.width - 28) * (0.62 if len(name) < 9 else 0.4))
        taken = ink.fonts[11].getlength(value) / SCALE
        ink.text((box.x + box.width - 11, middle), value, 11, TEXT, "rm")
        ink.text((box.x + 11, middle), ink.fitting(name, 11, box.width - 28 - taken), 11, DIM)
        y += WIDGET


def _legend(boxes: dict[str, Box]) -> list[tuple[str, Port]]:
    """Every kind that is linked, all models as one, and what a square means."""
    used = {(source, output) for box in boxes.values() for source, output in box.links.values()}
    kinds: dict[str, Kind] = {}
    for box in boxes.values():
        for port in box.outputs:
            if (box.id, port.name) in used:
                kinds.setdefault("models" if isinstance(port.kind, ModelKind) else port.kind.name, port.kind)
    entries = [("any" if kind == ANY else name, Port("", kind)) for name, kind in kinds.items()]
    if any(port.as_list for box in boxes.values() for port in box.outputs):
        entries.append(("square: a list", Port("", Kind("", color=DIM), as_list=True)))
    return entries


def _wrapped(ink: Ink, entries: list[tuple[str, Port]], room: float) -> list[list[tuple[str, Port]]]:
    lines: list[list[tuple[str, Port]]] = [[]]
    x = 0.0
    for entry in entries:
        wide = 13 + ink.fonts[11].getlength(entry[0]) / SCALE + 16
        if x + wide > room and lines[-1]:
            lines.append([])
            x = 0.0
        lines[-1].append(entry)
        x += wide
    return lines


def draw(source: Path, out: Path, width: int = 1600, colours: int = 0) -> None:
    """Raises AnyloomError for what is no workflow or names node types that do not exist."""
    document = parse(source.read_bytes())
    boxes = boxes_of(document, Registry.discover())
    size = place(boxes, document.raw["nodes"], width)
    paint(boxes, document.title or source.stem, document.description, size).save(out, colours)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workflow", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--width", type=int, default=1600)
    parser.add_argument("--colours", type=int, default=0, help="of a palette, for a smaller file")
    arguments = parser.parse_args()
    try:
        draw(arguments.workflow, arguments.out, arguments.width, arguments.colours)
    except (AnyloomError, OSError) as error:
        print(f"draw_graph: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
