"""The two attention layers of a query transformer (BLIP-2, arXiv 2301.12597), post-norm as in BERT.

NExT-GPT's variant has no feed-forward and no word or position embeddings, so these two are all of it.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from nodes.nextgpt.model.transformer import merge_heads, split_heads

BERT_NORM_EPS = 1e-12


class CrossLayer(nn.Module):
    """``norm(queries + attention(queries, memory))``: ``"B Q D", "B n M" -> "B Q D"``; widths D and M may differ."""

    def __init__(self, width: int, heads: int, memory_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(memory_width, width)
        self.value = nn.Linear(memory_width, width)
        self.out = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=BERT_NORM_EPS)

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        mixed = F.scaled_dot_product_attention(
            split_heads(self.query(queries), self.heads),
            split_heads(self.key(memory), self.heads),
            split_heads(self.value(memory), self.heads),
        )
        out: Tensor = self.norm(queries + self.out(merge_heads(mixed)))
        return out


class SelfLayer(CrossLayer):
    """The same with the queries as their own memory: ``"B Q D" -> "B Q D"``."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads, width)

    def forward(self, queries: Tensor, memory: Tensor | None = None) -> Tensor:
        return super().forward(queries, queries if memory is None else memory)
