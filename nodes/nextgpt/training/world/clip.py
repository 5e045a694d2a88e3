"""A clip: one thing that moves, grows, turns or stays, for two seconds."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nodes.nextgpt.training.world.picture import SHAPE_NAMES, Marks, draw
from nodes.nextgpt.training.world.scene import SIDE, Allowed, _anything
from nodes.nextgpt.training.world.terms import BACKGROUNDS, COLOURS, GREY, MOTIONS, RGB, SHAPES, SYMMETRY

FRAMES = 8
FPS = 4
RADIUS = 8.0
"""Pixels; of what does not grow or shrink."""
REACH = (13.0, 51.0)
"""Pixels from the edge where a movement begins and ends."""
GROWTH = (5.0, 13.0)
TURN = 0.69
"""Share of the angle after which a shape looks the same that it turns in all: the end looks unlike the beginning."""


@dataclass(frozen=True)
class Clip:
    """`line`: pixels by which the thing is off the middle, across its way. `paint`: as a scene's thing has it."""

    shape: str
    colour: str
    motion: str
    background: str
    line: float = 0.0
    paint: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        if self.motion == "turns" and not SYMMETRY[self.shape]:
            raise ValueError(f"a turning {self.shape} cannot be told from a still one")


def random_clip(draw_from: random.Random, allowed: Allowed = _anything, motion: str | None = None) -> Clip:
    while True:
        shape, colour = draw_from.choice(tuple(SHAPES)), draw_from.choice(tuple(COLOURS))
        chosen = motion or draw_from.choice(tuple(MOTIONS))
        if allowed(shape, colour) and not (chosen == "turns" and not SYMMETRY[shape]):
            return Clip(shape, colour, chosen, draw_from.choice(tuple(BACKGROUNDS)), draw_from.uniform(-10, 10))


def film(clips: Sequence[Clip], side: int = SIDE, device: torch.device | str = "cpu", frames: int = FRAMES) -> Tensor:
    """Frames "B frames side side 3" in 0..1."""
    count = len(clips)
    progress = torch.linspace(0, 1, frames)
    middle = SIDE / 2
    x, y = torch.full((count, frames), middle), torch.full((count, frames), middle)
    radius, angle = torch.full((count, frames), RADIUS), torch.zeros(count, frames)
    ahead = REACH[0] + (REACH[1] - REACH[0]) * progress
    bigger = GROWTH[0] + (GROWTH[1] - GROWTH[0]) * progress
    for row, clip in enumerate(clips):
        match clip.motion:
            case "right" | "left":
                x[row] = ahead if clip.motion == "right" else ahead.flip(0)
                y[row] += clip.line
            case "up" | "down":
                y[row] = ahead if clip.motion == "down" else ahead.flip(0)
                x[row] += clip.line
            case "grows" | "shrinks":
                radius[row] = bigger if clip.motion == "grows" else bigger.flip(0)
            case _:
                x[row] += clip.line
                if clip.motion == "turns":
                    angle[row] = progress * TURN * 2 * torch.pi / SYMMETRY[clip.shape]
    shapes = torch.tensor([SHAPE_NAMES.index(clip.shape) for clip in clips])
    colours = torch.tensor([clip.paint or RGB[clip.colour] for clip in clips])
    greys = torch.tensor([GREY[clip.background] for clip in clips])
    marks = Marks(
        shapes.repeat_interleave(frames)[:, None],
        colours.repeat_interleave(frames, 0)[:, None],
        x.reshape(-1, 1),
        y.reshape(-1, 1),
        radius.reshape(-1, 1),
        angle.reshape(-1, 1),
        greys.repeat_interleave(frames),
    )
    return draw(marks, side, device).unflatten(0, (count, frames))
