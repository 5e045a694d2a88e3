"""IMAGE to ImageBind's square pictures: colour, depth and thermal."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from nodes.nextgpt.model.imagebind_config import ImageBindConfig

# Channel statistics of CLIP (Radford et al. 2021), in RGB order and for values in 0..1.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

# Brightness of RGB after ITU-R BT.601.
LUMA = (0.299, 0.587, 0.114)

# Beyond this ratio of sides the ends, which the centre crop removes anyway, are cut before the resize and not after it.
LONGEST_RATIO = 8


def image_tensor(image: Tensor, config: ImageBindConfig) -> Tensor:
    """IMAGE ``"B H W C"`` in 0..1, C of 1, 3 or 4 -> ``"B 3 S S"`` with CLIP's mean and deviation, float32.

    Short side to S (bicubic, antialiased), then the centre square.  Grey becomes three equal channels; an alpha channel
    is composited on white, because the colour under transparent pixels is arbitrary.
    """
    return normalise(centre_square(colour(image), config.image_size))


def thermal_tensor(image: Tensor, config: ImageBindConfig) -> Tensor:
    """IMAGE of a thermal camera ``"B H W C"`` in 0..1 -> brightness ``"B 1 S S"`` in 0..1, not normalised further."""
    rgb = colour(image)
    grey = (rgb * rgb.new_tensor(LUMA).view(3, 1, 1)).sum(dim=1, keepdim=True)
    return centre_square(grey, config.image_size)


def depth_tensor(depth: Tensor, config: ImageBindConfig) -> Tensor:
    """Depth map ``"B H W 1"`` -> ``"B 1 S S"``, resized and cropped only.

    ImageBind was trained on disparity; its authors published no recipe for scaling it, so values stay as they come.
    """
    checked(depth, (1,), "depth map")
    return centre_square(depth.movedim(-1, 1).float(), config.image_size, low=None, high=None)


def colour(image: Tensor) -> Tensor:
    """IMAGE ``"B H W C"`` -> ``"B 3 H W"``, float32."""
    checked(image, (1, 3, 4), "image")
    planes = image.movedim(-1, 1).float()
    if planes.shape[1] == 4:
        alpha = planes[:, 3:]
        planes = planes[:, :3] * alpha + (1.0 - alpha)
    return planes.expand(-1, 3, -1, -1)


def checked(image: Tensor, channels: tuple[int, ...], what: str) -> None:
    """Raise ValueError unless the tensor is ``"B H W C"`` with something in it and C among ``channels``."""
    if image.ndim != 4 or 0 in image.shape or image.shape[-1] not in channels:
        raise ValueError(
            f"cannot encode {what} of shape {tuple(image.shape)}: it must be 'B H W C' with no empty axis and C in "
            f"{list(channels)}; add the missing axis or convert the channels"
        )


def centre_square(planes: Tensor, size: int, *, low: float | None = 0.0, high: float | None = 1.0) -> Tensor:
    """``"B C H W" -> "B C S S"``: short side to ``size``, then the middle.

    Bicubic overshoot beyond ``low`` and ``high`` is clipped, as it is where pictures are resized as bytes.
    """
    planes = _without_far_ends(planes)
    height, width = planes.shape[-2:]
    short = min(height, width)
    if short != size:
        target = (size * height // short, size * width // short)
        planes = F.interpolate(planes, size=target, mode="bicubic", antialias=True, align_corners=False)
        if low is not None or high is not None:
            planes = planes.clamp(low, high)
    top, left = round((planes.shape[-2] - size) / 2), round((planes.shape[-1] - size) / 2)
    return planes[..., top : top + size, left : left + size]


def normalise(planes: Tensor) -> Tensor:
    """``"... 3 H W"`` in 0..1 -> CLIP's mean and deviation."""
    mean, std = planes.new_tensor(CLIP_MEAN), planes.new_tensor(CLIP_STD)
    return (planes - mean.view(3, 1, 1)) / std.view(3, 1, 1)


def _without_far_ends(planes: Tensor) -> Tensor:
    """Keeps a 1 x 20000 picture from becoming one of 224 x 4,480,000 on its way to 224 x 224."""
    for axis in (-2, -1):
        longest = LONGEST_RATIO * min(planes.shape[-2:])
        if planes.shape[axis] > longest:
            planes = planes.narrow(axis, (planes.shape[axis] - longest) // 2, longest)
    return planes
