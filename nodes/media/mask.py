"""Masks: MASK "B H W", float32 in 0..1."""

from __future__ import annotations

from typing import Annotated, Literal

from graph_engine import Image, Mask, NodeContext, Widget, node

CATEGORY = "media/mask"


@node(id="media.load_mask", category=CATEGORY)
def load_mask(
    context: NodeContext,
    file: Annotated[str, Widget(upload="image")],
    channel: Literal["luma", "red", "green", "blue", "alpha"] = "luma",
    invert: bool = False,
) -> Mask:
    """Read a mask "1 H W" from a picture: 1 where the channel is full, white in the masks that the editor paints.

    alpha: 1 where the picture is opaque, as in media.image_to_mask. invert: 1 - mask.
    """
    from nodes.media.image_file import read_image

    image, clear = read_image(context.input_path(file))
    mask = 1.0 - clear if channel == "alpha" else image_to_mask(image, channel)
    return 1.0 - mask if invert else mask


@node(id="media.image_to_mask", category=CATEGORY)
def image_to_mask(image: Image, channel: Literal["luma", "red", "green", "blue", "alpha"] = "luma") -> Mask:
    """One channel of a picture "B H W C" as a mask "B H W"; a picture without alpha is opaque, so its alpha is 1."""
    import torch

    from nodes.media.image_batch import with_channels

    if channel == "luma":
        return with_channels(image, 1)[..., 0].clamp(0, 1)
    if channel == "alpha" and image.shape[-1] != 4:
        return torch.ones(image.shape[:3])
    return with_channels(image, 4)[..., ("red", "green", "blue", "alpha").index(channel)].clone()


@node(id="media.mask_to_image", category=CATEGORY)
def mask_to_image(mask: Mask) -> Image:
    """A mask "B H W" as a grey picture "B H W 3"."""
    return mask.unsqueeze(-1).expand(*mask.shape, 3).clone()


@node(id="media.invert_mask", category=CATEGORY)
def invert_mask(mask: Mask) -> Mask:
    """1 - mask."""
    return 1.0 - mask


@node(id="media.join_alpha", category=CATEGORY)
def join_alpha(image: Image, mask: Mask) -> Image:
    """A picture "B H W 4" that is transparent where the mask is 1, as media.load_image gives it."""
    import torch
    import torch.nn.functional as F

    from nodes.media.image_batch import with_channels

    if mask.shape[1:] != image.shape[1:3]:
        mask = F.interpolate(mask.unsqueeze(1), image.shape[1:3], mode="bilinear")[:, 0]
    alpha = (1.0 - mask).clamp(0, 1).expand(len(image), -1, -1).unsqueeze(-1)
    return torch.cat([with_channels(image, 3), alpha], dim=-1)
