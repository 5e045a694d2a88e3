"""Drawing: many scenes at once, as tensors on any device, antialiased by signed distances.

Every shape has the area of a circle of its radius, so that size can be judged by area alone, and its
centre of mass at its centre, so that place can be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nodes.nextgpt.training.world.scene import SIDE, Scene
from nodes.nextgpt.training.world.terms import GREY, RGB, SHAPES

SHAPE_NAMES = tuple(SHAPES)
_SCALE: Mapping[str, float] = {
    "circle": 1.0,
    "square": 0.886,  # half side: sqrt(pi)/2
    "triangle": 1.555,  # circumradius
    "star": 1.541,  # outer radius
    "cross": 0.997,  # extent but for the 1.12 of `_cross`
    "ring": 1.25,  # outer radius
    "heart": 1.876,
    "moon": 1.471,
}
"""Extent of a shape of area pi."""


@dataclass(frozen=True)
class Marks:
    """Things to draw, K per picture, as tensors "B K": shape index (-1: none), colour "B K 3" in 0..1, centre x and y
    and radius in pixels, angle in radians (counterclockwise on the screen)."""

    shape: Tensor
    colour: Tensor
    x: Tensor
    y: Tensor
    radius: Tensor
    angle: Tensor
    background: Tensor


def marks_of(scenes: Sequence[Scene]) -> Marks:
    """The marks of scenes, padded to the largest number of things."""
    most = max(len(scene.things) for scene in scenes)
    rows: list[list[list[float]]] = []
    for scene in scenes:
        row = [
            [SHAPE_NAMES.index(thing.shape), *(thing.paint or RGB[thing.colour]), *thing.centre, thing.radius, 0.0]
            for thing in scene.things
        ]
        rows.append(row + [[-1.0, 0, 0, 0, 0, 0, 1.0, 0]] * (most - len(row)))
    table = torch.tensor(rows)
    backgrounds = torch.tensor([GREY[scene.background] for scene in scenes])
    return Marks(
        table[..., 0].long(), table[..., 1:4], table[..., 4], table[..., 5], table[..., 6], table[..., 7], backgrounds
    )


def draw(marks: Marks, side: int = SIDE, device: torch.device | str = "cpu") -> Tensor:
    """Pictures "B side side 3" in 0..1 (IMAGE's layout), float32."""
    scale = side / SIDE
    axis = (torch.arange(side, device=device, dtype=torch.float32) + 0.5) / scale
    count, most = marks.shape.shape
    # One way to the device, and all things at once.
    told = torch.cat([marks.colour, torch.stack([marks.x, marks.y, marks.radius, marks.angle], -1)], -1)
    told = torch.cat([told.flatten(1), marks.background[:, None]], 1).to(device)
    things = told[:, :-1].unflatten(1, (most, 7))
    x, y, radius, angle = things[..., 3:].flatten(0, 1).unbind(-1)
    covers = coverage(
        marks.shape.flatten(),
        axis[None, None, :] - x[:, None, None],
        axis[None, :, None] - y[:, None, None],
        radius,
        angle,
        scale,
    ).unflatten(0, (count, most))[..., None]
    picture = told[:, -1, None, None, None].expand(-1, side, side, 3)
    for k in range(most):
        picture = picture * (1 - covers[:, k]) + things[:, k, None, None, :3] * covers[:, k]
    return picture


def draw_scenes(scenes: Sequence[Scene], side: int = SIDE, device: torch.device | str = "cpu") -> Tensor:
    """Pictures of scenes, "B side side 3"."""
    return draw(marks_of(scenes), side, device)


def coverage(shape: Tensor, dx: Tensor, dy: Tensor, radius: Tensor, angle: Tensor, scale: float = 1.0) -> Tensor:
    """How much of each pixel a shape covers, "B H W" in 0..1; dx "B 1 W" and dy "B H 1" are pixels from its centre.

    `shape` stays on the CPU, so that which shapes there are need not be asked of a device.
    """
    dx, dy = torch.broadcast_tensors(dx, dy)
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    x = (dx * cosine - dy * sine) / radius[:, None, None]
    y = (dx * sine + dy * cosine) / radius[:, None, None]
    covered = torch.zeros_like(x)
    order, counts = shape.argsort(stable=True), torch.bincount(shape + 1, minlength=len(SHAPE_NAMES) + 1).tolist()
    groups = order.to(x.device).split(counts)[1:]
    for name, chosen in zip(SHAPE_NAMES, groups, strict=True):
        if len(chosen):
            distance = _DISTANCES[name](x[chosen], y[chosen]) * radius[chosen][:, None, None] * scale
            covered[chosen] = (0.5 - distance).clamp(0, 1)
    return covered


# Signed distances (negative inside), in units of the radius; y points down. Exact near the edge, which is what counts.


def _circle(x: Tensor, y: Tensor) -> Tensor:
    return torch.hypot(x, y) - _SCALE["circle"]


def _square(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(x.abs(), y.abs()) - _SCALE["square"]


def _triangle(x: Tensor, y: Tensor) -> Tensor:
    inner = _SCALE["triangle"] / 2
    half = math.sqrt(3) / 2
    return torch.maximum(torch.maximum(half * x - y / 2, -half * x - y / 2), y) - inner


def _star(x: Tensor, y: Tensor) -> Tensor:
    """Five points; the inner corners lie at 0.45 of the outer ones. One edge in folded coordinates is enough."""
    outer, inner = _SCALE["star"], 0.45 * _SCALE["star"]
    turn = 2 * math.pi / 5
    angle = torch.atan2(x, -y)
    folded = (torch.remainder(angle + turn / 2, turn) - turn / 2).abs()
    length = torch.hypot(x, y)
    px, py = length * folded.sin(), length * folded.cos()
    corner = (inner * math.sin(turn / 2), inner * math.cos(turn / 2))
    edge = (corner[0], corner[1] - outer)
    norm = math.hypot(*edge)
    return ((py - outer) * edge[0] - px * edge[1]) / norm


def _cross(x: Tensor, y: Tensor) -> Tensor:
    arm = 0.42 * _SCALE["cross"] + 0.02
    long = _SCALE["cross"] * 1.12
    ax, ay = x.abs(), y.abs()
    across = torch.maximum(ax - long, ay - arm)
    along = torch.maximum(ax - arm, ay - long)
    return torch.minimum(across, along)


def _ring(x: Tensor, y: Tensor) -> Tensor:
    outer, inner = _SCALE["ring"], 0.6 * _SCALE["ring"]
    middle = (outer + inner) / 2
    return (torch.hypot(x, y) - middle).abs() - (outer - inner) / 2


def _heart(x: Tensor, y: Tensor) -> Tensor:
    """Two half circles over a wedge."""
    size = _SCALE["heart"]
    # The tip is the origin, the centre of mass 0.657 above it; two arcs, straight sides.
    px, py = x.abs() / size, 0.657 - y / size
    upper = torch.hypot(px - 0.25, py - 0.75) - math.sqrt(2) / 4
    to_top = px.square() + (py - 1).square()
    slide = 0.5 * (px + py).clamp_min(0)
    to_side = (px - slide).square() + (py - slide).square()
    lower = torch.minimum(to_top, to_side).clamp_min(1e-12).sqrt() * torch.sign(px - py)
    return torch.where(py + px > 1, upper, lower) * size


def _moon(x: Tensor, y: Tensor) -> Tensor:
    """A disc without a smaller one to its right."""
    size = _SCALE["moon"]
    x = x - 0.415 * size  # the centre of mass is the centre
    outer = torch.hypot(x, y) - size
    bite = 0.86 * size - torch.hypot(x - 0.55 * size, y)
    return torch.maximum(outer, bite)


_DISTANCES = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
    "heart": _heart,
    "moon": _moon,
}
