"""The denoise loop of NExT-GPT's decoders around the denoisers of SD 1.x, 2.x and SDXL, with inpainting and ControlNets.

Sources: SDXL arXiv 2307.01952 (what its denoiser is told beside the text); inpainting by keeping the known part at the
noise level of each step: RePaint arXiv 2201.09865, algorithm 1 without its resampling.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nodes.diffusion.model.control import Control, Controls
from nodes.nextgpt.model.diffusion_config import TrainingSchedule
from nodes.nextgpt.model.distilled import told_guidance
from nodes.nextgpt.model.sampling import denoise


@dataclass(frozen=True)
class Sizes:
    """What SDXL is told beside the text: summaries "B width" and sizes "B 6", for both conditions."""

    pooled: Tensor
    negative_pooled: Tensor | None
    ids: Tensor
    negative_ids: Tensor

    def arguments(self, both: bool) -> dict[str, Tensor]:
        if not both:
            return {"text_embeds": self.pooled, "time_ids": self.ids}
        opposed = torch.zeros_like(self.pooled) if self.negative_pooled is None else self.negative_pooled
        return {
            "text_embeds": torch.cat([opposed, self.pooled]),
            "time_ids": torch.cat([self.negative_ids, self.ids]),
        }


@dataclass(frozen=True)
class Inpainting:
    """known: the latent "B 4 h w"; mask: "B 1 h w", 1 where something new goes; kept: latent of the picture without it."""

    known: Tensor
    mask: Tensor
    kept: Tensor | None

    def amend(self, state: Tensor, sampler: Any, noise: Tensor, upcoming: Tensor) -> Tensor:
        """The known part again, at the noise level of the step that comes next."""
        known = sampler.add_noise(self.known, noise, upcoming) if len(upcoming) else self.known
        return self.mask * state + (1 - self.mask) * known


def sample(
    unet: Any,
    condition: Tensor,
    negative: Tensor | None,
    shape: tuple[int, ...],
    schedule: TrainingSchedule,
    *,
    guidance: float,
    sizes: Sizes | None = None,
    inpainting: Inpainting | None = None,
    controls: tuple[Control, ...] = (),
    **options: Any,
) -> Tensor:
    """A clean latent of `shape`; options as of `nodes.nextgpt.model.sampling.denoise`, which also says the errors."""
    has_mask_input = unet.config.in_channels > shape[1]
    added: dict[bool, dict[str, Tensor] | None] = {}
    told, guidance = told_guidance(unet, guidance, condition)
    helpers = Controls(controls)

    def predict(state: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        both = text.shape[0] > condition.shape[0]
        if both not in added:  # the same tensors at every step: kernels keep what is made of them
            added[both] = None if sizes is None else sizes.arguments(both)
        helped = helpers.arguments(state, timestep, text, added[both], both)
        if has_mask_input:
            assert inpainting is not None and inpainting.kept is not None
            beside = torch.cat([inpainting.mask, inpainting.kept], dim=1)
            state = torch.cat([state, torch.cat([beside, beside]) if both else beside], dim=1)
        return unet(state, timestep, encoder_hidden_states=text, added_cond_kwargs=added[both], **told, **helped).sample

    amend = inpainting.amend if inpainting is not None and not has_mask_input else None
    options |= {"amend": amend, "guidance": guidance, "on_begin": helpers.begin}
    return denoise(predict, shape, condition, negative, schedule, **options)
