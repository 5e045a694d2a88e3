"""How weights lie in memory: convolutions in channels-last, the projections of a self attention behind one another.

The parameters stay the same objects with the same values; only their memory is another. The three projections become views
of one buffer. What lay in one piece of memory with other weights is there twice then, as long as those are (`bytes`). Whoever
lays down the weights of a UNet can lay them so from the beginning (`strides_of`), and nothing has to move.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from custom_kernels.forwards import is_plain

PADDING = 512
"""Bytes of a piece of memory beyond its only tensor."""
FORMATS = {nn.Conv2d: torch.channels_last, nn.Conv3d: torch.channels_last_3d}


def strides_of(unet: Any) -> dict[str, tuple[int, ...]]:
    """How the weights of the convolutions lie once they are laid out, by their names in `unet`. Its tensors may be meta."""
    return {
        f"{name}.weight": torch.empty(module.weight.shape, device="meta", memory_format=form).stride()
        for name, module in unet.named_modules()
        if (form := FORMATS.get(type(module))) is not None
    }


class Layout:
    """What was laid out anew, and how it was before."""

    def __init__(self) -> None:
        self._strides: list[tuple[Tensor, tuple[int, ...]]] = []
        self._views: list[Tensor] = []
        self.bytes = 0
        """Of memory that this takes beside that in which the weights lay."""
        self.packed: dict[Any, Tensor] = {}
        """attention -> weights "3C C" of its projections of queries, keys and values."""

    def lay_out(self, modules: Iterable[Any]) -> None:
        for module in modules:
            form = FORMATS.get(type(module))
            if form is not None:
                self._turn(module.weight, form)
            elif type(module).__name__ == "Attention":
                self._pack(module)

    def restore(self) -> None:
        for weight in self._views:
            weight.data = weight.data.clone(memory_format=torch.contiguous_format)
        for weight, stride in self._strides:
            weight.data = torch.empty_strided(weight.shape, stride, dtype=weight.dtype, device=weight.device).copy_(
                weight.data
            )
        self._views.clear()
        self._strides.clear()
        self.packed.clear()
        self.bytes = 0

    def _turn(self, weight: Tensor, form: torch.memory_format) -> None:
        if not weight.is_contiguous(memory_format=form):
            self._strides.append((weight, weight.stride()))
            self.bytes += _twice(weight)
            weight.data = weight.data.contiguous(memory_format=form)

    def _pack(self, attention: Any) -> None:
        layers = [attention.to_q, attention.to_k, attention.to_v]
        weights = [layer.weight for layer in layers if is_plain(layer, nn.Linear) and layer.bias is None]
        if len(weights) < 3 or len({(w.shape, w.dtype, w.device, w.is_contiguous()) for w in weights}) > 1:
            return
        buffer = joined(weights)
        if buffer is None:
            buffer = torch.cat([weight.data for weight in weights])
            self.bytes += sum(map(_twice, weights))
            for weight, piece in zip(weights, buffer.chunk(3), strict=True):
                weight.data = piece
                self._views.append(weight)
        self.packed[attention] = buffer


def _twice(weight: Tensor) -> int:
    """Bytes of a weight whose memory stays when it moves, because others lie there, too."""
    own = weight.numel() * weight.element_size()
    return own if weight.untyped_storage().nbytes() > own + PADDING else 0


def joined(weights: list[Tensor]) -> Tensor | None:
    """The buffer in which equally large tensors lie behind one another; None if they do not."""
    first, size = weights[0].detach(), weights[0].numel() * weights[0].element_size()
    memory = first.untyped_storage().data_ptr()
    for index, weight in enumerate(weights):
        if weight.data_ptr() != first.data_ptr() + index * size or weight.untyped_storage().data_ptr() != memory:
            return None
    return first.as_strided((len(weights) * first.shape[0], *first.shape[1:]), first.stride())
