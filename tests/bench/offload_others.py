"""What `tests.bench.offload` compares with: the functions behind the offloading of diffusers' pipelines, on the same modules.

model       accelerate.cpu_offload_with_hook, which `enable_model_cpu_offload` calls for each part
sequential  accelerate.cpu_offload, which `enable_sequential_cpu_offload` calls for each part
group       diffusers.hooks.apply_group_offloading, leaf by leaf, with a stream where there is one
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch

from tests.bench.offload_turn import Stage


def prepare(method: str, modules: dict[str, Any], device: str) -> Callable[[str], None]:
    """Hook the modules up (by the key of their spec); returns what is to be called when a model's work is over."""
    where = torch.device(device)
    if method == "model":
        hooks = {key: _by_part(module, where) for key, module in modules.items()}
        return lambda key: [hook.offload() for hook in hooks[key]] and None
    if method == "sequential":
        from accelerate import cpu_offload

        hooks = {}
        for key, module in modules.items():
            if _is_pipeline(module):
                cpu_offload(module, where, offload_buffers=True)
                hooks[key] = []
            else:  # ImageBind's stems read weights of others, which this way knows nothing of
                hooks[key] = _by_part(module, where)
        return lambda key: [hook.offload() for hook in hooks[key]] and None
    from diffusers.hooks import apply_group_offloading

    stream = {"use_stream": True, "non_blocking": True} if where.type == "cuda" else {}
    known = inspect.signature(apply_group_offloading).parameters
    if stream and "record_stream" in known:
        stream["record_stream"] = True
    for module in modules.values():
        apply_group_offloading(module, where, torch.device("cpu"), "leaf_level", **stream)
    return lambda key: None


PARTS = ("unet", "vae", "vocoder", "causal")
"""What a pipeline hooks up one by one, because each is called by itself."""


def _is_pipeline(module: Any) -> bool:
    return any(hasattr(module, name) for name in PARTS)


def _by_part(module: Any, where: torch.device) -> list[Any]:
    from accelerate import cpu_offload_with_hook

    parts = [getattr(module, name) for name in PARTS if hasattr(module, name)] or [*module.children()]
    return [cpu_offload_with_hook(part, where)[1] for part in parts if any(True for _ in part.parameters())]


def run(method: str, stages: Sequence[Stage], modules: dict[str, Any], device: str) -> None:
    """The whole turn; the modules have been prepared."""
    over = prepare(method, modules, device)
    for stage in stages:
        stage.compute(modules[stage.spec.key], device, stage.passes)
        over(stage.spec.key)
