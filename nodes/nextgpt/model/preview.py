"""What a latent looks like while it is being denoised: cheap pictures without the autoencoder, for previews only."""

import torch
from torch import Tensor

# Rows: latent channels of the SD autoencoder; columns: red, green, blue. Rounded by eye.
_RGB = ((0.30, 0.22, 0.20), (0.18, 0.28, 0.18), (-0.15, 0.18, 0.25), (-0.18, -0.26, -0.45))
_MEL_BANDS = 4
"""Mel bands that a latent row of sound stands for."""


class Glance:
    """The first item of a latent on its way to the host. Nobody waits for it: it is there when it is there."""

    def __init__(self, latent: Tensor) -> None:
        first = latent[:1].detach()
        self._copy, self._event = first, None
        if first.is_cuda:
            self._copy = torch.empty(first.shape, dtype=first.dtype, pin_memory=True)
            self._copy.copy_(first, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def arrived(self) -> Tensor | None:
        """The item, "1 ...", on the CPU; None as long as the device is busy with what came before."""
        return self._copy if self._event is None or self._event.query() else None


def preview_rgb(latent: Tensor) -> Tensor:
    """uint8 "h w 3" on the CPU of the first item of a latent.

    "B 4 h w": the picture. "B C F h w": four frames of the film from first to last, two by two; fewer if it is shorter.
    "B C T m" with other channels: a sound, time from left to right, pitch upwards, as bright as it is loud.
    """
    item = latent[0].detach().float().cpu()
    if item.ndim == 4:
        picture = _film(item)
    elif item.shape[0] == len(_RGB):
        picture = _colours(item)
    else:
        return _sound(item)
    return _bytes(picture / 2 + 0.5)


def _colours(cells: Tensor) -> Tensor:
    """ "4 h w" to "h w 3"; of an autoencoder with other channels, whose colours nobody measured, shades of grey."""
    if cells.shape[0] != len(_RGB):
        return cells.mean(0)[..., None].expand(-1, -1, 3)
    return torch.einsum("chw,cr->hwr", cells, torch.tensor(_RGB))


def _film(frames: Tensor) -> Tensor:
    """ "4 F h w" to "rows*h columns*w 3"."""
    length = frames.shape[1]
    count = 4 if length >= 4 else min(length, 2)
    chosen = [_colours(frames[:, round(i * (length - 1) / max(count - 1, 1))]) for i in range(count)]
    rows = [torch.cat(chosen[i : i + 2], dim=1) for i in range(0, count, 2)]
    return torch.cat(rows)


def _sound(cells: Tensor) -> Tensor:
    """ "C T m" to "4m T 3": a column per latent row (40 ms), the lowest bands at the bottom."""
    loudness = cells.mean(0).T.flip(0)
    low, high = loudness.min(), loudness.max()
    grey = ((loudness - low) / (high - low).clamp_min(1e-6)).repeat_interleave(_MEL_BANDS, dim=0)
    return _bytes(grey[..., None].expand(-1, -1, 3))


def _bytes(picture: Tensor) -> Tensor:
    return (picture.clamp(0, 1) * 255).round().to(torch.uint8)
