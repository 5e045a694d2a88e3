"""The ledger: which tensors a stage trains, and proof that it touched no other.

A tensor of which only some rows are trained (token embeddings) counts with those rows; the others must stay as they
are. Embeddings are counted like everything else: the "1 %" of NExT-GPT leaves out 262 million of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from graph_engine.errors import ModelError


@dataclass(frozen=True)
class Rows:
    """The rows of a tensor that are trained, from `start` to its end."""

    start: int


@dataclass(frozen=True)
class Ledger:
    """Numbers of parameters of a stage. embeddings: those of `trained` that are rows of token embeddings."""

    trained: int
    total: int
    embeddings: int
    by_part: Mapping[str, int]

    @property
    def share(self) -> float:
        return self.trained / max(1, self.total)

    def to_json(self) -> dict[str, Any]:
        return {
            "trained": self.trained,
            "total": self.total,
            "share": self.share,
            "embeddings": self.embeddings,
            "by_part": dict(self.by_part),
        }


def ledger(modules: Mapping[str, nn.Module], rows: Mapping[str, Rows]) -> Ledger:
    """Of modules by name; a parameter is trained if it wants a gradient. rows: by "module.parameter"."""
    trained = total = embeddings = 0
    by_part: dict[str, int] = {}
    for name, parameter in parameters(modules):
        total += parameter.numel()
        if not parameter.requires_grad:
            continue
        count = parameter.numel()
        if name in rows:
            count = parameter[rows[name].start :].numel()
            embeddings += count
        trained += count
        part = name.partition(".")[0]
        by_part[part] = by_part.get(part, 0) + count
    return Ledger(trained, total, embeddings, by_part)


class Frozen(NamedTuple):
    """Digests of what must not change: of `weights` alone, and of `all` with buffers.

    Buffers are computed when a model is made, so another library or processor may have other last bits in them.
    """

    weights: str
    all: str


def frozen_digest(modules: Mapping[str, nn.Module], rows: Mapping[str, Rows]) -> Frozen:
    """Digests of every bit that must not change: frozen parameters, frozen rows of others, and buffers."""
    digest = hashlib.blake2b(digest_size=16)

    def add(name: str, tensor: Tensor) -> None:
        digest.update(name.encode())
        if not tensor.is_meta:
            digest.update(tensor.detach().contiguous().cpu().flatten().view(torch.uint8).numpy().data)

    for name, parameter in parameters(modules):
        if not parameter.requires_grad:
            add(name, parameter)
        elif name in rows:
            add(name, parameter[: rows[name].start])
    weights = digest.hexdigest()
    for part, module in modules.items():
        for name, buffer in module.named_buffers():
            add(f"{part}.{name}", buffer)
    return Frozen(weights, digest.hexdigest())


def untouched(before: Frozen, after: Frozen, stage: str) -> None:
    """Raises ModelError unless both digests are one."""
    if before != after:
        raise ModelError(
            f"{stage} changed weights that are to stay frozen.",
            remedy="Do not use what it made; report this as a defect, with the recipe.",
            code="frozen_changed",
        )


def parameters(modules: Mapping[str, nn.Module]) -> list[tuple[str, nn.Parameter]]:
    """Parameters of all modules as "module.parameter", each once, also where modules share one."""
    seen: set[int] = set()
    found = []
    for part, module in modules.items():
        for name, parameter in module.named_parameters():
            if id(parameter) not in seen:
                seen.add(id(parameter))
                found.append((f"{part}.{name}", parameter))
    return found
