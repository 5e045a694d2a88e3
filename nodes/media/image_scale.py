"""Resampling of pictures: nearest, bilinear, bicubic, area, Lanczos, all free of aliases when they shrink."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image as pil


def scale(pixels: torch.Tensor, width: int, height: int, method: str) -> torch.Tensor:
    """ "B H W C" to "B height width C", clamped to 0..1 because bicubic and Lanczos overshoot."""
    if pixels.shape[1:3] == (height, width):
        return pixels
    if method == "lanczos":
        return torch.stack([_lanczos(picture, width, height) for picture in pixels]).clamp_(0, 1)
    planes = pixels.permute(0, 3, 1, 2)
    if method in ("bilinear", "bicubic"):
        scaled = F.interpolate(planes, (height, width), mode=method, align_corners=False, antialias=True)
    else:
        scaled = F.interpolate(planes, (height, width), mode={"nearest": "nearest-exact"}.get(method, method))
    return scaled.permute(0, 2, 3, 1).clamp(0, 1).contiguous()


def _lanczos(picture: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """Pillow's Lanczos (three lobes) on float planes."""
    planes = [pil.fromarray(np.ascontiguousarray(plane)) for plane in picture.permute(2, 0, 1).cpu().numpy()]
    scaled = [np.asarray(plane.resize((width, height), pil.Resampling.LANCZOS)) for plane in planes]
    return torch.from_numpy(np.stack(scaled, axis=-1)).to(picture.device)


def target_size(width: int, height: int, wanted_width: int, wanted_height: int) -> tuple[int, int]:
    """The size asked for, where 0 means: in proportion to the other side."""
    if not wanted_width and not wanted_height:
        return width, height
    if not wanted_width:
        return max(1, round(width * wanted_height / height)), wanted_height
    return wanted_width, wanted_height or max(1, round(height * wanted_width / width))


def resize(pixels: torch.Tensor, width: int, height: int, mode: str, method: str, pad: float = 0.0) -> torch.Tensor:
    """ "B H W C" to the wanted size (0: in proportion).

    stretch: exactly that size, whatever the proportions. fit: as large as fits inside, proportions kept. fill: covers
    the size, what protrudes is cut off evenly. pad: like fit, with borders of the grey value `pad` up to the size.
    """
    old_height, old_width = pixels.shape[1:3]
    width, height = target_size(old_width, old_height, width, height)
    if mode == "stretch":
        return scale(pixels, width, height, method)
    choose = max if mode == "fill" else min
    factor = choose(width / old_width, height / old_height)
    inner_width, inner_height = max(1, round(old_width * factor)), max(1, round(old_height * factor))
    scaled = scale(pixels, inner_width, inner_height, method)
    if mode == "fit":
        return scaled
    left, top = abs(inner_width - width) // 2, abs(inner_height - height) // 2
    if mode == "fill":
        return scaled[:, top : top + height, left : left + width].contiguous()
    canvas = pixels.new_full((len(pixels), height, width, pixels.shape[3]), pad)
    canvas[:, top : top + inner_height, left : left + inner_width] = scaled
    return canvas
