"""IMAGE to ImageBind's square pictures: colour, depth and thermal.

Pictures are resized as bytes by Pillow, because the encoder was trained on pictures that were: each of Pillow's two
passes rounds.  A picture that was loaded from an 8-bit file gives the original's numbers exactly.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from PIL import Image as pil
from torch import Tensor

from nodes.nextgpt.model.imagebind_config import ImageBindConfig

# Channel statistics of CLIP (Radford et al. 2021), in RGB order and for values in 0..1.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

# Beyond this ratio of sides the ends, which the centre crop removes anyway, are cut before the resize and not after it.
LONGEST_RATIO = 8


def image_tensor(image: Tensor, config: ImageBindConfig) -> Tensor:
    """IMAGE ``"B H W C"`` in 0..1, C of 1, 3 or 4 -> ``"B 3 S S"`` with CLIP's mean and deviation, float32.

    Short side to S (bicubic, antialiased), then the centre square.  Grey becomes three equal channels; an alpha channel
    is composited on white, because the colour under transparent pixels is arbitrary.
    """
    return normalise(planes([centre_square(picture, config.image_size) for picture in pictures(image)]))


def thermal_tensor(image: Tensor, config: ImageBindConfig) -> Tensor:
    """IMAGE of a thermal camera ``"B H W C"`` in 0..1 -> brightness ``"B 1 S S"`` in 0..1, not normalised further.

    Brightness is that of ITU-R BT.601.
    """
    return planes([centre_square(picture.convert("L"), config.image_size) for picture in pictures(image)])


def depth_tensor(depth: Tensor, config: ImageBindConfig) -> Tensor:
    """Depth map ``"B H W 1"`` -> ``"B 1 S S"``, resized and cropped only.

    ImageBind was trained on disparity; its authors published no recipe for scaling it, so values stay as they come.
    """
    checked(depth, (1,), "depth map")
    maps = [pil.fromarray(array) for array in depth[..., 0].float().cpu().numpy()]
    squares = [np.asarray(centre_square(picture, config.image_size)) for picture in maps]
    return torch.from_numpy(np.stack(squares)).unsqueeze(1)


def pictures(image: Tensor) -> list[pil.Image]:
    """IMAGE ``"B H W C"`` -> B pictures of RGB bytes; raises ValueError for what is no IMAGE."""
    checked(image, (1, 3, 4), "image")
    colours = image.float()
    if colours.shape[-1] == 4:
        alpha = colours[..., 3:]
        colours = colours[..., :3] * alpha + (1.0 - alpha)
    pixels = colours.clamp(0, 1).mul(255).round().to(torch.uint8).expand(-1, -1, -1, 3)
    return [pil.fromarray(array) for array in pixels.contiguous().cpu().numpy()]


def planes(squares: list[pil.Image]) -> Tensor:
    """Pictures of bytes and of one size -> ``"B C H W"`` in 0..1, float32."""
    pixels = torch.from_numpy(np.stack([np.asarray(picture) for picture in squares])).float() / 255
    return pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.movedim(-1, 1)


def checked(image: Tensor, channels: tuple[int, ...], what: str) -> None:
    """Raise ValueError unless the tensor is ``"B H W C"`` with something in it and C among ``channels``."""
    if image.ndim != 4 or 0 in image.shape or image.shape[-1] not in channels:
        raise ValueError(
            f"cannot encode {what} of shape {tuple(image.shape)}: it must be 'B H W C' with no empty axis and C in "
            f"{list(channels)}; add the missing axis or convert the channels"
        )


def centre_square(picture: pil.Image, size: int) -> pil.Image:
    """Short side to ``size``, then the square in the middle; places round as torchvision's do."""
    picture = without_far_ends(picture)
    short = min(picture.size)
    if short != size:
        width, height = (size * side // short for side in picture.size)
        picture = picture.resize((width, height), pil.Resampling.BICUBIC)
    left, top = (round((side - size) / 2) for side in picture.size)
    return picture.crop((left, top, left + size, top + size))


def normalise(planes: Tensor) -> Tensor:
    """``"... 3 H W"`` in 0..1 -> CLIP's mean and deviation."""
    mean, std = _clip_on(planes.device, planes.dtype)
    return (planes - mean) / std


@lru_cache(maxsize=16)
def _clip_on(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    mean, std = (torch.tensor(values, device=device, dtype=dtype).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    return mean, std


def without_far_ends(picture: pil.Image) -> pil.Image:
    """Keeps a 1 x 20000 picture from becoming one of 224 x 4,480,000 on its way to 224 x 224."""
    longest = LONGEST_RATIO * min(picture.size)
    width, height = (min(side, longest) for side in picture.size)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))
