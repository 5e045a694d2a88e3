"""Architectures: what cannot be read from the shapes of a checkpoint, as data. One row per base model.

Sources: the published configurations of Stable Diffusion 1.5 and 2 (latent diffusion, arXiv 2112.10752) and of SDXL
(arXiv 2307.01952).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """heads: attention heads everywhere; 0: as many as `HEAD_WIDTH` channels fit in, level by level
    prediction    what the denoiser was trained to say
    scaling       factor between the autoencoder's latent and the denoiser's
    upcast        the autoencoder overflows in half precision
    pad           what fills a short text: the end sign (None) or the token of this id; one entry per text encoder
    size          pixels on a side that it was trained on
    """

    name: str
    title: str
    heads: int
    scaling: float
    pad: tuple[int | None, ...]
    prediction: str = "epsilon"
    upcast: bool = False
    size: int = 512


HEAD_WIDTH = 64

ARCHITECTURES: Mapping[str, Architecture] = {
    row.name: row
    for row in (
        Architecture("sd1", "Stable Diffusion 1.x", 8, 0.18215, (None,)),
        Architecture("sd2", "Stable Diffusion 2.x", 0, 0.18215, (0,), "v_prediction", size=768),
        Architecture("sdxl", "SDXL", 0, 0.13025, (None, 0), upcast=True, size=1024),
    )
}
