"""Tiles: a picture or its latent goes through an autoencoder in overlapping pieces, which are blended linearly.

What is computed at once is no larger than a tile, however large the whole is. It is not the same bit for bit: the norms and
the attention of an autoencoder see a tile only.
"""

from collections.abc import Callable

import torch
from torch import Tensor

OVERLAP = 4
"""Neighbours have at least this part of a tile's side in common: a quarter."""


def in_tiles(
    apply: Callable[[Tensor], Tensor],
    whole: Tensor,
    side: int,
    units: tuple[int, int],
    on_tile: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """`apply` of `whole` "B C h w" in tiles, float32 on the CPU.

    side: of a tile in cells, at least 2. units: numbers along a side that a cell has before and after `apply`; (1, 8) decodes,
    (8, 1) encodes. on_tile: called before each tile with how many are done, and at the end; may raise to end it. What one
    tile covers is `apply(whole)` itself.
    """
    before, after = units
    height, width = whole.shape[-2] // before, whole.shape[-1] // before
    if height <= side and width <= side:
        return apply(whole).float().cpu()
    rows, columns = _spans(height, side), _spans(width, side)
    tall, wide = (_shares(spans, size, after) for spans, size in ((rows, height), (columns, width)))
    total, done, found = len(rows) * len(columns), 0, None
    for (top, bottom), down in zip(rows, tall, strict=True):
        for (left, right), across in zip(columns, wide, strict=True):
            on_tile(done, total)
            piece = whole[..., top * before : bottom * before, left * before : right * before]
            made = apply(piece).float().cpu()
            if found is None:
                found = made.new_zeros(*made.shape[:-2], height * after, width * after)
            place = found[..., top * after : bottom * after, left * after : right * after]
            place += made * (down[:, None] * across)
            done += 1
    on_tile(done, total)
    assert found is not None
    return found


def _spans(size: int, side: int) -> list[tuple[int, int]]:
    """Beginning and end of each tile along a side, as few as overlap enough, at even distances."""
    if size <= side:
        return [(0, size)]
    overlap = max(1, side // OVERLAP)
    count = -(-(size - overlap) // (side - overlap))
    starts = [round(index * (size - side) / (count - 1)) for index in range(count)]
    return [(start, start + side) for start in starts]


def _shares(spans: list[tuple[int, int]], size: int, unit: int) -> list[Tensor]:
    """What each tile contributes along a side: rising and falling linearly where it meets a neighbour, 1 together."""
    weights = []
    for index, (start, end) in enumerate(spans):
        weight = torch.ones((end - start) * unit)
        if index:
            weight *= _ramp((spans[index - 1][1] - start) * unit, len(weight))
        if index + 1 < len(spans):
            weight *= _ramp((end - spans[index + 1][0]) * unit, len(weight)).flip(0)
        weights.append(weight)
    together = torch.zeros(size * unit)
    for (start, end), weight in zip(spans, weights, strict=True):
        together[start * unit : end * unit] += weight
    return [weight / together[start * unit : end * unit] for (start, end), weight in zip(spans, weights, strict=True)]


def _ramp(overlap: int, length: int) -> Tensor:
    """From above 0 to below 1 over the overlap, 1 after it."""
    return ((torch.arange(length) + 0.5) / overlap).clamp(max=1.0)
