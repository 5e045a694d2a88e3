"""A scene: one to three things of a shape, colour, size and place on a plain background."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from nodes.nextgpt.training.world.terms import BACKGROUNDS, COLOURS, PLACES, RELATIONS, SHAPES, SIZES

SIDE = 64
"""Pixels along each side of a picture of the world."""
CENTRES = (14.0, 32.0, 50.0)
"""Pixels from the left (top) to the centres of the columns (rows)."""
RADII = {"small": 5.5, "large": 8.5}
"""Pixels; of the circle of the same area, which is how `picture.py` draws every shape."""
JITTER = 1.0
"""A thing is off its place by at most so many pixels, each way."""

_PLACES = tuple(PLACES)


@dataclass(frozen=True)
class Thing:
    """One object. `offset`: pixels (x, y) by which it is off the centre of its place. `paint`: red, green and blue in 0..1
    where its colour has no name: it lies between `colour` and the next (`paint.py`)."""

    shape: str
    colour: str
    size: str
    place: str
    offset: tuple[float, float] = (0.0, 0.0)
    paint: tuple[float, float, float] | None = None

    @property
    def cell(self) -> tuple[int, int]:
        """Row and column of its place."""
        return divmod(_PLACES.index(self.place), 3)

    @property
    def centre(self) -> tuple[float, float]:
        """x and y in pixels, from the top left corner of the picture."""
        row, column = self.cell
        return CENTRES[column] + self.offset[0], CENTRES[row] + self.offset[1]

    @property
    def radius(self) -> float:
        return RADII[self.size]


@dataclass(frozen=True)
class Scene:
    """Things from left to right, then from top to bottom, which is the order in which they are spoken of."""

    things: tuple[Thing, ...]
    background: str

    def __post_init__(self) -> None:
        if not 1 <= len(self.things) <= 3:
            raise ValueError(f"a scene has one to three things, not {len(self.things)}")
        if any(touching(a, b) for i, a in enumerate(self.things) for b in self.things[:i]):
            raise ValueError("two things of the scene stand so near that they would touch")

    @property
    def relation(self) -> str | None:
        """How the first of two things stands to the second, where one word says it."""
        return relation(*self.things) if len(self.things) == 2 else None


def touching(a: Thing, b: Thing) -> bool:
    """Neighbours in a row or column touch; so do two large ones whose places meet at a corner."""
    rows, columns = (abs(x - y) for x, y in zip(a.cell, b.cell, strict=True))
    return rows + columns < 2 or (a.size == b.size == "large" and max(rows, columns) < 2)


def relation(a: Thing, b: Thing) -> str | None:
    """Of two things in one row or one column; None for those that stand askew."""
    (row_a, column_a), (row_b, column_b) = a.cell, b.cell
    if row_a == row_b:
        return "left of" if column_a < column_b else "right of"
    if column_a == column_b:
        return "above" if row_a < row_b else "below"
    return None


Allowed = Callable[[str, str], bool]
"""Whether a scene may have this shape in this colour."""


def _anything(shape: str, colour: str) -> bool:
    return True


def random_thing(draw: random.Random, allowed: Allowed = _anything) -> Thing:
    while True:
        shape, colour = draw.choice(tuple(SHAPES)), draw.choice(tuple(COLOURS))
        if allowed(shape, colour):
            break
    offset = (draw.uniform(-JITTER, JITTER), draw.uniform(-JITTER, JITTER))
    return Thing(shape, colour, draw.choice(tuple(SIZES)), draw.choice(_PLACES), offset)


def random_scene(draw: random.Random, count: int | None = None, allowed: Allowed = _anything) -> Scene:
    """A scene of `count` things, by default one (half of the scenes), two or three. No two things look the same."""
    count = draw.choice((1, 1, 2, 3)) if count is None else count
    things: list[Thing] = []
    while len(things) < count:
        thing = random_thing(draw, allowed)
        if any(touching(thing, other) for other in things):
            # Three corners can leave no room for a third thing only if the second stands in the middle of a side.
            if len(things) == 2 and not _room(things):
                things.pop()
            continue
        if any((thing.shape, thing.colour) == (other.shape, other.colour) for other in things):
            continue
        things.append(thing)
    return Scene(
        tuple(sorted(things, key=lambda thing: (thing.cell[1], thing.cell[0]))), draw.choice(tuple(BACKGROUNDS))
    )


def related_scene(draw: random.Random, name: str, allowed: Allowed = _anything) -> Scene:
    """Two things of which the first stands `name` ("left of", ...) the second; `things` keep that order."""
    line = draw.randrange(3)
    ends = {
        "left of": (3 * line, 3 * line + 2),
        "right of": (3 * line + 2, 3 * line),
        "above": (line, 6 + line),
        "below": (6 + line, line),
    }[name]
    first = replace(random_thing(draw, allowed), place=_PLACES[ends[0]])
    second = first
    while (second.shape, second.colour) == (first.shape, first.colour):
        second = replace(random_thing(draw, allowed), place=_PLACES[ends[1]])
    return Scene((first, second), draw.choice(tuple(BACKGROUNDS)))


def variations(scene: Scene, draw: random.Random, allowed: Allowed = _anything) -> Iterator[Scene]:
    """Scenes that differ from this one in exactly one attribute of one thing, or in the background: hard negatives."""
    while True:
        index = draw.randrange(len(scene.things))
        thing, other = scene.things[index], random_thing(draw, allowed)
        what = draw.choice(("shape", "colour", "size", "place", "background"))
        if what == "background":
            changed = replace(scene, background=draw.choice(tuple(BACKGROUNDS)))
        else:
            new = replace(thing, **{what: getattr(other, what)})
            things = [*scene.things[:index], new, *scene.things[index + 1 :]]
            twins = len({(entry.shape, entry.colour) for entry in things}) < len(things)
            if twins or not allowed(new.shape, new.colour):
                continue
            if any(touching(a, b) for i, a in enumerate(things) for b in things[:i]):
                continue
            ordered = sorted(things, key=lambda entry: (entry.cell[1], entry.cell[0]))
            changed = replace(scene, things=tuple(ordered))
        if changed != scene:
            yield changed


def _room(things: list[Thing]) -> bool:
    return any(not any(touching(Thing("", "", "small", place), other) for other in things) for place in _PLACES)


RELATION_NAMES = tuple(RELATIONS)
