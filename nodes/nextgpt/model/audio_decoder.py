"""Condition to sound: a denoiser over mel-spectrogram latents, its autoencoder, and a HiFi-GAN vocoder.

The condition is one vector, added to the time embedding, not attended to. A latent row is 4 mel frames, a mel frame
10 ms.

Sources: AudioLDM arXiv 2301.12503, HiFi-GAN arXiv 2010.05646.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from .diffusion_config import DiffusionConfig
from .mel import training_mel
from .sampling import Cancelled, OnStep, check_latent, denoise
from .unfit import Unfit


class AudioDecoder(nn.Module):
    """`unet`, `vae` and `vocoder`; keys are those of diffusers and transformers so prefixed. No loose buffers."""

    def __init__(self, config: DiffusionConfig) -> None:
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

        if config.modality != "audio" or config.vocoder is None:
            raise ValueError(f"an audio decoder cannot be built from a configuration for {config.modality}")
        super().__init__()
        self.config = config
        self.unet: Any = UNet2DConditionModel(**config.unet)
        self.vae: Any = AutoencoderKL(**config.vae)
        self.vocoder: Any = SpeechT5HifiGan(SpeechT5HifiGanConfig(**config.vocoder))
        self.eval()

    @classmethod
    def random(cls, config: DiffusionConfig, seed: int) -> "AudioDecoder":
        """Untrained weights that depend on nothing but `config` and `seed`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(config)

    @property
    def hop(self) -> int:
        """Samples per mel frame: 160, that is 10 ms at 16 kHz."""
        return math.prod(self.vocoder.config.upsample_rates)

    @property
    def bands(self) -> int:
        """Latent cells over the height of the mel spectrogram: 16."""
        return int(self.vocoder.config.model_in_dim // self.config.vae_factor)


def latent_rows(decoder: AudioDecoder, seconds: float) -> int:
    """Latent rows that cover `seconds`: mel frames rounded up to whole cells of the autoencoder.

    Raises Unfit for a length that is not positive.
    """
    if not seconds > 0:
        raise Unfit(f"a sound needs a positive length, not {seconds} s", "seconds")
    mel_frames = math.ceil(round(seconds * decoder.config.sample_rate) / decoder.hop)
    return math.ceil(mel_frames / decoder.config.vae_factor)


def sample(
    decoder: AudioDecoder,
    condition: Tensor,
    negative: Tensor | None = None,
    *,
    steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
    scheduler: str | None = None,
    spacing: str = "default",
    normalise: bool = True,
    seconds: float | None = None,
    latent: Tensor | None = None,
    strength: float = 1.0,
    on_step: OnStep | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Tensor:
    """Condition `[B, 512]` (or `[B, 1, 512]`) to a clean latent `[B, 8, T, 16]`, T = 25 per second rounded up.

    normalise: bring conditions to unit length, as those had with which the denoiser was trained (a negative of zeros
    stays zero). The original NExT-GPT hands the projector's vector on as it is: `normalise=False`.

    None takes the configuration's value. `latent` and `strength` edit an existing sound, whose length then counts (see
    `sampling.denoise`, also for the errors).
    """
    config = decoder.config
    condition = _vector(decoder, condition, normalise)
    length = config.seconds if seconds is None else seconds
    channels, bands = config.unet["in_channels"], decoder.bands
    if latent is not None:
        check_latent(latent, None, channels, None, bands)
    rows = latent.shape[2] if latent is not None and seconds is None else latent_rows(decoder, length)
    return denoise(
        lambda state, timestep, vector: (
            decoder.unet(state, timestep, encoder_hidden_states=None, class_labels=vector).sample
        ),
        (condition.shape[0], channels, rows, bands),
        condition,
        None if negative is None else _vector(decoder, negative, normalise),
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


def _vector(decoder: AudioDecoder, vector: Tensor, normalise: bool) -> Tensor:
    width = decoder.config.condition[0]
    if vector.ndim == 3 and vector.shape[1] == 1:
        vector = vector[:, 0]
    if vector.ndim != 2 or vector.shape[1] != width:
        raise ValueError(
            f"the condition must be [B, {width}], is {list(vector.shape)}; "
            "the output projector belongs to another decoder"
        )
    vector = normalize(vector.float(), dim=-1) if normalise else vector
    return vector.to(next(decoder.parameters()))


@torch.no_grad()
def decode(
    decoder: AudioDecoder,
    latent: Tensor,
    *,
    seconds: float | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Tensor:
    """Latent `[B, 8, T, 16]` to a waveform float32 `[B, 1, S]` in -1..1 at 16 kHz.

    S is exactly `round(seconds * 16000)`; None keeps all of the latent (T * 640 samples). Raises Unfit if the
    latent is shorter than `seconds`.
    """
    check_latent(latent, None, decoder.vae.config.latent_channels, None, decoder.bands)
    rate, rows = decoder.config.sample_rate, latent.shape[2]
    available = rows * decoder.config.vae_factor * decoder.hop
    wanted = available if seconds is None else round(seconds * rate)
    if wanted > available:
        raise Unfit(f"the latent holds {available / rate:g} s of sound, {seconds:g} s were asked for", "seconds")
    if cancelled is not None and cancelled():
        raise Cancelled("cancelled before the latent was decoded")
    cells = latent.to(next(decoder.vae.parameters())) / decoder.vae.config.scaling_factor
    spectrogram = decoder.vae.decode(cells).sample[:, 0]
    waveform = decoder.vocoder(spectrogram.to(next(decoder.vocoder.parameters())))
    # The vocoder's transposed convolutions give a few samples more than frames x hop.
    return waveform[:, None, :wanted].float().clamp(-1, 1)


@torch.no_grad()
def encode(decoder: AudioDecoder, waveform: Tensor) -> Tensor:
    """Waveform `[B, S]` at 16 kHz to its latent `[B, 8, T, 16]` (the mean, no draw), T = 25 per second rounded up.

    Silence fills the last row. The sound is brought to the loudness the decoder was trained with (see `mel`).
    """
    rows = latent_rows(decoder, waveform.shape[-1] / decoder.config.sample_rate)
    samples = rows * decoder.config.vae_factor * decoder.hop
    bands = decoder.vocoder.config.model_in_dim
    mel = training_mel(waveform, samples, bands, decoder.hop, decoder.config.sample_rate)
    cells = decoder.vae.encode(mel[:, None].to(next(decoder.vae.parameters()))).latent_dist.mode()
    return cells * decoder.vae.config.scaling_factor
