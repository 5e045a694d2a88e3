"""How a language model reads the next token: with a cache that grows, or with one that has its room from the start.

A step of a 7B model is some 700 kernels, which take less time than Python needs to launch them. With a cache whose tensors
keep their place a step is the same every time, so that on CUDA it is captured once and replayed.

Shapes: H is the hidden size, V the vocabulary, m a number of new positions.
"""

import inspect
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from custom_kernels.step_graph import CudaRecorder, Recorder, StepGraphs

from .language import LanguageModel


class Reader(Protocol):
    def read(self, embeds: Tensor) -> tuple[Tensor, Tensor]:
        """New positions `[1, m, H]`: logits `[V]` after the last of them (float32, CPU), and its last-layer state `[1, H]`."""


def reader(model: LanguageModel, length: int, static: bool | None = None, recorder: Recorder | None = None) -> Reader:
    """For an answer of at most `length` positions, the prompt included.

    static: whether the cache has its room from the start. None: where that is faster, which is on CUDA, for a model
    whose weights are all there and whose layers attend to all positions.
    """
    wanted = model.device.type == "cuda" and _is_resident(model) if static is None else static
    if wanted:
        cache = _fixed_cache(model, length)
        if cache is not None:
            return FixedReader(model, cache, recorder)
    return GrowingReader(model)


class GrowingReader:
    """Every step makes the cache longer."""

    def __init__(self, model: LanguageModel) -> None:
        self._model, self._cache = model, None

    def read(self, embeds: Tensor) -> tuple[Tensor, Tensor]:
        # States of every layer only for single tokens: of a long prompt they would be hundreds of megabytes.
        wants_states = self._cache is not None
        out = self._model.causal(
            inputs_embeds=embeds,
            past_key_values=self._cache,
            use_cache=True,
            output_hidden_states=wants_states,
            **self._model.last_logits_only,
        )
        self._cache = out.past_key_values
        state = out.hidden_states[-1][0, -1:] if wants_states else embeds[0, :0]
        return out.logits[0, -1].float().cpu(), state


class FixedReader:
    """The cache has its room from the start; single tokens are one launch each, where there is CUDA."""

    def __init__(self, model: LanguageModel, cache: Any, recorder: Recorder | None = None) -> None:
        self._model, self._cache, self._read = model, cache, 0
        self._graphs: StepGraphs | None = None
        if recorder is not None or model.device.type == "cuda":
            self._graphs = StepGraphs(recorder or CudaRecorder())
        known = inspect.signature(type(model.causal).forward).parameters
        self._told = [name for name in ("position_ids", "cache_position") if name in known]

    @property
    def replays(self) -> int:
        return 0 if self._graphs is None else self._graphs.replays

    def read(self, embeds: Tensor) -> tuple[Tensor, Tensor]:
        count = embeds.shape[1]
        places = torch.arange(self._read, self._read + count).to(embeds.device, non_blocking=True)
        self._read += count
        inputs = {"embeds": embeds, "places": places}
        if self._graphs is None or count > 1:
            packed = self._compute(inputs)
        else:
            packed = self._graphs.run(lambda: "token", inputs, self._compute)
        logits, state = packed.split([packed.shape[0] - self._model.hidden_size, self._model.hidden_size])
        return logits.cpu(), state[None].to(embeds.dtype)

    def _compute(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Logits and state in one tensor of float32, which holds every half-precision value exactly."""
        places = inputs["places"]
        told = {"position_ids": places[None], "cache_position": places}
        single = places.shape[0] == 1
        out = self._model.causal(
            inputs_embeds=inputs["embeds"],
            past_key_values=self._cache,
            use_cache=True,
            output_hidden_states=single,
            **{name: told[name] for name in self._told},
            **self._model.last_logits_only,
        )
        logits = out.logits[0, -1].float()
        state = out.hidden_states[-1][0, -1].float() if single else logits.new_zeros(self._model.hidden_size)
        return torch.cat([logits, state])


def _fixed_cache(model: LanguageModel, length: int) -> Any:
    """None where layers do not attend to all positions, or the architecture keeps something else."""
    from transformers import StaticCache

    try:
        cache = StaticCache(config=model.causal.config, max_cache_len=length)
    except (AttributeError, KeyError, NotImplementedError, TypeError, ValueError):
        return None
    whole = all(type(layer).__name__ == "StaticLayer" for layer in cache.layers)
    return cache if whole and getattr(model.causal, "_can_compile_fullgraph", False) else None


def _is_resident(model: nn.Module) -> bool:
    """Whether all weights are there and nobody brings them as layers are called."""
    for module in model.modules():
        own = [*module._parameters.values(), *module._buffers.values()]
        if own and (module._forward_pre_hooks or module._forward_hooks):
            return False
        if any(tensor is not None and type(tensor) not in (Tensor, nn.Parameter) for tensor in own):
            return False
    return True
