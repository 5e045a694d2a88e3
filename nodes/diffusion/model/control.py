"""ControlNets at work (arXiv 2302.05543): what they add to a denoiser's skips and middle, step by step."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Control:
    """One ControlNet. picture: "B 3 H W" in 0..1, B being 1 or that of the latents, in the net's dtype; start, end: shares
    of the steps between which it acts."""

    net: Any
    picture: Tensor
    strength: float
    start: float
    end: float

    def acts(self, step: int, steps: int) -> bool:
        """A step that lies only in part between start and end is left alone, as diffusers does."""
        return self.strength != 0 and self.start <= step / steps and (step + 1) / steps <= self.end

    def residuals(
        self, state: Tensor, timestep: Tensor, text: Tensor, added: Mapping[str, Tensor] | None, both: bool
    ) -> list[Tensor]:
        """What is added to each skip and, last, to the middle. both: `state` has the negative's half before the other."""
        # One that says something of the picture as a whole is heard by the condition alone.
        only_wanted = both and self.net.config.global_pool_conditions
        if only_wanted:
            state, text = state.chunk(2)[1], text.chunk(2)[1]
            added = None if added is None else {name: tensor.chunk(2)[1] for name, tensor in added.items()}
        picture = self.picture
        if both and not only_wanted and len(picture) > 1:
            picture = torch.cat([picture, picture])
        dtype = picture.dtype
        down, middle = self.net(
            state.to(dtype),
            timestep,
            encoder_hidden_states=text.to(dtype),
            controlnet_cond=picture,
            conditioning_scale=self.strength,
            added_cond_kwargs=None if added is None else {name: tensor.to(dtype) for name, tensor in added.items()},
            return_dict=False,
        )
        found = [tensor.to(state.dtype) for tensor in (*down, middle)]
        return [torch.cat([torch.zeros_like(tensor), tensor]) for tensor in found] if only_wanted else found


class Controls:
    """Several together: what they add is summed up. Counts the passes of one loop."""

    def __init__(self, controls: tuple[Control, ...] = ()) -> None:
        self._controls = controls
        self._step = self._steps = 0

    def begin(self, steps: int) -> None:
        self._step, self._steps = 0, steps

    def arguments(
        self, state: Tensor, timestep: Tensor, text: Tensor, added: Mapping[str, Tensor] | None, both: bool
    ) -> dict[str, Any]:
        """For the denoiser's next pass; none where no ControlNet acts, so that this pass is as without them."""
        step, self._step = self._step, self._step + 1
        total: list[Tensor] = []
        for control in self._controls:
            if control.acts(step, self._steps):
                found = control.residuals(state, timestep, text, added, both)
                total = [one + other for one, other in zip(total, found, strict=True)] if total else found
        if not total:
            return {}
        *down, middle = total
        return {"down_block_additional_residuals": tuple(down), "mid_block_additional_residual": middle}
