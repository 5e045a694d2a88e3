"""The time embedding of a UNet for many steps at once, as its `forward` makes it for one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Embed = Callable[[Tensor, int], Tensor | None]


def makers(unet: Any) -> list[Any]:
    """The modules that make the embedding, adapters included."""
    parts = [getattr(unet, name, None) for name in ("time_embedding", "class_embedding", "add_embedding")]
    return [part for part in parts if part is not None]


def embedder(unet: Any, sample: Tensor, given: Mapping[str, Any]) -> tuple[dict[str, Any], Embed | None]:
    """What the embedding is made of beside the timestep, and the function: timesteps "T*B", T, to "T*B E".

    None for UNets whose embedding is made of more than is known here.
    """
    config = unet.config
    if given.get("timestep_cond") is not None or getattr(config, "time_cond_proj_dim", None) is not None:
        return {}, None
    if type(unet).__name__ == "UNet3DConditionModel":
        return {}, lambda steps, _: unet.time_embedding(unet.time_proj(steps.to(sample.device)).to(unet.dtype), None)
    added = given.get("added_cond_kwargs") or {}
    if config.addition_embed_type not in (None, "text_time"):
        return {}, None
    if not all(isinstance(tensor, Tensor) for tensor in added.values()):
        return {}, None
    labels = given.get("class_labels")

    def embed(steps: Tensor, count: int) -> Tensor:
        like = sample.new_empty(len(steps), 0)
        embedding = unet.time_embedding(unet.get_time_embed(sample=like, timestep=steps.to(sample.device)), None)
        classes = unet.get_class_embed(sample=like, class_labels=None if labels is None else _repeated(labels, count))
        if classes is not None:
            embedding = (
                torch.cat([embedding, classes], dim=-1) if config.class_embeddings_concat else embedding + classes
            )
        more = unet.get_aug_embed(
            emb=embedding,
            encoder_hidden_states=None,
            added_cond_kwargs={name: _repeated(tensor, count) for name, tensor in added.items()},
        )
        embedding = embedding if more is None else embedding + more
        return embedding if unet.time_embed_act is None else unet.time_embed_act(embedding)

    beside = {"added": list(added.values())}
    if labels is not None:
        beside["labels"] = [labels]
    return beside, embed


def _repeated(tensor: Tensor, count: int) -> Tensor:
    return tensor.repeat(count, *(1,) * (tensor.ndim - 1))
