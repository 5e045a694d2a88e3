"""Image files: decode any that Pillow knows into float tensors, encode PNG, JPEG and WebP."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as pil
from PIL import ImageOps, ImageSequence, UnidentifiedImageError

from nodes.media import workflow_metadata
from nodes.media.deep_grey import is_deep, shades
from nodes.media.file_faults import complete_or_gone, damaged, refuse_empty, too_large, unknown

MAX_PIXELS = 256_000_000
"""Of all frames together: 3 GB as float RGB."""
MEDIA_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}


def read_image(path: Path, all_frames: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Colours "B H W 3" and transparency "B H W" (1 - alpha, as ComfyUI has it), float32 in 0..1.

    Turns the picture as its EXIF orientation says. B is 1, or the number of frames of an animation.
    """
    refuse_empty(path, "image")
    try:
        with pil.open(path) as image:
            count = getattr(image, "n_frames", 1) if all_frames else 1
            if image.width * image.height * count > MAX_PIXELS:
                raise too_large(
                    f"{path.name} ({image.width} x {image.height}, {count} frames)",
                    f"{image.width * image.height * count / 1e6:.0f} megapixels",
                    f"{MAX_PIXELS / 1e6:.0f}",
                    "Scale the picture down first" + (", or load the first frame only." if count > 1 else "."),
                )
            frames = ImageSequence.Iterator(image) if count > 1 else [image]
            arrays = [_array(ImageOps.exif_transpose(frame)) for frame in frames]
    except UnidentifiedImageError:
        raise unknown(path, "image", "PNG, JPEG or WebP") from None
    except (pil.DecompressionBombError, pil.DecompressionBombWarning) as error:
        raise too_large(
            path.name, str(error).rstrip("."), f"{MAX_PIXELS / 1e6:.0f} megapixels", "Scale it down."
        ) from None
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError) as error:
        raise damaged(path, "image", error) from error
    pixels = torch.from_numpy(np.stack(arrays))
    return pixels[..., :3].contiguous(), (1.0 - pixels[..., 3]).contiguous()


def _array(image: pil.Image) -> np.ndarray[Any, Any]:
    """One picture of any mode as float32 "H W 4" in 0..1."""
    if is_deep(image):
        grey = shades(image)[..., None]
        return np.concatenate([grey, grey, grey, np.ones_like(grey)], axis=-1)
    if image.mode == "RGB" and "transparency" not in image.info:
        colours = np.asarray(image).astype(np.float32) / 255.0
        return np.concatenate([colours, np.ones_like(colours[..., :1])], axis=-1)
    return np.asarray(image.convert("RGBA")).astype(np.float32) / 255.0


def bytes_of(picture: torch.Tensor) -> np.ndarray[Any, Any]:
    """Float "... C" in 0..1 to uint8, rounded to nearest."""
    return picture.detach().clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()


def to_pil(picture: torch.Tensor) -> pil.Image:
    """ "H W C" with 1, 3 or 4 channels as a PIL picture."""
    array = bytes_of(picture)
    return pil.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def write_image(
    path: Path,
    picture: torch.Tensor,
    format: str,
    quality: int = 90,
    lossless: bool = False,
    document: Mapping[str, Any] | None = None,
) -> None:
    """Write one picture "H W C" as "png", "jpeg" or "webp"; `document` is the workflow to embed, if any.

    JPEG has no transparency: such a picture is laid on white.
    """
    with complete_or_gone(path, "image"):
        path.write_bytes(encode_image(picture, format, quality, lossless, document))


def encode_image(
    picture: torch.Tensor,
    format: str,
    quality: int = 90,
    lossless: bool = False,
    document: Mapping[str, Any] | None = None,
) -> bytes:
    """The bytes of the file that `write_image` writes."""
    image, buffer = to_pil(picture), io.BytesIO()
    if format == "png":
        info = workflow_metadata.png_text(document) if document else None
        image.save(buffer, "PNG", pnginfo=info, compress_level=4)
        return buffer.getvalue()
    if format == "webp":
        exif = workflow_metadata.webp_exif(document) if document else b""
        image.save(buffer, "WEBP", quality=quality, lossless=lossless, exif=exif, method=4)
        return buffer.getvalue()
    if image.mode == "RGBA":
        white = pil.new("RGBA", image.size, "white")
        image = pil.alpha_composite(white, image).convert("RGB")
    image.save(buffer, "JPEG", quality=quality, subsampling=0 if quality >= 90 else 2, optimize=True)
    return workflow_metadata.jpeg_with(buffer.getvalue(), document) if document else buffer.getvalue()
