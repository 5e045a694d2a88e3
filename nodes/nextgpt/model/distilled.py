"""Denoisers into which guidance was distilled: they are told how much of it is wanted, and answer in one pass.

Source: latent consistency models, arXiv 2310.04378, section 4.2.
"""

from typing import Any

import torch
from torch import Tensor

SCALE = 1000.0
"""Guidance is told as timesteps are."""


def told_guidance(unet: Any, guidance: float, condition: Tensor) -> tuple[dict[str, Tensor], float]:
    """What `unet` is told of `guidance` beside the condition "B ..." and the timestep, and what is left of it for the loop.

    Of an ordinary denoiser nothing and all of it; of a distilled one an embedding "B width", and 1: no negative is computed.
    """
    width = getattr(unet.config, "time_cond_proj_dim", None)
    if width is None:
        return {}, guidance
    from diffusers.models.embeddings import get_timestep_embedding

    amount = torch.full((condition.shape[0],), guidance - 1, device=condition.device)
    embedding = get_timestep_embedding(amount * SCALE, width, downscale_freq_shift=1)
    return {"timestep_cond": embedding.to(condition.dtype)}, 1.0
