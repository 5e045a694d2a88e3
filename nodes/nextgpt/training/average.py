"""A moving average of weights: what is saved is steadier than what the optimiser holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


class Average:
    """`decay` rises with the steps to its value ((1 + n) / (10 + n)), so that the start is soon forgotten."""

    def __init__(self, tensors: Mapping[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.shadow = {name: tensor.detach().clone() for name, tensor in tensors.items()}

    @torch.no_grad()
    def update(self, tensors: Mapping[str, Tensor], step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        # One call for all: tensor by tensor an accelerator would wait for its orders.
        torch._foreach_lerp_(
            list(self.shadow.values()), [tensors[name].detach() for name in self.shadow], weight=1 - decay
        )

    @contextmanager
    def in_place(self, tensors: Mapping[str, Tensor]) -> Iterator[None]:
        """The average where the weights are, as long as this lasts."""
        kept = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        _copy(self.shadow, tensors)
        try:
            yield
        finally:
            _copy(kept, tensors)


@torch.no_grad()
def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    for name, tensor in source.items():
        target[name].copy_(tensor)
