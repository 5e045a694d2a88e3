"""Editing of pictures. All take and give IMAGE "B H W C", float32 in 0..1."""

from __future__ import annotations

from typing import Annotated, Literal

from graph_engine import Image, Mask, NodeError, Widget, node

CATEGORY = "media/image"
Side = Annotated[int, Widget(min=0, max=16_384, step=8)]
Share = Annotated[float, Widget(min=0, max=1, step=0.01)]
MAX_PIXELS = 256_000_000


@node(id="media.resize_image", category=CATEGORY)
def resize_image(
    image: Image,
    width: Side = 512,
    height: Side = 0,
    mode: Literal["stretch", "fit", "fill", "pad"] = "stretch",
    method: Literal["lanczos", "bicubic", "bilinear", "area", "nearest"] = "lanczos",
    pad_value: Share = 0.0,
) -> Image:
    """Another size; 0 for a side means in proportion to the other one.

    stretch: exactly that size. fit: the largest that fits inside it. fill: covers it, the rest is cut off.
    pad: like fit, with borders of grey `pad_value` up to the size.
    """
    from nodes.media.image_scale import resize, target_size

    new_width, new_height = target_size(image.shape[2], image.shape[1], width, height)
    if new_width * new_height * len(image) > MAX_PIXELS:
        raise NodeError(
            f"{len(image)} pictures of {new_width} x {new_height} would be"
            f" {new_width * new_height * len(image) / 1e6:.0f} megapixels, more than {MAX_PIXELS / 1e6:.0f}.",
            remedy="Choose a smaller size or a smaller batch.",
            code="too_large",
            port="width",
        )
    return resize(image, width, height, mode, method, pad_value)


@node(id="media.crop_image", category=CATEGORY)
def crop_image(image: Image, x: Side = 0, y: Side = 0, width: Side = 0, height: Side = 0) -> Image:
    """Cut out the rectangle whose upper left corner is (x, y); a side of 0 reaches to the border."""
    rows, columns = image.shape[1:3]
    if x >= columns or y >= rows:
        raise NodeError(
            f"the corner ({x}, {y}) lies outside the picture of {columns} x {rows}.",
            remedy=f"Choose x below {columns} and y below {rows}.",
            code="outside_picture",
            port="x" if x >= columns else "y",
        )
    return image[:, y : y + height if height else rows, x : x + width if width else columns].clone()


@node(id="media.invert_image", category=CATEGORY)
def invert_image(image: Image) -> Image:
    """Turn dark into light; a fourth channel (alpha) stays."""
    inverted = 1.0 - image
    if image.shape[-1] == 4:
        inverted[..., 3] = image[..., 3]
    return inverted


@node(id="media.turn_image", category=CATEGORY)
def turn_image(image: Image, turn: Literal["none", "left", "right", "half"] = "none", mirror: bool = False) -> Image:
    """Turn by quarters (left = anticlockwise), then mirror left and right if wanted."""
    import torch

    turned = torch.rot90(image, {"none": 0, "left": 1, "half": 2, "right": 3}[turn], dims=(1, 2))
    return (turned.flip(2) if mirror else turned).contiguous()


@node(id="media.adjust_image", category=CATEGORY)
def adjust_image(
    image: Image,
    brightness: Annotated[float, Widget(min=-1, max=1, step=0.05)] = 0.0,
    contrast: Annotated[float, Widget(min=0, max=4, step=0.05)] = 1.0,
    saturation: Annotated[float, Widget(min=0, max=4, step=0.05)] = 1.0,
    gamma: Annotated[float, Widget(min=0.1, max=10, step=0.05)] = 1.0,
) -> Image:
    """Add brightness, scale contrast around mid grey and saturation around the luma (Rec. 709), raise to gamma."""
    import torch

    colours, alpha = image[..., :3], image[..., 3:]
    colours = (colours - 0.5) * contrast + 0.5 + brightness
    if colours.shape[-1] == 3 and saturation != 1.0:
        luma = (colours * colours.new_tensor([0.2126, 0.7152, 0.0722])).sum(-1, keepdim=True)
        colours = luma + (colours - luma) * saturation
    return torch.cat([colours.clamp(0, 1) ** gamma, alpha], dim=-1)


@node(id="media.blur_image", category=CATEGORY)
def blur_image(image: Image, radius: Annotated[float, Widget(min=0, max=256, step=0.5)] = 2.0) -> Image:
    """Gaussian blur; `radius` is the standard deviation in pixels. Borders are mirrored by repeating the edge."""
    import torch
    import torch.nn.functional as F

    if radius == 0:
        return image
    reach = max(1, round(3 * radius))
    offsets = torch.arange(-reach, reach + 1, dtype=image.dtype, device=image.device)
    weights = torch.exp(-0.5 * (offsets / radius) ** 2)
    weights = (weights / weights.sum()).expand(image.shape[-1], 1, -1)
    planes = F.pad(image.permute(0, 3, 1, 2), (reach, reach, reach, reach), mode="replicate")
    planes = F.conv2d(planes, weights.unsqueeze(2), groups=image.shape[-1])
    planes = F.conv2d(planes, weights.unsqueeze(3), groups=image.shape[-1])
    return planes.permute(0, 2, 3, 1).clamp(0, 1).contiguous()


@node(id="media.composite_images", category=CATEGORY)
def composite_images(
    below: Image, above: Image, x: int = 0, y: int = 0, mask: Mask | None = None, opacity: Share = 1.0
) -> Image:
    """Lay `above` on `below` with its upper left corner at (x, y); what protrudes is cut off.

    mask "B H W" of the size of `above`: 1 shows it, 0 hides it. Without one, the alpha of `above` counts.
    A batch of one is laid on every picture, or below every picture.
    """
    import torch
    import torch.nn.functional as F

    below = below[..., :3].expand(*below.shape[:3], 3) if below.shape[-1] == 1 else below[..., :3]
    count = max(len(below), len(above))
    if any(len(part) not in (1, count) for part in (below, above)):
        raise NodeError(
            f"batches of {len(below)} and {len(above)} pictures do not match.",
            remedy="Give equal batches, or one picture on one side.",
            code="batch_mismatch",
            port="above",
        )
    if mask is None:
        mask = above[..., 3] if above.shape[-1] == 4 else torch.ones(above.shape[:3])
    elif mask.shape[1:] != above.shape[1:3]:
        mask = F.interpolate(mask.unsqueeze(1), above.shape[1:3], mode="bilinear")[:, 0]
    above = above[..., :3] if above.shape[-1] >= 3 else above.expand(*above.shape[:3], 3)
    result = below.expand(count, -1, -1, -1).clone()
    left, top = max(0, x), max(0, y)
    right, bottom = min(result.shape[2], x + above.shape[2]), min(result.shape[1], y + above.shape[1])
    if left >= right or top >= bottom:
        return result
    rows, columns = slice(top - y, bottom - y), slice(left - x, right - x)
    weight = (mask[:, rows, columns] * opacity).unsqueeze(-1)
    place = result[:, top:bottom, left:right]
    result[:, top:bottom, left:right] = place + (above[:, rows, columns] - place) * weight
    return result


@node(id="media.solid_image", category=CATEGORY)
def solid_image(
    width: Annotated[int, Widget(min=1, max=16_384)] = 512,
    height: Annotated[int, Widget(min=1, max=16_384)] = 512,
    color: Annotated[str, Widget(style="color")] = "#000000",
    count: Annotated[int, Widget(min=1, max=4096)] = 1,
) -> Image:
    """Pictures "count height width 3" of one colour, written as #rrggbb."""
    import torch

    digits = color.strip().removeprefix("#")
    try:
        red, green, blue = bytes.fromhex(digits)
    except ValueError:
        raise NodeError(
            f"{color!r} is no colour.", remedy="Write #rrggbb, as in #ff8800.", code="bad_color", port="color"
        ) from None
    if width * height * count > MAX_PIXELS:
        raise NodeError(
            f"{count} pictures of {width} x {height} are more than {MAX_PIXELS / 1e6:.0f} megapixels.",
            remedy="Choose a smaller size or count.",
            code="too_large",
            port="width",
        )
    return torch.tensor([red, green, blue]).div(255).expand(count, height, width, 3).clone()
