"""What is in a picture of the world: shapes, colours, sizes and places, by its pixels.

Backgrounds have no hue, so what has one is an object. An object's colour is the hue of its core; its cover is how far
each pixel lies on the way from the background to that colour; its shape is the one whose drawing, at the same place and
of the same area, covers the same (soft intersection over union).
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nodes.nextgpt.training.world.picture import SHAPE_NAMES, coverage
from nodes.nextgpt.training.world.scene import CENTRES, RADII, SIDE, Scene
from nodes.nextgpt.training.world.terms import GREY, PLACES, RGB

HUES = {name: colorsys.rgb_to_hsv(*rgb)[0] * 360 for name, rgb in RGB.items()}
CHROMA = 0.22
"""Least spread of a pixel's channels (0..1) that counts as colour; the palest paint has 0.53 in full cover."""
LEAST_AREA = 18.0
"""Pixels (of a picture of 64); the smallest thing has 95."""
SMOOTHING = 0.7
"""Standard deviation in pixels of the blur before looking: what a decoder leaves of noise should not be objects."""
_BORDER_RADIUS = math.sqrt(RADII["small"] * RADII["large"])
_BLURS = (SMOOTHING, 1.4)
"""Of what shapes are compared with: as sharp as drawn, or as soft as a decoder may leave it."""
_SHIFTS = (-0.6, 0.0, 0.6)
_GROWTHS = (0.84, 0.92, 1.0, 1.08)


@dataclass(frozen=True)
class Seen:
    """An object that was found. x, y, radius (of the circle of its area) in pixels of a picture of 64.

    fit: soft intersection over union with its shape; rival: with the next likely one.
    """

    shape: str
    colour: str
    size: str
    place: str
    x: float
    y: float
    radius: float
    fit: float
    rival: float


@dataclass(frozen=True)
class Look:
    """Objects from left to right, then from top to bottom (as scenes are ordered), and the background."""

    objects: tuple[Seen, ...]
    background: str


def look(picture: Any) -> Look:
    """What a picture "H W 3" (square, values in 0..1) shows."""
    pixels = pixels_of(picture)
    smooth = smoothed(pixels)
    grey = background_of(pixels)
    found = [_seen(smooth, grey, cover, colour) for cover, colour in objects(smooth, grey)]
    nearest = min(GREY, key=lambda name: abs(GREY[name] - float(grey.mean())))
    return Look(tuple(sorted(found, key=lambda seen: (_column(seen), seen.y))), nearest)


def objects(smooth: np.ndarray, grey: np.ndarray) -> list[tuple[np.ndarray, str]]:
    """Cover "64 64" in 0..1 and colour of each object of a smoothed picture, largest first."""
    from scipy import ndimage

    chroma = smooth.max(-1) - smooth.min(-1)
    labels, count = ndimage.label(chroma > CHROMA, structure=np.ones((3, 3)))
    found = []
    for number in range(1, count + 1):
        inside = labels == number
        if inside.sum() < LEAST_AREA:
            continue
        near = ndimage.binary_dilation(inside, iterations=2) & ((labels == 0) | inside)
        core = inside & (chroma >= np.quantile(chroma[inside], 0.55))
        colour = colour_of(smooth[core].mean(0))
        # The full paint, not what is seen of it: a blurred ring never reaches it, and its hole would close.
        way = np.array(RGB[colour]) - grey
        cover = np.clip(((smooth - grey) @ way) / max(float(way @ way), 1e-6), 0, 1) * near
        if cover.sum() >= LEAST_AREA:
            found.append((cover, colour))
    return sorted(found, key=lambda entry: -float(entry[0].sum()))


def colour_of(paint: np.ndarray) -> str:
    """The colour of the world whose hue is nearest to this sRGB value."""
    hue = colorsys.rgb_to_hsv(*(float(value) for value in np.clip(paint, 0, 1)))[0] * 360
    return min(HUES, key=lambda name: abs((HUES[name] - hue + 180) % 360 - 180))


def shape_fits(cover: np.ndarray, angles: Sequence[float] = (0.0,)) -> np.ndarray:
    """Soft intersection over union of a cover "64 64" with every shape at every angle (radians): "shapes angles"."""
    area = float(cover.sum())
    ys, xs = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    x, y = float((cover * xs).sum()) / area, float((cover * ys).sum()) / area
    radius = math.sqrt(area / math.pi)
    reach = math.ceil(2.2 * radius) + 2
    left, top = max(0, int(x) - reach), max(0, int(y) - reach)
    patch = torch.from_numpy(cover[top : int(y) + reach, left : int(x) + reach]).float()
    grid = [
        (shape, angle, x + dx, y + dy, radius * growth)
        for shape in range(len(SHAPE_NAMES))
        for angle in angles
        for dx in _SHIFTS
        for dy in _SHIFTS
        for growth in _GROWTHS
    ]
    shape, angle, cx, cy, size = (torch.tensor(column) for column in zip(*grid, strict=True))
    across = torch.arange(left, left + patch.shape[1]) + 0.5
    down = torch.arange(top, top + patch.shape[0]) + 0.5
    drawn = coverage(
        shape, across[None, None, :] - cx[:, None, None], down[None, :, None] - cy[:, None, None], size, angle
    )
    fits = []
    for deviation in _BLURS:
        soft = blurred(drawn, deviation)
        fits.append(torch.minimum(soft, patch).sum((1, 2)) / torch.maximum(soft, patch).sum((1, 2)))
    # One blur for all shapes, or a sharp one could excuse itself as another one out of focus.
    best = torch.stack(fits).reshape(len(_BLURS), len(SHAPE_NAMES), len(angles), -1).amax(-1)
    return best[int(best.flatten(1).amax(1).argmax())].numpy()


def _seen(smooth: np.ndarray, grey: np.ndarray, cover: np.ndarray, colour: str) -> Seen:
    area = float(cover.sum())
    ys, xs = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    x, y = float((cover * xs).sum()) / area, float((cover * ys).sum()) / area
    radius = math.sqrt(area / math.pi)
    fits = shape_fits(cover)[:, 0]
    order = np.argsort(-fits)
    size = "large" if radius > _BORDER_RADIUS else "small"
    place = tuple(PLACES)[3 * _nearest(y) + _nearest(x)]
    shape = SHAPE_NAMES[int(order[0])]
    return Seen(shape, colour, size, place, x, y, radius, float(fits[order[0]]), float(fits[order[1]]))


def pixels_of(picture: Any) -> np.ndarray:
    """float64 "64 64 3": another size is brought to the world's by area."""
    tensor = torch.as_tensor(picture).float()
    if tensor.ndim != 3 or tensor.shape[-1] not in (3, 4) or tensor.shape[0] != tensor.shape[1]:
        raise ValueError(f"a judge of pictures wants a square 'H W 3', got {list(tensor.shape)}")
    plane = tensor[..., :3].movedim(-1, 0)[None]
    if tensor.shape[0] != SIDE:
        plane = torch.nn.functional.interpolate(plane, size=(SIDE, SIDE), mode="area")
    return plane[0].movedim(0, -1).double().cpu().numpy()


def smoothed(pixels: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    return np.asarray(ndimage.gaussian_filter(pixels, (SMOOTHING, SMOOTHING, 0)))


def blurred(masks: torch.Tensor, deviation: float = SMOOTHING) -> torch.Tensor:
    """The same blur for drawings, "N H W"."""
    taps = torch.exp(-0.5 * (torch.arange(-3, 4) / deviation) ** 2)
    taps = taps / taps.sum()
    plane = torch.nn.functional.conv2d(masks[:, None], taps.view(1, 1, 7, 1), padding=(3, 0))
    return torch.nn.functional.conv2d(plane, taps.view(1, 1, 1, 7), padding=(0, 3))[:, 0]


def background_of(pixels: np.ndarray) -> np.ndarray:
    """The middle value of the least coloured half of the pixels."""
    flat = pixels.reshape(-1, 3)
    chroma = flat.max(-1) - flat.min(-1)
    plain = flat[chroma <= np.median(chroma)]
    return np.asarray(np.median(plain, axis=0))


def _nearest(value: float) -> int:
    return min(range(3), key=lambda index: abs(CENTRES[index] - value))


def _column(seen: Seen) -> int:
    return _nearest(seen.x)


def agrees(seen: Look, scene: Scene) -> dict[str, bool]:
    """Attribute by attribute, whether a picture shows a scene: everything of it, and nothing else."""
    same = len(seen.objects) == len(scene.things)
    wanted = sorted(scene.things, key=lambda thing: (thing.cell[1], thing.cell[0]))
    pairs = list(zip(seen.objects, wanted, strict=False)) if same else []
    facts = {"count": same, "background": seen.background == scene.background}
    for what in ("shape", "colour", "size", "place"):
        facts[what] = same and all(getattr(a, what) == getattr(b, what) for a, b in pairs)
    return facts
