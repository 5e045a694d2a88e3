"""Condition to film: a text-to-video denoiser over space and time, and the image autoencoder frame by frame.

Source: ModelScope text-to-video, arXiv 2308.06571 (the build of zeroscope).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .diffusion_config import DiffusionConfig
from .image_decoder import decode_cells, encode_cells, latent_size, to_condition
from .sampling import OnStep, check_latent, denoise
from .unfit import Unfit


class VideoDecoder(nn.Module):
    """`unet` (3-D) and `vae` of diffusers; keys are theirs with the prefix `unet.` or `vae.`. No loose buffers."""

    def __init__(self, config: DiffusionConfig) -> None:
        from diffusers import AutoencoderKL, UNet3DConditionModel

        if config.modality != "video":
            raise ValueError(f"a video decoder cannot be built from a configuration for {config.modality}")
        super().__init__()
        self.config = config
        self.unet: Any = UNet3DConditionModel(**config.unet)
        self.vae: Any = AutoencoderKL(**config.vae)
        self.eval()

    @classmethod
    def random(cls, config: DiffusionConfig, seed: int) -> "VideoDecoder":
        """Untrained weights that depend on nothing but `config` and `seed`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(config)


def sample(
    decoder: VideoDecoder,
    condition: Tensor,
    negative: Tensor | None = None,
    *,
    steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
    scheduler: str | None = None,
    spacing: str = "default",
    size: tuple[int, int] | None = None,
    frames: int | None = None,
    latent: Tensor | None = None,
    strength: float = 1.0,
    on_step: OnStep | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Tensor:
    """Condition `[B, 77, width]` to a clean latent `[B, 4, F, h/8, w/8]`; `size` is (height, width) in pixels.

    None takes the configuration's value. `latent` and `strength` re-draw an existing film, whose frames and size then
    count (see `sampling.denoise`, also for the errors).
    """
    config = decoder.config
    condition = to_condition(decoder, condition, config.condition[1])
    channels = config.unet["in_channels"]
    if latent is not None:
        check_latent(latent, None, channels, None, None, None)
    count = config.frames if frames is None else frames
    if latent is not None and size is None and frames is None:
        extent: tuple[int, ...] = tuple(latent.shape[2:])
    else:
        extent = (count, *latent_size(config, size))
    if extent[0] < 1:
        raise Unfit(f"a film needs at least one frame, not {extent[0]}", "frames")
    return denoise(
        lambda state, timestep, text: decoder.unet(state, timestep, encoder_hidden_states=text).sample,
        (condition.shape[0], channels, *extent),
        condition,
        negative,
        config.schedule,
        steps=config.steps if steps is None else steps,
        guidance=config.guidance if guidance is None else guidance,
        seed=seed,
        scheduler=config.scheduler if scheduler is None else scheduler,
        spacing=spacing,
        latent=latent,
        strength=strength,
        on_step=on_step,
        cancelled=cancelled,
    )


def decode(
    decoder: VideoDecoder, latent: Tensor, *, batch: int = 4, cancelled: Callable[[], bool] | None = None
) -> Tensor:
    """Latent of one film `[1, 4, F, h, w]` to frames float32 `[F, 8h, 8w, 3]` in 0..1, `batch` frames at a time.

    Raises Unfit for several films: their frames would run together.
    """
    check_latent(latent, None, decoder.vae.config.latent_channels, None, None, None)
    if latent.shape[0] != 1:
        raise Unfit(f"the latent holds {latent.shape[0]} films; decode several one by one", "latent")
    frames = latent[0].transpose(0, 1)
    return decode_cells(decoder.vae, decoder.vae.config.scaling_factor, frames, batch, cancelled)


def encode(
    decoder: VideoDecoder, frames: Tensor, *, batch: int = 4, cancelled: Callable[[], bool] | None = None
) -> Tensor:
    """Frames `[F, H, W, 3]` in 0..1 of one film to its latent `[1, 4, F, H/8, W/8]` (the mean, no draw).

    Raises Unfit for sides that do not divide.
    """
    latent_size(decoder.config, (frames.shape[1], frames.shape[2]), "video")
    cells = encode_cells(decoder.vae, decoder.vae.config.scaling_factor, frames, batch, cancelled)
    return cells.transpose(0, 1)[None]
