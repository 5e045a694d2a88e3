"""What stays the same from step to step of a run, and so is computed once: keys and values of the words, and every
block's share of the time embedding, for all steps that are to come.

Nothing has to be announced. The words of two steps are the same when the tensor is the same and nobody wrote to it. The
steps that are to come are read off the timestep: loops take it from a tensor of all timesteps, so it is a view of the
memory that holds the others, and where it lies says which one it is, without asking the device.

Results lie in tensors that keep their place, because a CUDA graph reads from where they were when it was captured; new
words are copied over the old ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from custom_kernels.forwards import layer_bias

MOST_IN_VAIN = 2
"""So often all steps are computed of which only one is used, before it is left alone: somebody makes new tensors each step."""
MOST_STEPS = 256
"""A list of more timesteps is taken for something else."""


class Prompt:
    """Keys and values "M L C" of the words, per attention layer. M is the batch before frames repeat it."""

    def __init__(self) -> None:
        self.generation = 0
        """Rises when tensors move: what was captured before is worth nothing."""
        self._words: Tensor | None = None
        self._seen: Any = None
        self._lines: dict[Any, tuple[Tensor, Tensor]] = {}
        self._on = False

    @property
    def on(self) -> bool:
        return self._on

    def begin(self, words: Tensor | None) -> None:
        """A step with these words is about to be computed; None: keep nothing of it."""
        version = None if words is None else version_of(words)
        self._on = version is not None
        if words is None or version is None:
            return
        layers = list(self._lines)
        seen = (version, tuple(stamp(layer.to_k) + stamp(layer.to_v) for layer in layers))
        if words is self._words and seen == self._seen:
            return
        self._words = words
        for layer in layers:
            self._keep(layer, layer.to_k(words), layer.to_v(words))
        self._seen = (version, tuple(stamp(layer.to_k) + stamp(layer.to_v) for layer in layers))

    def keys_and_values(self, layer: Any, words: Tensor) -> tuple[Tensor, Tensor]:
        """words: as the layer was given them, for films once per frame."""
        if not self._on or self._words is None:
            return layer.to_k(words), layer.to_v(words)
        if layer not in self._lines:
            self._keep(layer, layer.to_k(self._words), layer.to_v(self._words))
            version, stamps = self._seen
            self._seen = (version, (*stamps, stamp(layer.to_k) + stamp(layer.to_v)))
        return self._lines[layer]

    def forget(self) -> None:
        self._words, self._seen, self._on = None, None, False
        self._lines.clear()
        self.generation += 1

    def _keep(self, layer: Any, key: Tensor, value: Tensor) -> None:
        old = self._lines.get(layer)
        if old is not None and old[0].shape == key.shape and old[0].dtype == key.dtype and old[0].device == key.device:
            old[0].copy_(key)
            old[1].copy_(value)
            return
        self._lines[layer] = (key.detach().clone(), value.detach().clone())
        self.generation += 1


class Times:
    """Every residual block's share of the time embedding, "B C" for each step, all of them computed at the first."""

    def __init__(self) -> None:
        self.generation = 0
        self._key: Any = None
        self._held: tuple[Any, ...] = ()
        """Keeps alive what the key names by its place."""
        self._table: Tensor | None = None  # "T everything"
        self._row: Tensor | None = None
        self._lines: dict[Any, Tensor] = {}
        self._on = False
        self._in_vain = 0

    @property
    def on(self) -> bool:
        return self._on

    def begin(
        self,
        timestep: Any,
        batch: int,
        beside: Mapping[str, Any],
        blocks: list[Any],
        makers: list[Any],
        embed: Callable[[Tensor, int], Tensor | None] | None,
    ) -> None:
        """A step is about to be computed.

        beside: what else the embedding is made of. blocks: those that have a share. makers: the modules it comes from.
        embed: timesteps "T*B", T, to embeddings "T*B E"; None: this step is computed without.
        """
        self._on = False
        if embed is None or not blocks:
            return
        found = all_of(timestep)
        if found is None:
            return
        steps, index = found
        others = [tensor for value in beside.values() for tensor in (value if isinstance(value, list) else [value])]
        versions = [version_of(tensor) for tensor in (steps, *others)]
        if None in versions:
            return
        places = tuple((id(tensor), tensor.data_ptr()) for tensor in others)
        layers = [*(layer for block in blocks for layer in (block.time_emb_proj, block.conv1))]
        layers += [layer for maker in makers for layer in maker.modules()]
        stamps = tuple(stamp(layer) for layer in layers)
        key = (steps.data_ptr(), len(steps), tuple(versions), places, batch, stamps)
        if key != self._key:
            same_list = self._key is not None and key[:2] == self._key[:2] and versions[0] == self._key[2][0]
            self._in_vain = self._in_vain + 1 if same_list else 0
            if self._in_vain > MOST_IN_VAIN or not self._compute(steps, batch, blocks, embed):
                return
            self._key, self._held = key, (steps, *others)
        else:
            self._in_vain = 0
        assert self._table is not None and self._row is not None
        self._row.copy_(self._table[index])
        self._on = True

    def line(self, block: Any) -> Tensor | None:
        return self._lines.get(block) if self._on else None

    def forget(self) -> None:
        self._key, self._held, self._table, self._row, self._on = None, (), None, None, False
        self._lines.clear()
        self.generation += 1

    def _compute(
        self, steps: Tensor, batch: int, blocks: list[Any], embed: Callable[[Tensor, int], Tensor | None]
    ) -> bool:
        count = len(steps)
        embedding = embed(steps.repeat_interleave(batch), count)
        if embedding is None:
            return False
        active = torch.nn.functional.silu(embedding)
        parts = []
        for block in blocks:
            share = block.time_emb_proj(embedding if block.skip_time_act else active)
            bias = layer_bias(block.conv1) if block.time_embedding_norm == "default" else None
            parts.append((share if bias is None else share + bias).reshape(count, -1))
        table = torch.cat(parts, dim=1)
        widths = [part.shape[1] for part in parts]
        row = self._row
        if row is None or row.shape != table.shape[1:] or row.dtype != table.dtype or row.device != table.device:
            self._row = torch.empty_like(table[0])
            self.generation += 1
        assert self._row is not None
        self._table = table
        self._lines = {
            block: piece.reshape(batch, -1) for block, piece in zip(blocks, self._row.split(widths), strict=True)
        }
        return True


def all_of(timestep: Any) -> tuple[Tensor, int] | None:
    """The tensor of all timesteps that this one is a view of, and which one it is; None if it stands alone."""
    if not isinstance(timestep, Tensor) or timestep.numel() != 1 or timestep.device.type == "meta":
        return None
    memory = timestep.untyped_storage()
    count, rest = divmod(memory.nbytes(), timestep.element_size())
    if rest or not 1 < count <= MOST_STEPS:
        return None
    return timestep.as_strided((count,), (1,), 0), int(timestep.storage_offset())


def version_of(tensor: Tensor) -> int | None:
    """How often somebody wrote to it; None for tensors that do not count."""
    return None if tensor.is_inference() else tensor._version


def stamp(layer: Any) -> tuple[Any, ...]:
    """What has to stay as it is for results of a layer to be the same: its weights, and what peft adds to them."""
    if not hasattr(layer, "base_layer"):
        return (id(layer), *(_written(p) for p in layer._parameters.values()))
    return (
        id(layer),
        *(_written(p) for p in layer.parameters()),
        tuple(sorted(layer.scaling.items())),
        tuple(layer.active_adapters),
        layer.disable_adapters,
        tuple(layer.merged_adapters),
    )


def _written(tensor: Tensor | None) -> Any:
    if tensor is None:
        return None
    return (tensor.data_ptr(), None if tensor.is_inference() else tensor._version)
