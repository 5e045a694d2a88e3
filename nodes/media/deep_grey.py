"""Deep greys: pictures of 16 or 32 bits or of floats, which Pillow would clip at 255 on the way to eight bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image as pil


def is_deep(image: pil.Image) -> bool:
    return image.mode.startswith(("I", "F"))


def shades(image: pil.Image) -> np.ndarray[Any, Any]:
    """A deep picture as float32 "H W" in 0..1; floats are taken to be in that range already."""
    values = np.asarray(image).astype(np.float32)
    top = 1.0 if image.mode == "F" else 65535.0 if values.max(initial=0) > 255 or ";16" in image.mode else 255.0
    found: np.ndarray[Any, Any] = np.nan_to_num(np.clip(values / top, 0.0, 1.0))
    return found


def shallow(image: pil.Image) -> pil.Image:
    """The picture in eight bits, mode "L"."""
    return pil.fromarray(np.rint(shades(image) * 255).astype(np.uint8))
