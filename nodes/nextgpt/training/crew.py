"""A crew: several processes that train one model, each on a device of its own, by way of `accelerate`.

    torchrun --nproc_per_node 2 -m web.cli train RECIPE          or by `accelerate launch`

Each takes its own share of the world (its rank is in every seed) and gradients are averaged after each backward pass;
a stage needs to know nothing of it. Weights start alike because they follow from the seed or from files.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from graph_engine.errors import RequestError

if TYPE_CHECKING:
    from nodes.nextgpt.training.parts import Parts


class Crew:
    """One process of the crew; `leads` is the one that writes."""

    def __init__(self, accelerator: Any = None) -> None:
        self._accelerator = accelerator
        self.rank: int = 0 if accelerator is None else accelerator.process_index
        self.size: int = 1 if accelerator is None else accelerator.num_processes

    @classmethod
    def join(cls, parts: Parts) -> Crew:
        """The crew that torchrun or `accelerate launch` started, or nobody but oneself.

        Moves `parts` to the process's device. Raises RequestError where accelerate is not installed.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            return cls()
        try:
            from accelerate import Accelerator
        except ImportError as error:
            raise RequestError(
                "several processes are to train one model, and accelerate is not installed.",
                remedy='Install it: pip install "anyloom[train]". Or start one process, without torchrun.',
                code="no_accelerate",
            ) from error
        accelerator = Accelerator(cpu=parts.device == "cpu")
        parts.device = str(accelerator.device)
        return cls(accelerator)

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def share(self, weights: Sequence[Tensor]) -> None:
        """Every gradient becomes the mean of the crew's, in one message.

        A part that nobody's samples used has none still; one that was used by some has a gradient for all, or the crew
        would wait for each other for ever.
        """
        if self.size < 2:
            return
        used = weights[0].new_tensor([float(weight.grad is not None) for weight in weights])
        flat = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
        message = torch.cat([used, *(gradient.flatten().to(used) for gradient in flat)])
        mean = self._accelerator.reduce(message, reduction="mean")
        anyone, rest = mean[: len(weights)].tolist(), mean[len(weights) :]
        for weight, share, gradient in zip(weights, anyone, rest.split([w.numel() for w in weights]), strict=True):
            if share:
                weight.grad = gradient.view_as(weight).to(weight)

    def anyone(self, wants: bool, like: Tensor) -> bool:
        """Whether anyone wants it; all have to ask at the same place. like: a tensor on this process's device.

        Each has a clock of its own: one that left by it would have the others wait for its gradients for ever.
        """
        if self.size < 2:
            return wants
        return bool(self._accelerator.reduce(like.new_tensor([float(wants)]), reduction="sum").item())

    def wait(self) -> None:
        if self._accelerator is not None:
            self._accelerator.wait_for_everyone()
