"""What `tests.bench.offload` compares with: the functions behind the offloading of diffusers' pipelines, on the same modules.

model       accelerate.cpu_offload_with_hook, which `enable_model_cpu_offload` calls for each part
sequential  accelerate.cpu_offload, which `enable_sequential_cpu_offload` calls for each part
group       diffusers.hooks.apply_group_offloading, leaf by leaf, with a stream where there is one
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from tests.bench.offload_turn import Stage, forget_words


class Prepared:
    """Modules that are hooked up, by the key of their spec; `before` and `after` go around the work of each."""

    def __init__(self, method: str, modules: dict[str, Any], device: str) -> None:
        self.modules, self.device = modules, torch.device(device)
        self._by_model: dict[str, list[Any]] = {}
        """What has to be sent away when a model's work is over."""
        self._last: Any = None
        """The part that leaves when the next one is called, as in a pipeline."""
        self._moved = {key for key, module in modules.items() if not _parts(module)}
        """Not called as modules but by methods of their own (ImageBind): moved as a whole, as `model` does with its parts."""
        for key, module in modules.items():
            for part in _parts(module):
                self._hook(method, key, part)

    def _hook(self, method: str, key: str, part: Any) -> None:
        if method == "model":
            from accelerate import cpu_offload_with_hook

            self._last = cpu_offload_with_hook(part, self.device, prev_module_hook=self._last)[1]
            self._by_model.setdefault(key, []).append(self._last)
        elif method == "sequential":
            from accelerate import cpu_offload

            cpu_offload(part, self.device, offload_buffers=True)
        else:
            from diffusers.hooks import apply_group_offloading

            stream: dict[str, Any] = {}
            if self.device.type == "cuda":
                stream = {"use_stream": True, "non_blocking": True, "record_stream": True}
            apply_group_offloading(part, self.device, torch.device("cpu"), "leaf_level", **stream)

    def before(self, key: str) -> None:
        if key in self._moved:
            self.modules[key].to(self.device)

    def after(self, key: str) -> None:
        for hook in self._by_model.get(key, ()):
            hook.offload()
        if key in self._moved:
            self.modules[key].to("cpu")


def _parts(module: Any) -> list[Any]:
    """What a pipeline hooks up one by one, because each is called by itself."""
    parts = [getattr(module, name) for name in ("unet", "vae", "vocoder", "causal") if hasattr(module, name)]
    return [part for part in parts if any(True for _ in part.parameters())]


def run(prepared: Prepared, stages: Sequence[Stage], passes: int | None = None) -> None:
    """The whole turn. passes: of each stage, no more than these. A model whose next stage follows stays."""
    for number, stage in enumerate(stages):
        key = stage.spec.key
        prepared.before(key)
        stage.compute(
            prepared.modules[key],
            str(prepared.device),
            stage.passes if passes is None else min(passes, stage.passes),
        )
        if number + 1 == len(stages) or stages[number + 1].spec.key != key:
            prepared.after(key)
        forget_words(stages, number)
