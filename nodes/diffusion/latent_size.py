"""Upscale latent: a drawing is made larger before it is drawn over again, with what belongs to it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from graph_engine import Latent, NodeError, Widget, node
from nodes.diffusion.latent import FACTOR
from nodes.diffusion.load import CATEGORY

LARGEST = 2048
"""Cells along a side; 16384 pixels."""
Side = Annotated[int, Widget(min=0, max=LARGEST * FACTOR, step=FACTOR)]
Scale = Annotated[float, Widget(min=0.125, max=8, step=0.125)]
Method = Literal["nearest", "bilinear", "bicubic", "area"]


@node(id="diffusion.upscale_latent", category=CATEGORY)
def upscale_latent(
    latent: Latent,
    scale: Scale = 1.5,
    width: Side = 0,
    height: Side = 0,
    method: Method = "nearest",
    mode: Literal["stretch", "fill"] = "stretch",
) -> Latent:
    """A latent of pictures or films larger, for `sample` with a strength below 1 to add what is in between ("hires fix").

    width, height: the new size in pixels, 8 for a cell; one of them that is 0 is in proportion to the other. scale: used where
    both are 0. mode: for another format, stretch to exactly that size, or fill it and cut off evenly what protrudes.
    A mask goes with it, and so does an empty sheet, which stays empty.
    """
    samples = latent["samples"]
    if samples.ndim not in (4, 5) or latent.get("modality", "image") not in ("image", "video"):
        raise NodeError(
            f"the latent is {'x'.join(map(str, samples.shape))} of modality {latent.get('modality', 'image')}.",
            remedy="Link the latent of a picture or of a film.",
            code="bad_latent",
            port="latent",
        )
    for side, name in ((width, "width"), (height, "height")):
        if side % FACTOR:
            raise NodeError(
                f"{side} pixels are no multiple of {FACTOR}.",
                remedy=f"Choose a multiple of {FACTOR}.",
                code="bad_size",
                port=name,
            )
    size = _size(tuple(samples.shape[-2:]), height // FACTOR, width // FACTOR, scale)
    if max(size) > LARGEST:
        raise NodeError(
            f"the latent would become {size[1] * FACTOR}x{size[0] * FACTOR} pixels, above {LARGEST * FACTOR} on a side.",
            remedy="Choose a smaller size.",
            code="bad_size",
            port="scale" if not (width or height) else "width" if width else "height",
        )
    inner = _inner(tuple(samples.shape[-2:]), size) if mode == "fill" else size
    # A cell of a mask is drawn anew or kept: values in between would be neither.
    methods = {"samples": method, "masked_samples": method, "noise_mask": "nearest"}
    found = {
        name: _resized(latent[name], inner, size, how) for name, how in methods.items() if latent.get(name) is not None
    }
    return {**latent, **found}


def _size(old: tuple[int, ...], height: int, width: int, scale: float) -> tuple[int, int]:
    """Cells "height width"; 0 is in proportion to the other side, or by `scale`."""
    if not height and not width:
        return max(1, round(old[0] * scale)), max(1, round(old[1] * scale))
    return height or max(1, round(old[0] * width / old[1])), width or max(1, round(old[1] * height / old[0]))


def _inner(old: tuple[int, ...], size: tuple[int, int]) -> tuple[int, int]:
    """The smallest size of the old format that covers the new one."""
    factor = max(size[0] / old[0], size[1] / old[1])
    return max(size[0], round(old[0] * factor)), max(size[1], round(old[1] * factor))


def _resized(cells: Any, inner: tuple[int, int], size: tuple[int, int], method: str) -> Any:
    """ "... h w" to `inner`, of which the middle of `size` is taken."""
    import torch

    planes = cells.float().flatten(0, -4) if cells.ndim > 4 else cells.float()
    if tuple(planes.shape[-2:]) != inner:
        shrinks = inner[0] < planes.shape[-2] or inner[1] < planes.shape[-1]
        smooth = {"align_corners": False, "antialias": shrinks} if method in ("bilinear", "bicubic") else {}
        name = "nearest-exact" if method == "nearest" else method
        planes = torch.nn.functional.interpolate(planes, size=inner, mode=name, **smooth)
    top, left = (inner[0] - size[0]) // 2, (inner[1] - size[1]) // 2
    cut = planes[..., top : top + size[0], left : left + size[1]]
    return cut.reshape(*cells.shape[:-2], *size).contiguous()
