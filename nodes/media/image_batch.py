"""Batches of pictures: IMAGE "B H W C" holds B pictures of one size."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

from graph_engine import Image, NodeError, Widget, node
from nodes.control.port_order import natural

CATEGORY = "media/image"


@node(id="media.image_batch", category=CATEGORY)
def image_batch(sizes: Literal["resize to first", "error"] = "resize to first", **images: list[Image]) -> Image:
    """All pictures as one batch, in the natural order of the port names; sizes follow the first, cut to cover it."""
    batches = [batch for name in natural(images) for batch in _as_list(images[name])]
    return _joined(batches, sizes == "resize to first")


@node(id="media.list_to_images", category=CATEGORY)
def list_to_images(images: list[Image], sizes: Literal["resize to first", "error"] = "resize to first") -> Image:
    """A list of pictures as one batch."""
    return _joined(images, sizes == "resize to first")


@node(id="media.images_to_list", category=CATEGORY)
def images_to_list(images: Image) -> list[Image]:
    """Every picture of the batch as an entry of a list, so that the next node runs once for each."""
    return [images[number : number + 1].clone() for number in range(len(images))]


@node(id="media.select_images", category=CATEGORY)
def select_images(images: Image, start: int = 0, count: Annotated[int, Widget(min=0)] = 1) -> Image:
    """`count` pictures from number `start` on (0 is the first, -1 the last); a count of 0 takes all to the end."""
    first = start + len(images) if start < 0 else start
    if not 0 <= first < len(images):
        raise NodeError(
            f"there is no picture {start} in a batch of {len(images)}.",
            remedy=f"Choose a start in {-len(images)}..{len(images) - 1}.",
            code="no_such_item",
            port="start",
        )
    return images[first : first + count if count else None].clone()


@node(id="media.concat_images", category=CATEGORY)
def concat_images(
    first: Image,
    second: Image,
    direction: Literal["right", "down", "left", "up"] = "right",
    sizes: Literal["resize to first", "error"] = "resize to first",
) -> Image:
    """Put `second` beside `first`, side by side. Proportions are kept: it is scaled until the touching sides match."""
    import torch

    from nodes.media.image_scale import scale

    across = direction in ("right", "left")
    axis, side = (2, 1) if across else (1, 2)
    if first.shape[side] != second.shape[side]:
        if sizes == "error":
            raise _size_mismatch([first, second])
        other = max(1, round(second.shape[axis] * first.shape[side] / second.shape[side]))
        second = scale(second, *((other, first.shape[1]) if across else (first.shape[2], other)), "lanczos")
    channels = max(first.shape[-1], second.shape[-1])
    count = max(len(first), len(second))
    if any(len(part) not in (1, count) for part in (first, second)):
        raise NodeError(
            f"batches of {len(first)} and {len(second)} pictures do not match.",
            remedy="Give equal batches, or one picture on one side.",
            code="batch_mismatch",
            port="second",
        )
    parts = [with_channels(part, channels).expand(count, -1, -1, -1) for part in (first, second)]
    return torch.cat(parts if direction in ("right", "down") else parts[::-1], dim=axis)


class ImageInfo(NamedTuple):
    width: int
    height: int
    batch: int
    channels: int


@node(id="media.image_info", category=CATEGORY)
def image_info(image: Image) -> ImageInfo:
    """The sizes of "batch height width channels"."""
    count, height, width, channels = image.shape
    return ImageInfo(int(width), int(height), int(count), int(channels))


def with_channels(image: Any, channels: int) -> Any:
    """ "B H W C" with 1, 3 or 4 channels as 1, 3 or 4: grey is repeated, a missing alpha is 1, colour becomes luma."""
    import torch

    have = image.shape[-1]
    if have == channels:
        return image
    if channels == 1:
        return (image[..., :3] * image.new_tensor([0.2126, 0.7152, 0.0722])).sum(-1, keepdim=True)
    colours = image.expand(*image.shape[:3], 3) if have == 1 else image[..., :3]
    return colours if channels == 3 else torch.cat([colours, torch.ones_like(colours[..., :1])], dim=-1)


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _joined(batches: list[Any], resize_to_first: bool) -> Any:
    import torch

    from nodes.media.image_scale import resize

    if not batches:
        raise NodeError("there are no pictures to join.", remedy="Connect at least one.", code="nothing_connected")
    height, width = batches[0].shape[1:3]
    if any(batch.shape[1:3] != (height, width) for batch in batches):
        if not resize_to_first:
            raise _size_mismatch(batches)
        batches = [resize(batch, width, height, "fill", "lanczos") for batch in batches]
    channels = max(batch.shape[-1] for batch in batches)
    return torch.cat([with_channels(batch, channels) for batch in batches])


def _size_mismatch(batches: list[Any]) -> NodeError:
    sizes = ", ".join(dict.fromkeys(f"{batch.shape[2]} x {batch.shape[1]}" for batch in batches))
    return NodeError(
        f"the pictures differ in size: {sizes}.",
        remedy="Resize them with media.resize_image, or set sizes to 'resize to first'.",
        code="size_mismatch",
        port="sizes",
    )
