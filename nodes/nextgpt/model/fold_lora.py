"""Low-rank adapters of linear layers (LoRA, arXiv 2106.09685): told apart from the base, or folded into it.

A layer `X.weight` of shape (out, in) has `X.lora_A.weight` (r, in) and `X.lora_B.weight` (out, r); files of peft put the
adapter's name between, `X.lora_A.default.weight`. What the layer then computes is `(W + B A alpha / r) x`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_ENTRY = re.compile(r"(?P<layer>.+)\.lora_(?P<side>[AB])(?:\.(?P<adapter>[^.]+))?\.weight")


def split_lora(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """`(base, lora)`: every entry is in one of them, under its own key."""
    lora = {key: value for key, value in state.items() if _ENTRY.fullmatch(key)}
    return {key: value for key, value in state.items() if key not in lora}, lora


def lora_rank(state: Mapping[str, Tensor]) -> int:
    """The rank r of the adapters in `state`, 0 if there are none. Raises ValueError for several."""
    ranks = {
        value.shape[0 if match["side"] == "A" else -1]
        for key, value in state.items()
        if (match := _ENTRY.fullmatch(key)) and value.ndim == 2
    }
    if len(ranks) > 1:
        raise ValueError(
            f"the LoRA entries have several ranks, {sorted(ranks)}; give the files of one training, not of several"
        )
    return ranks.pop() if ranks else 0


def fold_lora(
    state: Mapping[str, Tensor], rank: int, alpha: float, dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """`state` without LoRA entries, `B A alpha / rank` added to the weights that had some.

    Computed in float32; folded weights then take `dtype`, or that of the base weight. Nothing else is touched or
    copied. Raises ValueError "what; remedy" for adapters of another rank or shape, halves, several adapters of one
    layer, and adapters of layers that are not there. Works on meta tensors.
    """
    base, lora = split_lora(state)
    found = lora_rank(lora)
    if lora and found != rank:
        raise ValueError(
            f"the LoRA is of rank {found}, this model's of rank {rank}; take the adapter that belongs to this preset, "
            "or write its rank and alpha into an adapter_config.json beside it"
        )
    pairs: dict[str, dict[str, Tensor]] = {}
    for key, value in lora.items():
        match = _ENTRY.fullmatch(key)
        assert match is not None
        sides = pairs.setdefault(match["layer"], {})
        if match["side"] in sides:
            raise ValueError(f"{match['layer']} has several LoRA adapters; give the file of one training")
        sides[match["side"]] = value
    for layer, sides in pairs.items():
        weight = base.get(f"{layer}.weight")
        if weight is None:
            raise ValueError(
                f"the LoRA adapts {layer}, which the base does not have; give the base model that it was trained on"
            )
        if len(sides) != 2:
            raise ValueError(
                f"{layer} has only one half of its LoRA, lora_{next(iter(sides))}; fetch or convert the file again"
            )
        a, b = sides["A"], sides["B"]
        if a.ndim != 2 or b.ndim != 2 or (b.shape[0], a.shape[1]) != tuple(weight.shape):
            raise ValueError(
                f"the LoRA of {layer} is {tuple(b.shape)} x {tuple(a.shape)}, its weight {tuple(weight.shape)}; "
                "give the base model that it was trained on"
            )
        folded = weight.float() + (b.float() @ a.float()) * (alpha / rank)
        base[f"{layer}.weight"] = folded.to(dtype or weight.dtype)
    return base
