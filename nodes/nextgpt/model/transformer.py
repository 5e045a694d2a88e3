"""The pre-norm transformer block that all ImageBind trunks share.

Parameter names are those of `torch.nn.MultiheadAttention`, because the published weights carry them; the arithmetic
goes through `scaled_dot_product_attention`, which picks a fused kernel where there is one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# ImageBind's trunks and heads use 1e-6; only its stems keep torch's default of 1e-5.
TRUNK_NORM_EPS = 1e-6


class Attention(nn.Module):
    """Multi-head self-attention with an optional learned extra key and value ("bias_kv").

    The extra pair is appended after the projection, so every query may attend to one position which is in no input;
    the audio, depth, thermal and IMU trunks have it.
    """

    def __init__(self, width: int, heads: int, *, bias_kv: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        self.bias_k: nn.Parameter | None = None
        self.bias_v: nn.Parameter | None = None
        if bias_kv:
            self.bias_k = nn.Parameter(torch.empty(1, 1, width))
            self.bias_v = nn.Parameter(torch.empty(1, 1, width))
            nn.init.normal_(self.bias_k, std=0.02)
            nn.init.normal_(self.bias_v, std=0.02)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, x: Tensor, *, causal: bool = False) -> Tensor:
        """``"B N D" -> "B N D"``; with ``causal`` a position sees itself and what came before."""
        batch = x.shape[0]
        query, key, value = F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        if self.bias_k is not None and self.bias_v is not None:
            key = torch.cat([key, self.bias_k.expand(batch, -1, -1)], dim=1)
            value = torch.cat([value, self.bias_v.expand(batch, -1, -1)], dim=1)
        mixed = F.scaled_dot_product_attention(
            split_heads(query, self.heads),
            split_heads(key, self.heads),
            split_heads(value, self.heads),
            is_causal=causal,
        )
        out: Tensor = self.out_proj(merge_heads(mixed))
        return out


class FeedForward(nn.Module):
    """Two linear layers with the exact (erf) GELU between: ``"... I" -> "... O"``."""

    def __init__(self, width: int, hidden: int, out: int | None = None) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width if out is None else out)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class Block(nn.Module):
    """``x += attention(norm(x)); x += feed_forward(norm(x))``, ``"B N D" -> "B N D"``.

    The originals' drop-path is left out: the encoder is frozen in every stage of NExT-GPT, where it is the identity.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: int, *, bias_kv: bool) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(width, eps=TRUNK_NORM_EPS)
        self.attn = Attention(width, heads, bias_kv=bias_kv)
        self.norm_2 = nn.LayerNorm(width, eps=TRUNK_NORM_EPS)
        self.mlp = FeedForward(width, width * mlp_ratio)

    def forward(self, x: Tensor, *, causal: bool = False) -> Tensor:
        x = x + self.attn(self.norm_1(x), causal=causal)
        out: Tensor = x + self.mlp(self.norm_2(x))
        return out


class Trunk(nn.Module):
    """A stack of blocks, with a LayerNorm in front where the modality has one (vision).

    The text trunk is causal.  Its mask is not stored: the attention call builds it, so a trunk made on the meta device
    holds nothing that a checkpoint does not fill.
    """

    def __init__(
        self, width: int, blocks: int, heads: int, mlp_ratio: int, *, bias_kv: bool, pre_norm: bool, causal: bool
    ) -> None:
        super().__init__()
        self.causal = causal
        # A list of at most one module, because the published key is "pre_transformer_layer.0".
        norms = [nn.LayerNorm(width, eps=TRUNK_NORM_EPS)] if pre_norm else []
        self.pre_transformer_layer = nn.Sequential(*norms)
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio, bias_kv=bias_kv) for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        """``"B N D" -> "B N D"``."""
        x = self.pre_transformer_layer(x)
        for block in self.blocks:
            x = block(x, causal=self.causal)
        return x


def split_heads(x: Tensor, heads: int) -> Tensor:
    """``"B N (h d)" -> "B h N d"``."""
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """``"B h N d" -> "B N (h d)"``."""
    return x.transpose(1, 2).flatten(2)
