"""The optimiser of a plan: AdamW for everything, or Muon for the matrices of hidden layers and AdamW for the rest.

Muon moves a matrix by its momentum with all singular values brought near 1, so that rare directions learn as fast as
frequent ones. Its steps are scaled to the size that AdamW's have, so one learning rate fits both.

Sources: AdamW arXiv 1711.05101; Muon, Jordan et al. 2024 (kellerjordan.github.io/posts/muon); its scale, arXiv 2502.16982.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nodes.nextgpt.training.ledger import parameters
from nodes.nextgpt.training.plan import Plan
from nodes.nextgpt.training.precision import is_bfloat16_fast
from nodes.nextgpt.training.stage import Stage

MOMENTUM = 0.95
_ITERATIONS = 5
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_EDGES = ("conv_in", "conv_out", "conv_pre", "conv_post", "lm_head")
"""First and last layers face data and not features; they stay with AdamW, as Muon's author advises."""


class Muon(torch.optim.AdamW):
    """AdamW whose groups with `muon` set are moved by Muon; what these keep is `exp_avg`, the momentum."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group["muon"]]
        super().step()
        self.param_groups = groups
        for group in groups:
            if group["muon"]:
                for weights in _alike(weight for weight in group["params"] if weight.grad is not None):
                    self._move(weights, group["lr"], group["weight_decay"])

    def _move(self, weights: list[Tensor], rate: float, decay: float) -> None:
        """Weights of one shape at once, or of one shape and its transpose: each is too small to be worth calls of its own."""
        for weight in weights:
            if "exp_avg" not in self.state[weight]:
                self.state[weight]["exp_avg"] = torch.zeros_like(weight)
        momenta = [self.state[weight]["exp_avg"] for weight in weights]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        ahead = orthogonal(torch.stack([_lying(one) for one in torch._foreach_lerp(gradients, momenta, MOMENTUM)]))
        # Tall ones get memory of their own: with other strides than the weights' they would be added one by one.
        tall = ahead.mT.contiguous() if any(len(weight) != ahead.shape[1] for weight in weights) else ahead
        directions = [
            (wide if len(weight) == len(wide) else turned).view_as(weight)
            for wide, turned, weight in zip(ahead, tall, weights, strict=True)
        ]
        torch._foreach_mul_(weights, 1 - rate * decay)
        torch._foreach_add_(weights, directions, alpha=-rate * 0.2 * ahead.shape[-1] ** 0.5)


def _lying(weight: Tensor) -> Tensor:
    """The weight as a matrix that is no taller than it is wide."""
    matrix = weight.flatten(1)
    return matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix


def _alike(weights: Iterable[Tensor], most: int = 16) -> Iterator[list[Tensor]]:
    """Weights by their shape lying, at most so many together, so that their copies stay small."""
    found: dict[torch.Size, list[Tensor]] = {}
    for weight in weights:
        found.setdefault(_lying(weight).shape, []).append(weight)
    for alike in found.values():
        yield from (alike[start : start + most] for start in range(0, len(alike), most))


def orthogonal(matrices: Tensor) -> Tensor:
    """Matrices "B m n" with the same singular vectors whose singular values are all near 1 (0.7 to 1.2), by iteration."""
    a, b, c = _COEFFICIENTS
    x = matrices.bfloat16() if is_bfloat16_fast(matrices.device.type) else matrices.float()
    if upright := matrices.shape[-2] > matrices.shape[-1]:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(_ITERATIONS):
        # a x + (b g + c g g) x with g = x x', in three calls: small matrices take as long as it takes to ask for them.
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if upright else x).to(matrices.dtype)


def optimiser(plan: Plan, stage: Stage, weights: Mapping[str, Tensor]) -> torch.optim.AdamW:
    """For the trained weights by "part.name"; each group has `scale`, a factor on the learning rate.

    No decay on rows of embeddings (it would move the frozen ones), biases and norms.
    """
    hidden = _hidden(stage) if plan.optimiser == "muon" else set()
    groups: dict[tuple[float, float, bool], list[Tensor]] = {}
    for key, tensor in weights.items():
        scale = next((rate for start, rate in stage.rates.items() if f"{key}.".startswith(f"{start}.")), 1.0)
        decay = 0.0 if key in stage.rows or tensor.ndim < 2 else plan.weight_decay
        groups.setdefault((scale, decay, key in hidden and key not in stage.rows), []).append(tensor)
    kind = Muon if plan.optimiser == "muon" else torch.optim.AdamW
    return kind(
        [
            {"params": found, "scale": scale, "weight_decay": decay, "muon": muon}
            for (scale, decay, muon), found in groups.items()
        ],
        lr=plan.learning_rate,
        betas=(0.9, 0.95),
        # One call for all tensors: what torch does of itself on an accelerator only, so that both go one way.
        foreach=True,
    )


def _hidden(stage: Stage) -> set[str]:
    """ "part.name" of the weights of linear and convolutional layers but the first and last."""
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d)
    names = {id(tensor): key for key, tensor in parameters(stage.modules)}
    found = set()
    for module in stage.modules.values():
        for path, layer in module.named_modules():
            if isinstance(layer, layers) and path.rpartition(".")[2] not in _EDGES and id(layer.weight) in names:
                found.add(names[id(layer.weight)])
    return found
