"""What a latent looks like while it is being denoised: cheap pictures, for previews only.

Without the autoencoder where it is Stable Diffusion's, whose colours are known. Of others nobody measured them; where such a
one is small, as those of the preset `mini`, it decodes what is shown, which costs as much as a part of a step.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# Rows: latent channels of the SD autoencoder; columns: red, green, blue. Rounded by eye.
_RGB = ((0.30, 0.22, 0.20), (0.18, 0.28, 0.18), (-0.15, 0.18, 0.25), (-0.18, -0.26, -0.45))
_MEL_BANDS = 4
"""Mel bands that a latent row of sound stands for."""
SMALL = 4_000_000
"""Parameters of an autoencoder that may decode previews."""

Decode = Callable[[Tensor], Tensor]
"""Latents "N C h w" to pictures "N 3 H W", around -1..1."""


def decoding_of(decoder: Any, modality: str) -> Decode | None:
    """How previews of this decoder are decoded; None where they are not."""
    vae = getattr(decoder, "vae", None)
    channels = getattr(getattr(vae, "config", None), "latent_channels", len(_RGB))
    if vae is None or modality not in ("image", "video") or channels == len(_RGB):
        return None
    if sum(parameter.numel() for parameter in vae.parameters()) > SMALL:
        return None

    @torch.no_grad()
    def decode(latents: Tensor) -> Tensor:
        found: Tensor = vae.decode(latents.to(next(vae.parameters()).dtype) / vae.config.scaling_factor).sample
        return found

    return decode


class Glance:
    """The first item of a latent on its way to the host. Nobody waits for it: it is there when it is there."""

    def __init__(self, latent: Tensor, modality: str = "image", decode: Decode | None = None) -> None:
        """decode: then it is the pictures that it stands for, of a film those that are shown."""
        first = latent[:1].detach()
        self.modality, self.decoded = modality, decode is not None
        if decode is not None:
            frames = first if first.ndim == 4 else first[0].transpose(0, 1)
            first = decode(frames[_shown(len(frames))])
        self._copy, self._event = first, None
        if first.is_cuda:
            self._copy = torch.empty(first.shape, dtype=first.dtype, pin_memory=True)
            self._copy.copy_(first, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def picture(self) -> Tensor | None:
        """uint8 "h w 3" on the CPU; None as long as the device is busy with what came before."""
        if self._event is not None and not self._event.query():
            return None
        if self.decoded:
            return _bytes(_two_by_two(list(self._copy.float().cpu().movedim(1, -1))) / 2 + 0.5)
        return preview_rgb(self._copy, self.modality)


def preview_rgb(latent: Tensor, modality: str) -> Tensor:
    """uint8 "h w 3" on the CPU of the first item of a latent.

    image "B C h w": the picture. video "B C F h w": four frames of the film from first to last, two by two; fewer if it is
    shorter. audio "B C T m": time from left to right, pitch upwards, as bright as it is loud.
    """
    item = latent[0].detach().float().cpu()
    if modality == "audio":
        return _sound(item)
    frames = item[None] if item.ndim == 3 else item.transpose(0, 1)
    return _bytes(_two_by_two([_colours(frame) for frame in frames[_shown(len(frames))]]) / 2 + 0.5)


def _colours(cells: Tensor) -> Tensor:
    """ "4 h w" to "h w 3"; of an autoencoder with other channels, whose colours nobody measured, shades of grey."""
    if cells.shape[0] != len(_RGB):
        return cells.mean(0)[..., None].expand(-1, -1, 3)
    return torch.einsum("chw,cr->hwr", cells, torch.tensor(_RGB))


def _shown(length: int) -> list[int]:
    """Which of so many frames are shown."""
    count = 4 if length >= 4 else min(length, 2)
    return [round(i * (length - 1) / max(count - 1, 1)) for i in range(count)]


def _two_by_two(pictures: list[Tensor]) -> Tensor:
    """1, 2 or 4 of "h w 3" as one."""
    return torch.cat([torch.cat(pictures[i : i + 2], dim=1) for i in range(0, len(pictures), 2)])


def _sound(cells: Tensor) -> Tensor:
    """ "C T m" to "4m T 3": a column per latent row (40 ms), the lowest bands at the bottom."""
    loudness = cells.mean(0).T.flip(0)
    low, high = loudness.min(), loudness.max()
    grey = ((loudness - low) / (high - low).clamp_min(1e-6)).repeat_interleave(_MEL_BANDS, dim=0)
    return _bytes(grey[..., None].expand(-1, -1, 3))


def _bytes(picture: Tensor) -> Tensor:
    return (picture.clamp(0, 1) * 255).round().to(torch.uint8)
