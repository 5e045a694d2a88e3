"""Drawing tokens with a generator of one's own: transformers' `generate` knows only the one of the whole process."""

from typing import Any

import torch
from torch import Tensor


def drawing(generator: torch.Generator, top_k: int = 0, temperature: float = 1.0) -> Any:
    """Processors for `generate(do_sample=False)` that make its greedy choice a draw from the distribution.

    The largest of log-probabilities with Gumbel noise is a sample of them (Gumbel-max, arXiv 1611.01144 section 2). The
    draw stays last whatever a model's `generate` appends: guidance, which MusicGen appends, has to see the model's own
    scores, not ones that were filtered and noised apart.
    """
    from transformers import LogitsProcessor, LogitsProcessorList

    class Draw(LogitsProcessor):
        def __call__(self, ids: Any, scores: Any) -> Any:
            scores = scores / temperature
            if 0 < top_k < scores.shape[-1]:
                least = scores.topk(top_k, dim=-1).values[..., -1:]
                scores = scores.masked_fill(scores < least, -float("inf"))
            return scores + gumbel(scores.shape, generator).to(scores)

    class DrawnLast(LogitsProcessorList):
        def append(self, processor: Any) -> None:
            self.insert(len(self) - 1, processor)

    return DrawnLast([Draw()])


def gumbel(shape: Any, generator: torch.Generator) -> Tensor:
    """Gumbel noise of `shape`, on the CPU."""
    uniform = torch.rand(shape, generator=generator, dtype=torch.float64).clamp_min(1e-20)
    return -torch.log(-torch.log(uniform))
