"""The denoising loss: what a decoder's denoiser says of a noised latent, against what its training taught it to say.

Noise is added by the training schedule of the decoder (DDPM), never by a sampler's, which would be another process; the
target follows the prediction type: the noise, the clean latent, or the velocity.

Sources: DDPM arXiv 2006.11239, v-prediction 2202.00512, min-SNR weighting 2303.09556.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from nodes.nextgpt.model.diffusion_config import TrainingSchedule
from nodes.nextgpt.training.upload import sent

GAMMA = 5.0
NOISIEST = 0.15
"""Share of the timesteps. Only in their noise nothing is left of the latent but what the condition tells: whether a thing
grows or shrinks can be seen in what was noised less, and so a denoiser learns it from one sample in fifteen."""


@lru_cache(maxsize=16)
def alphas(schedule: TrainingSchedule, device: torch.device | str = "cpu") -> Tensor:
    """The share of the signal's power that is left at each timestep, "T", float32. Kept: not to be written to."""
    count = schedule.num_train_timesteps
    if schedule.beta_schedule == "scaled_linear":
        betas = torch.linspace(schedule.beta_start**0.5, schedule.beta_end**0.5, count, dtype=torch.float64).square()
    elif schedule.beta_schedule == "linear":
        betas = torch.linspace(schedule.beta_start, schedule.beta_end, count, dtype=torch.float64)
    else:
        raise ValueError(f"the beta schedule {schedule.beta_schedule!r} is neither linear nor scaled_linear")
    return torch.cumprod(1 - betas, 0).float().to(device)


def noised(clean: Tensor, noise: Tensor, kept: Tensor) -> Tensor:
    """sqrt(a) x + sqrt(1 - a) e; kept: a, "B"."""
    a = _wide(kept, clean)
    return a.sqrt() * clean + (1 - a).sqrt() * noise


def target(clean: Tensor, noise: Tensor, kept: Tensor, prediction: str) -> Tensor:
    """What the denoiser has to say. Raises ValueError for a prediction type that does not exist."""
    if prediction == "epsilon":
        return noise
    if prediction == "sample":
        return clean
    if prediction == "v_prediction":
        a = _wide(kept, clean)
        return a.sqrt() * noise - (1 - a).sqrt() * clean
    raise ValueError(f"a denoiser predicts epsilon, sample or v_prediction, not {prediction!r}")


def weight(kept: Tensor, prediction: str, gamma: float = GAMMA) -> Tensor:
    """min-SNR weight "B": min(SNR, gamma) by what a unit of this prediction's error means for the clean latent."""
    ratio = kept / (1 - kept)
    least = ratio.clamp(max=gamma)
    return least / {"epsilon": ratio, "v_prediction": ratio + 1, "sample": torch.ones_like(ratio)}[prediction]


def denoising_loss(
    decoder: Any,
    modality: str,
    clean: Tensor,
    condition: Tensor,
    *,
    gamma: float = GAMMA,
    importance: Tensor | None = None,
    noisiest: float = 0.0,
) -> Tensor:
    """Mean weighted squared error over the batch; clean "B C ..." are latents, condition "B rows width" ("B width" or
    "B 1 width" for audio, which is brought to unit length as it is in sampling). importance: what each value of a latent
    counts, as `clean` or so that it spreads over it. gamma: of min-SNR weights; 0 leaves them out. noisiest: share of the
    batch at one of the `NOISIEST` timesteps."""
    schedule = decoder.config.schedule
    table = alphas(schedule, clean.device)
    steps = sent(timesteps(len(clean), len(table), noisiest), clean.device)
    noise = torch.randn_like(clean)
    kept = table[steps]
    said = predict(decoder, modality, noised(clean, noise, kept), steps, condition)
    wanted = target(clean, noise, kept, schedule.prediction_type)
    error = (said.float() - wanted).square()
    if importance is not None:
        error = error * importance
    error = error.flatten(1).mean(1)
    return (error * weight(kept, schedule.prediction_type, gamma)).mean() if gamma else error.mean()


def timesteps(count: int, total: int, noisiest: float) -> Tensor:
    """Of each sample "B": any of them alike, or for a share one of the noisiest."""
    any_of_them = torch.randint(0, total, (count,))
    if not noisiest:
        return any_of_them
    late = torch.randint(total - int(NOISIEST * total), total, (count,))
    return torch.where(torch.rand(count) < noisiest, late, any_of_them)


def predict(decoder: Any, modality: str, latent: Tensor, steps: Tensor, condition: Tensor) -> Tensor:
    """The denoiser's own output."""
    if modality == "audio":
        vector = condition[:, 0] if condition.ndim == 3 else condition
        vector = torch.nn.functional.normalize(vector.float(), dim=-1)
        said: Tensor = decoder.unet(latent, steps, encoder_hidden_states=None, class_labels=vector).sample
        return said
    said = decoder.unet(latent, steps, encoder_hidden_states=condition).sample
    return said


def _wide(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))
