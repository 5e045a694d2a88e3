"""Which samplers there are and how each may space its noise levels: diffusers' schedulers by the names of the field.

A sampler says how one step is taken, a spacing at which noise levels the steps stop.

Sources: DDPM arXiv 2006.11239, DDIM 2010.02502, PNDM 2202.09778, Euler, Heun and Karras spacing 2206.00364, DPM-Solver++
2211.01095, UniPC 2302.04867, LCM 2310.04378, beta spacing 2407.12173.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from .diffusion_config import TrainingSchedule
from .unfit import Unfit

SCHEDULERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "ddim": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False}),
    "ddpm": ("DDPMScheduler", {"clip_sample": False}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True, "set_alpha_to_one": False}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "lcm": ("LCMScheduler", {}),
}
"""name -> diffusers' class and what it is told beside the training schedule"""

SPACINGS: Mapping[str, str] = {
    "default": "",
    "karras": "use_karras_sigmas",
    "exponential": "use_exponential_sigmas",
    "beta": "use_beta_sigmas",
}
"""name -> the argument by which a class offers it"""

ALIASES: Mapping[str, tuple[str, str]] = {"dpmpp_2m_karras": ("dpmpp_2m", "karras")}
"""Names of older workflows -> sampler and spacing"""


def make_scheduler(name: str, schedule: TrainingSchedule, spacing: str = "default") -> Any:
    """A fresh diffusers scheduler of the training schedule.

    Raises Unfit for an unknown name, and for a spacing that the sampler does not offer; it names those that do.
    """
    if name in ALIASES:
        name, implied = ALIASES[name]
        spacing = implied if spacing == "default" else spacing
    if name not in SCHEDULERS:
        raise Unfit(f"unknown scheduler {name!r}; known are {', '.join(SCHEDULERS)}", "scheduler")
    if spacing not in SPACINGS:
        raise Unfit(f"unknown spacing {spacing!r}; known are {', '.join(SPACINGS)}", "spacing")
    if spacing not in spacings_of(name):
        able = [other for other in SCHEDULERS if spacing in spacings_of(other)]
        raise Unfit(
            f"the scheduler {name} has no {spacing} spacing; take one of {', '.join(able)}, or the spacing "
            f"{' or '.join(spacings_of(name))}",
            "spacing",
        )
    options = {**schedule.to_json(), **SCHEDULERS[name][1]}
    if flag := SPACINGS[spacing]:
        options[flag] = True
    accepted = _arguments(name)
    return _class(name)(**{key: value for key, value in options.items() if key in accepted})


def spacings_of(name: str) -> tuple[str, ...]:
    """The spacings that the class behind a sampler offers."""
    accepted = _arguments(name)
    return tuple(spacing for spacing, flag in SPACINGS.items() if not flag or flag in accepted)


def set_steps(scheduler: Any, steps: int, device: Any) -> None:
    """Choose the timesteps of a run. Raises Unfit for a number of steps that the scheduler cannot make.

    A latent consistency model is trained for some steps of its teacher and can take no more than those.
    """
    most = getattr(scheduler.config, "original_inference_steps", None) or scheduler.config.num_train_timesteps
    if steps > most:
        kind = type(scheduler).__name__
        raise Unfit(f"{kind} takes at most {most} steps, {steps} were asked for; lower steps", "steps")
    scheduler.set_timesteps(steps, device=device)


def _class(name: str) -> Any:
    import diffusers

    return getattr(diffusers, SCHEDULERS[name][0])


def _arguments(name: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(_class(name).__init__).parameters
