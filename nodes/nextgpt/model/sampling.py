"""The denoise loop that all three decoders share: classifier-free guidance around any diffusers scheduler.

Noise is drawn on the CPU from the seed, so the same seed starts from the same noise on every device.

Sources: DDPM arXiv 2006.11239, DDIM arXiv 2010.02502, classifier-free guidance arXiv 2207.12598, editing from a
partly noised latent (SDEdit) arXiv 2108.01073.
"""

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .diffusion_config import TrainingSchedule
from .pace import Pace
from .schedulers import make_scheduler, set_steps
from .unfit import Unfit

# predict(scaled latent, timestep, condition) -> the denoiser's output, of the latent's shape
Predict = Callable[[Tensor, Tensor, Tensor], Tensor]
# on_begin(passes in all), before the first
OnBegin = Callable[[int], None]
# on_step(steps done, steps in all, latent after the step)
OnStep = Callable[[int, int, Tensor], None]
# amend(latent after the step, scheduler, the first noise, next timestep or nothing) -> the latent to go on with
Amend = Callable[[Tensor, Any, Tensor, Tensor], Tensor]


class Cancelled(Exception):
    """The caller asked to stop; there is no result, a half denoised latent is none."""


def guide(negative: Tensor, positive: Tensor, guidance: float) -> Tensor:
    """Classifier-free guidance: move from the negative prediction through the positive one."""
    return negative + guidance * (positive - negative)


def match_negative(condition: Tensor, negative: Tensor | None) -> Tensor:
    """`negative` in the condition's batch, device and dtype; None means zeros. Raises Unfit for another shape."""
    if negative is None:
        return torch.zeros_like(condition)
    if negative.shape[1:] != condition.shape[1:] or negative.shape[0] not in (1, condition.shape[0]):
        raise Unfit(
            f"the negative condition {list(negative.shape)} does not fit the condition {list(condition.shape)}; "
            "make it with the text encoder of the same decoder",
            "negative",
        )
    return negative.to(condition).expand_as(condition)


def frames_of(latent: Tensor) -> Tensor:
    """A film "B C F h w" as its frames "B*F C h w"; anything else as it is."""
    return latent.transpose(1, 2).flatten(0, 1) if latent.ndim == 5 else latent


def film_of(frames: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Back from `frames_of`."""
    if len(shape) != 5:
        return frames
    return frames.unflatten(0, (shape[0], shape[2])).transpose(1, 2)


def check_latent(latent: Tensor, *sizes: int | None) -> Tensor:
    """`latent`, once its axes have these sizes; None is any. Raises Unfit: it was made for another decoder."""
    if latent.ndim != len(sizes) or any(
        wanted not in (None, given) for wanted, given in zip(sizes, latent.shape, strict=True)
    ):
        layout = " x ".join("any" if size is None else str(size) for size in sizes)
        raise Unfit(
            f"the latent is {' x '.join(map(str, latent.shape))}, this decoder takes {layout}; it belongs to another "
            "decoder, so make it with this one",
            "latent",
        )
    return latent


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
    on_begin: OnBegin | None = None,
    on_step: OnStep | None = None,
    cancelled: Callable[[], bool] | None = None,
    amend: Amend | None = None,
    spacing: str = "default",
) -> Tensor:
    """From noise of `shape` to a clean latent on the condition's device and in its dtype.

    With `latent` (clean, of `shape`) the loop starts from that latent noised to `strength` (0 to 1] and runs only the
    last `steps * strength` steps. A single step goes all the way from the noise. `guidance <= 1` computes no negative at
    all. `cancelled()` is asked before every step and raises Cancelled. `spacing` places the noise levels (see
    `schedulers`). Raises Unfit for numbers outside their range, a latent of another shape, or a spacing that the scheduler
    does not offer.

    The frames of a film "B C F h w" are stepped one by one and, in an edit, noised one by one: the noise then lies in
    memory frame after frame, as in diffusers' pipelines, so that a seed means the same here and there.
    """
    if steps < 1:
        raise Unfit(f"steps must be at least 1, is {steps}", "steps")
    if not 0 < strength <= 1:
        raise Unfit(f"strength must be above 0 and at most 1, is {strength}", "strength")
    if latent is not None and tuple(latent.shape) != shape:
        raise Unfit(
            f"the latent is {list(latent.shape)}, the requested size needs {list(shape)}; leave the size at 0 to keep the "
            "latent's own",
            "latent",
        )
    generator = torch.Generator().manual_seed(seed)
    if steps == 1 and (latent is None or strength == 1):
        # Most samplers' only step would be the last one, which takes next to nothing of the noise away.
        schedule = replace(schedule, timestep_spacing="trailing")
    sampler = make_scheduler(scheduler, schedule, spacing)
    # On the host: a scheduler that looks a timestep up would wait for a device at every step.
    set_steps(sampler, steps, torch.device("cpu"))
    pace = Pace(condition.device)
    if latent is None:
        noise = torch.randn(shape, generator=generator).to(condition)
    else:
        by_frame = (shape[0] * shape[2], shape[1], *shape[3:]) if len(shape) == 5 else shape
        noise = film_of(torch.randn(by_frame, generator=generator), shape).to(condition)
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
    if on_begin is not None:
        on_begin(len(timesteps))
    for index, timestep in enumerate(timesteps):
        if cancelled is not None and cancelled():
            raise Cancelled(f"cancelled after {index} of {len(timesteps)} denoising steps")
        model_input = state if negative is None else torch.cat([state, state])
        output = predict(sampler.scale_model_input(model_input, timestep), timestep, both)
        if negative is not None:
            opposed, wanted = output.chunk(2)
            output = guide(opposed, wanted, guidance)
        stepped = sampler.step(frames_of(output), timestep, frames_of(state), **extra).prev_sample
        state = film_of(stepped, shape)
        if amend is not None:
            state = amend(state, sampler, noise, timesteps[index + 1 : index + 2])
        pace.step()
        if on_step is not None:
            on_step(index + 1, len(timesteps), state)
    return state
