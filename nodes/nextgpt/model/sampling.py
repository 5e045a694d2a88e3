"""The denoise loop that all three decoders share: classifier-free guidance around any diffusers scheduler.

Noise is drawn on the CPU from the seed, so the same seed starts from the same noise on every device.

Sources: DDPM arXiv 2006.11239, DDIM arXiv 2010.02502, classifier-free guidance arXiv 2207.12598, editing from a
partly noised latent (SDEdit) arXiv 2108.01073.
"""

import inspect
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from .diffusion_config import TrainingSchedule

# predict(scaled latent, timestep, condition) -> the denoiser's output, of the latent's shape
Predict = Callable[[Tensor, Tensor, Tensor], Tensor]
# on_step(steps done, steps in all, latent after the step)
OnStep = Callable[[int, int, Tensor], None]
# amend(latent after the step, scheduler, the first noise, next timestep or nothing) -> the latent to go on with
Amend = Callable[[Tensor, Any, Tensor, Tensor], Tensor]

SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False}),
    "ddpm": ("DDPMScheduler", {"clip_sample": False}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True, "set_alpha_to_one": False}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}),
    "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "unipc": ("UniPCMultistepScheduler", {}),
}


class Cancelled(Exception):
    """The caller asked to stop; there is no result, a half denoised latent is none."""


def make_scheduler(name: str, schedule: TrainingSchedule) -> Any:
    """A fresh diffusers scheduler of the training schedule. Raises ValueError for an unknown name."""
    if name not in SCHEDULERS:
        raise ValueError(f"unknown scheduler {name!r}; known are {', '.join(SCHEDULERS)}")
    import diffusers

    class_name, extra = SCHEDULERS[name]
    kind = getattr(diffusers, class_name)
    accepted = inspect.signature(kind.__init__).parameters
    return kind(**{key: value for key, value in {**asdict(schedule), **extra}.items() if key in accepted})


def guide(negative: Tensor, positive: Tensor, guidance: float) -> Tensor:
    """Classifier-free guidance: move from the negative prediction through the positive one."""
    return negative + guidance * (positive - negative)


def match_negative(condition: Tensor, negative: Tensor | None) -> Tensor:
    """`negative` in the condition's batch, device and dtype; None means zeros. Raises ValueError for another shape."""
    if negative is None:
        return torch.zeros_like(condition)
    if negative.shape[1:] != condition.shape[1:] or negative.shape[0] not in (1, condition.shape[0]):
        raise ValueError(
            f"the negative condition {list(negative.shape)} does not fit the condition {list(condition.shape)}"
        )
    return negative.to(condition).expand_as(condition)


@torch.no_grad()
def denoise(
    predict: Predict,
    shape: tuple[int, ...],
    condition: Tensor,
    negative: Tensor | None,
    schedule: TrainingSchedule,
    *,
    steps: int,
    guidance: float,
    seed: int,
    scheduler: str = "ddim",
    latent: Tensor | None = None,
    strength: float = 1.0,
    on_step: OnStep | None = None,
    cancelled: Callable[[], bool] | None = None,
    amend: Amend | None = None,
) -> Tensor:
    """From noise of `shape` to a clean latent on the condition's device and in its dtype.

    With `latent` (clean, of `shape`) the loop starts from that latent noised to `strength` (0 to 1] and runs only the
    last `steps * strength` steps. `guidance <= 1` computes no negative at all. `cancelled()` is asked before every
    step and raises Cancelled. Raises ValueError for numbers outside their range or a latent of another shape.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, is {steps}")
    if not 0 < strength <= 1:
        raise ValueError(f"strength must be above 0 and at most 1, is {strength}")
    if latent is not None and tuple(latent.shape) != shape:
        raise ValueError(f"the latent is {list(latent.shape)}, the requested size needs {list(shape)}")
    generator = torch.Generator().manual_seed(seed)
    sampler = make_scheduler(scheduler, schedule)
    sampler.set_timesteps(steps, device=condition.device)
    noise = torch.randn(shape, generator=generator).to(condition)
    timesteps = sampler.timesteps
    if latent is None:
        state = noise * sampler.init_noise_sigma
    else:
        # A second-order solver visits most steps twice, so its list is longer than `steps`.
        skipped = (steps - max(1, min(int(steps * strength), steps))) * sampler.order
        timesteps = timesteps[skipped:]
        if hasattr(sampler, "set_begin_index"):
            sampler.set_begin_index(skipped)
        state = sampler.add_noise(latent.to(condition), noise, timesteps[:1])
    negative = match_negative(condition, negative) if guidance > 1 else None
    both = condition if negative is None else torch.cat([negative, condition])
    takes_generator = "generator" in inspect.signature(sampler.step).parameters
    extra = {"generator": generator} if takes_generator else {}
    for index, timestep in enumerate(timesteps):
        if cancelled is not None and cancelled():
            raise Cancelled(f"cancelled after {index} of {len(timesteps)} denoising steps")
        model_input = state if negative is None else torch.cat([state, state])
        output = predict(sampler.scale_model_input(model_input, timestep), timestep, both)
        if negative is not None:
            opposed, wanted = output.chunk(2)
            output = guide(opposed, wanted, guidance)
        state = sampler.step(output, timestep, state, **extra).prev_sample
        if amend is not None:
            state = amend(state, sampler, noise, timesteps[index + 1 : index + 2])
        if on_step is not None:
            on_step(index + 1, len(timesteps), state)
    return state


# Rows: latent channels of the SD autoencoder; columns: red, green, blue. Rounded by eye, for previews only.
_PREVIEW_RGB = ((0.30, 0.22, 0.20), (0.18, 0.28, 0.18), (-0.15, 0.18, 0.25), (-0.18, -0.26, -0.45))


def preview_rgb(latent: Tensor) -> Tensor:
    """A cheap uint8 `[h, w, 3]` picture on the CPU of the first item of a latent `[B, C, h, w]` or `[B, C, F, h, w]`.

    Of a film the middle frame; of a latent without four channels (sound) the mean of the channels in grey.
    """
    item = latent[0].detach().float().cpu()
    if item.ndim == 4:
        item = item[:, item.shape[1] // 2]
    if item.shape[0] == len(_PREVIEW_RGB):
        picture = torch.einsum("chw,cr->hwr", item, torch.tensor(_PREVIEW_RGB))
    else:
        picture = item.mean(0)[..., None].expand(-1, -1, 3)
    return ((picture / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
