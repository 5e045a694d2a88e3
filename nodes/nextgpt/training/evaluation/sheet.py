"""Sample sheets: what was made, as one picture: pictures, film strips and spectrograms with their captions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from nodes.nextgpt.glyphs import draw_line, line

TILE = 128
_FONT = 11
_CAPTION = 3 * (_FONT + 3)


def tile(modality: str, value: Tensor) -> Image.Image:
    """One medium as a picture of height `TILE`: a film is a strip of its frames, a sound its spectrogram over time."""
    if modality == "audio":
        return Image.fromarray(spectrogram(value)).resize((2 * TILE, TILE), Image.Resampling.BILINEAR)
    frames = value if value.ndim == 4 else value[None]
    shown = frames[torch.linspace(0, len(frames) - 1, min(4, len(frames))).round().long()]
    side = TILE if len(shown) == 1 else TILE // 2
    strip = torch.cat([frame[..., :3] for frame in shown], dim=1)
    pixels = (strip.float().clamp(0, 1) * 255).round().byte().cpu().numpy()
    picture = Image.fromarray(pixels).resize((side * len(shown), side), Image.Resampling.NEAREST)
    canvas = Image.new("RGB", (picture.width, TILE), "white")
    canvas.paste(picture, (0, (TILE - side) // 2))
    return canvas


def spectrogram(wave: Tensor, rate: int = 16_000) -> np.ndarray[Any, Any]:
    """Bytes "H W 3": up to 4 kHz, 70 dB from the loudest, low notes below."""
    frames = wave.float().reshape(-1).unfold(0, 1024, 160) * torch.hann_window(1024)
    power = torch.fft.rfft(frames, n=2048).abs().square()[:, : 2048 * 4000 // rate]
    level = 10 * (power + 1e-10).log10()
    shown = ((level - level.max() + 70) / 70).clamp(0, 1).T.flip(0).numpy()
    colours = np.stack([shown**0.6, shown**1.6, 0.35 + 0.65 * shown**4], axis=-1)
    return np.asarray((colours * 255).astype(np.uint8))


def sheet(entries: Sequence[tuple[str, str, Tensor, bool | None]], columns: int = 5) -> Image.Image:
    """entries: (caption, modality, value, whether it is right); green and red frames say the last."""
    tiles = [(caption, tile(modality, value), good) for caption, modality, value, good in entries]
    width = max((picture.width for _, picture, _ in tiles), default=TILE) + 12
    height = TILE + _CAPTION + 12
    rows = -(-len(tiles) // columns)
    canvas = Image.new("RGB", (columns * width, max(1, rows) * height), "white")
    draw = ImageDraw.Draw(canvas)
    for number, (caption, picture, good) in enumerate(tiles):
        left, top = number % columns * width + 6, number // columns * height + 4
        canvas.paste(picture, (left, top))
        colour = {True: "#2e8b57", False: "#c0392b", None: "#888888"}[good]
        draw.rectangle((left - 2, top - 2, left + picture.width + 1, top + TILE + 1), outline=colour, width=2)
        for row, text in enumerate(_wrapped(caption, width - 12)[:3]):
            draw_line(draw, (left, top + TILE + 3 + _FONT + row * (_FONT + 2)), text, _FONT, "#222222")
    return canvas


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of at most so many pixels; broken between words, and between any two characters that are not Latin."""
    lines = [""]
    for piece in re.findall(r"[\x21-\x7e]+|\s|\S", text):
        if lines[-1] and line(lines[-1] + piece, _FONT).width > width:
            lines.append("")
        lines[-1] = (lines[-1] + piece).lstrip()
    return lines
