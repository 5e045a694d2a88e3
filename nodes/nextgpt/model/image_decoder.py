"""Condition to picture: a Stable Diffusion denoiser and autoencoder driven by our own loop.

Source: latent diffusion, arXiv 2112.10752.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .diffusion_config import DiffusionConfig
from .distilled import told_guidance
from .sampling import Cancelled, OnStep, check_latent, denoise
from .unfit import Unfit


class ImageDecoder(nn.Module):
    """`unet` and `vae` of diffusers under one roof; keys are theirs with the prefix `unet.` or `vae.`.

    Neither has buffers outside its state dict, so a decoder built on meta is complete after
    `load_state_dict(..., assign=True)`.
    """

    def __init__(self, config: DiffusionConfig) -> None:
        from diffusers import AutoencoderKL, UNet2DConditionModel

        if config.modality != "image":
            raise ValueError(f"an image decoder cannot be built from a configuration for {config.modality}")
        super().__init__()
        self.config = config
        self.unet: Any = UNet2DConditionModel(**config.unet)
        self.vae: Any = AutoencoderKL(**config.vae)
        self.eval()

    @classmethod
    def random(cls, config: DiffusionConfig, seed: int) -> "ImageDecoder":
        """Untrained weights that depend on nothing but `config` and `seed`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(config)


def to_condition(decoder: nn.Module, condition: Tensor, width: int) -> Tensor:
    """`[B, rows, width]` on the denoiser's device and in its dtype. Raises ValueError for another width."""
    if condition.ndim != 3 or condition.shape[2] != width:
        raise ValueError(
            f"the condition must be [B, rows, {width}], is {list(condition.shape)}; "
            "the output projector belongs to another decoder"
        )
    return condition.to(next(decoder.parameters()))


def latent_size(config: DiffusionConfig, size: tuple[int, int] | None, port: str = "width") -> tuple[int, int]:
    """Latent cells for a picture of `size` (height, width) pixels. Raises Unfit, blaming `port`, if they do not divide.

    The denoiser itself takes any number of cells; it was trained on multiples of 8.
    """
    height, width = size or config.size
    step = config.vae_factor
    if height < step or width < step or height % step or width % step:
        near = " x ".join(str(max(step, round(side / step) * step)) for side in (width, height))
        raise Unfit(
            f"width and height must be multiples of {step} pixels, are {width} and {height}; the nearest is {near}",
            port,
        )
    return height // step, width // step


def sample(
    decoder: ImageDecoder,
    condition: Tensor,
    negative: Tensor | None = None,
    *,
    steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
    scheduler: str | None = None,
    spacing: str = "default",
    size: tuple[int, int] | None = None,
    latent: Tensor | None = None,
    strength: float = 1.0,
    on_step: OnStep | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Tensor:
    """Condition `[B, 77, width]` to a clean latent `[B, 4, h/8, w/8]`; `size` is (height, width) in pixels.

    None takes the configuration's value. `latent` and `strength` edit an existing latent, whose
    size then counts (see `sampling.denoise`, also for the errors).
    """
    config = decoder.config
    condition = to_condition(decoder, condition, config.condition[1])
    channels = config.unet["in_channels"]
    if latent is not None:
        check_latent(latent, None, channels, None, None)
    cells = (latent.shape[2], latent.shape[3]) if latent is not None and size is None else latent_size(config, size)
    told, guidance = told_guidance(decoder.unet, config.guidance if guidance is None else guidance, condition)
    return denoise(
        lambda state, timestep, text: decoder.unet(state, timestep, encoder_hidden_states=text, **told).sample,
        (condition.shape[0], channels, *cells),
        condition,
        negative,
        config.schedule,
        steps=config.steps if steps is None else steps,
        guidance=guidance,
        seed=seed,
        scheduler=config.scheduler if scheduler is None else scheduler,
        spacing=spacing,
        latent=latent,
        strength=strength,
        on_step=on_step,
        cancelled=cancelled,
    )


@torch.no_grad()
def decode_cells(
    vae: Any, scaling_factor: float, latent: Tensor, batch: int, cancelled: Callable[[], bool] | None
) -> Tensor:
    """Latents `[N, 4, h, w]` to float32 `[N, H, W, 3]` in 0..1, `batch` at a time to bound the working memory."""
    pictures = []
    for part in latent.to(next(vae.parameters())).split(batch):
        if cancelled is not None and cancelled():
            raise Cancelled("cancelled while the latents were being decoded")
        pictures.append((vae.decode(part / scaling_factor).sample.float() / 2 + 0.5).clamp(0, 1))
    return torch.cat(pictures).permute(0, 2, 3, 1).contiguous()


def decode(
    decoder: ImageDecoder, latent: Tensor, *, batch: int = 1, cancelled: Callable[[], bool] | None = None
) -> Tensor:
    """Latent `[B, 4, h, w]` to IMAGE float32 `[B, 8h, 8w, 3]` in 0..1."""
    check_latent(latent, None, decoder.vae.config.latent_channels, None, None)
    return decode_cells(decoder.vae, decoder.vae.config.scaling_factor, latent, batch, cancelled)


@torch.no_grad()
def encode_cells(
    vae: Any, scaling_factor: float, pictures: Tensor, batch: int, cancelled: Callable[[], bool] | None
) -> Tensor:
    """`[N, H, W, 3]` in 0..1 to latents `[N, 4, h, w]` (the mean, no draw), `batch` at a time."""
    latents = []
    for part in pictures.split(batch):
        if cancelled is not None and cancelled():
            raise Cancelled("cancelled while the pictures were being encoded")
        pixels = part.to(next(vae.parameters())).permute(0, 3, 1, 2) * 2 - 1
        latents.append(vae.encode(pixels).latent_dist.mode() * scaling_factor)
    return torch.cat(latents)


def encode(
    decoder: ImageDecoder, image: Tensor, *, batch: int = 1, cancelled: Callable[[], bool] | None = None
) -> Tensor:
    """IMAGE `[B, H, W, 3]` in 0..1 to its latent `[B, 4, H/8, W/8]`: where an edit starts.

    Raises Unfit for sides that do not divide.
    """
    latent_size(decoder.config, (image.shape[1], image.shape[2]), "image")
    return encode_cells(decoder.vae, decoder.vae.config.scaling_factor, image, batch, cancelled)
