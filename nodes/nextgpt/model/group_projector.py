"""Grouping of patch tokens into a few concept tokens, after GroupViT (Xu et al., CVPR 2022, arXiv 2202.11094).

Learned group tokens travel with the patches through a few transformer blocks; then every patch is assigned to the one
group it resembles most, and a group becomes the mean of its patches.  Done twice, 256 patches end as 8 tokens, whatever
their number was.  Written from the paper and from measured shapes; names follow the state dict of the original.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nodes.nextgpt.model.transformer import FeedForward, merge_heads, split_heads

# Group sums are divided by (members + 1): an empty group gives zeros instead of a division by nothing.
ASSIGN_EPS = 1.0


class TokenMixer(FeedForward):
    """A feed-forward over the token axis: ``"B N D" -> "B M D"``."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class SelfAttention(nn.Module):
    """Multi-head self-attention with one packed projection without bias: ``"B N D" -> "B N D"``."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (split_heads(part, self.heads) for part in self.qkv(x).chunk(3, dim=-1))
        out: Tensor = self.proj(merge_heads(F.scaled_dot_product_attention(query, key, value)))
        return out


class CrossAttention(nn.Module):
    """Multi-head attention of tokens ``"B M D"`` over patches ``"B N D"``; returns ``"B M D"``."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, patches: Tensor) -> Tensor:
        query = split_heads(self.q_proj(tokens), self.heads)
        key, value = split_heads(self.k_proj(patches), self.heads), split_heads(self.v_proj(patches), self.heads)
        out: Tensor = self.proj(merge_heads(F.scaled_dot_product_attention(query, key, value)))
        return out


class HardAssignment(CrossAttention):
    """Each patch goes to exactly one group; returns the means of the groups, ``"B M D"``.

    The forward pass uses the one-hot choice, the gradient that of the soft-max over groups (straight through).  In
    training mode Gumbel noise makes the choice a sample; in eval mode it is deterministic.  The temperature is 1.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, heads=1)

    def forward(self, tokens: Tensor, patches: Tensor) -> Tensor:
        query, key = self.q_proj(tokens), self.k_proj(patches)
        logits = query @ key.transpose(1, 2) * query.shape[-1] ** -0.5  # B M N
        if self.training:
            # If E is exponential, -log E is Gumbel; the floor keeps a drawn 0 from becoming infinite.
            noise = torch.empty_like(logits).exponential_().clamp_min(torch.finfo(logits.dtype).tiny)
            logits = logits - noise.log()
        soft = logits.softmax(dim=1)
        chosen = torch.zeros_like(soft).scatter_(1, soft.argmax(dim=1, keepdim=True), 1.0)
        weight = chosen + soft - soft.detach()
        weight = weight / (weight.sum(dim=-1, keepdim=True) + ASSIGN_EPS)
        out: Tensor = self.proj(weight @ self.v_proj(patches))
        return out


class EncoderBlock(nn.Module):
    """A pre-norm transformer block, ``"B N D" -> "B N D"``."""

    def __init__(self, width: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = SelfAttention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = FeedForward(width, width * mlp_ratio)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class CrossBlock(nn.Module):
    """Group tokens look at the patches before the assignment: ``"B M D", "B N D" -> "B M D"``, post-norm."""

    def __init__(self, width: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.attn = CrossAttention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = FeedForward(width, width * mlp_ratio)
        self.norm_post = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, patches: Tensor) -> Tensor:
        x = tokens + self.attn(tokens, patches)
        x = x + self.mlp(self.norm2(x))
        out: Tensor = self.norm_post(x)
        return out


class Grouping(nn.Module):
    """Merge patches ``"B N D"`` into the groups that the tokens ``"B M D"`` stand for; returns ``"B M D"``."""

    def __init__(self, width: int, heads: int, mlp_ratio: int, groups: int, mixer_hidden: int) -> None:
        super().__init__()
        self.norm_tokens = nn.LayerNorm(width)
        self.mlp_inter = TokenMixer(groups, mixer_hidden)
        self.norm_post_tokens = nn.LayerNorm(width)
        self.norm_x = nn.LayerNorm(width)
        self.pre_assign_attn = CrossBlock(width, heads, mlp_ratio)
        self.assign = HardAssignment(width)
        self.norm_new_x = nn.LayerNorm(width)
        self.mlp_channels = FeedForward(width, width * mlp_ratio)

    def forward(self, patches: Tensor, tokens: Tensor) -> Tensor:
        patches = self.norm_x(patches)
        tokens = self.norm_post_tokens(self.mlp_inter(self.norm_tokens(tokens)))
        tokens = self.pre_assign_attn(tokens, patches)
        merged = tokens + self.assign(tokens, patches)
        out: Tensor = merged + self.mlp_channels(self.norm_new_x(merged))
        return out


class Stage(nn.Module):
    """Some blocks with ``groups`` learned tokens beside the patches, then the grouping; ``groups=0`` is plain blocks.

    ``previous`` is the number of group tokens of the stage before: this stage's tokens then are a projection of those,
    to which its own, starting from zero, are added.
    """

    def __init__(
        self, width: int, depth: int, heads: int, mlp_ratio: int, *, groups: int, previous: int, mixer_hidden: int
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(EncoderBlock(width, heads, mlp_ratio) for _ in range(depth))
        self.groups = groups
        self.group_token: nn.Parameter | None = None
        self.downsample: Grouping | None = None
        self.group_projector: nn.Sequential | None = None
        if groups:
            self.group_token = nn.Parameter(torch.zeros(1, groups, width))
            if previous:
                mixer = TokenMixer(previous, mixer_hidden, groups)
                self.group_projector = nn.Sequential(nn.LayerNorm(width), mixer)
            else:
                nn.init.trunc_normal_(self.group_token, std=0.02)
            self.downsample = Grouping(width, heads, mlp_ratio, groups, mixer_hidden)

    def forward(self, patches: Tensor, previous: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """``"B N D"`` and the tokens of the stage before -> (``"B groups D"``, this stage's tokens)."""
        if self.group_token is None or self.downsample is None:
            for block in self.blocks:
                patches = block(patches)
            return patches, None
        tokens = self.group_token.expand(patches.shape[0], -1, -1)
        if self.group_projector is not None:
            tokens = tokens + self.group_projector(previous)
        x = torch.cat([patches, tokens], dim=1)
        for block in self.blocks:
            x = block(x)
        patches, tokens = x[:, : -self.groups], x[:, -self.groups :]
        return self.downsample(patches, tokens), tokens
