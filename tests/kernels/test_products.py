"""`accelerate_unet`: how often each product with weights is computed, and how much memory the weights take."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from custom_kernels.plug import accelerate_unet
from tests.kernels.small_unets import BUILDS, small_unet, walk, words

STEPS = 5
WORDS = 24  # the width of a word: the layers that take it are those of cross attention


def memory(unet: Any, *more: Tensor) -> int:
    """Bytes of all pieces of memory in which parameters and `more` lie, each counted once."""
    tensors = (*unet.parameters(), *more)
    pieces = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors}
    return sum(pieces.values())


@pytest.mark.parametrize("build", BUILDS)
@torch.no_grad()
def test_what_stays_the_same_is_computed_once(build: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and values once per prompt, times once per run, queries, keys and values of self attention in one product."""
    unet, told = small_unet(build), words(build)
    before = memory(unet)
    computed: Counter[tuple[int, int]] = Counter()
    linear = torch.nn.functional.linear

    def counted(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        computed[weight.data_ptr(), weight.shape[0]] += 1
        return linear(x, weight, bias)

    def times(layer: Any, parts: int = 1) -> int:
        return computed[layer.weight.data_ptr(), parts * layer.weight.shape[0]]

    with accelerate_unet(unet, "reference", graph=False) as fast:
        monkeypatch.setattr(torch.nn.functional, "linear", counted)
        walk(unet, build, told, STEPS)
        assert fast.plug is not None and fast.plug.layout.packed
        assert memory(unet, *fast.plug.layout.packed.values()) == before
        blocks = [m for m in unet.modules() if type(m).__name__ == "ResnetBlock2D"]
        attentions = [m for m in unet.modules() if type(m).__name__ == "Attention"]
        crossed = [m for m in attentions if m.to_k.in_features == WORDS]
        assert blocks and attentions and bool(crossed) == (build != "audio")
        assert {times(block.time_emb_proj) for block in blocks} == {1}
        for attention in attentions:
            if attention in crossed:
                assert [times(attention.to_q), times(attention.to_k), times(attention.to_v)] == [STEPS, 1, 1]
            else:
                # Of the weights that lie behind one another, those of the queries come first.
                assert times(attention.to_q, 3) == STEPS
                assert [times(attention.to_q), times(attention.to_k), times(attention.to_v)] == [0, 0, 0]
        # Other words, in a run of other steps: once more.
        walk(unet, build, words(build, seed=3), STEPS)
        assert {times(block.time_emb_proj) for block in blocks} == {2}
        assert all(times(attention.to_k) == 2 for attention in crossed)
    monkeypatch.undo()
    assert memory(unet) == before
