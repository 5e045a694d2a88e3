"""Steps of a denoiser for `tests.bench.unets`: one, a run of them, and how long they take."""

from __future__ import annotations

import gc
import itertools
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from custom_kernels import timing
from tests.bench.unet_models import Model, rounded
from tests.bench.unet_rows import STEPS, Row


def latents_of(model: Model, count: int, device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator(device).manual_seed(2)
    return [rounded(torch.randn(model.latent, generator=generator, device=device)).to(dtype) for _ in range(count)]


def single(unet: Any, model: Model, told: dict[str, Any], device: torch.device, dtype: torch.dtype) -> Tensor:
    """One step."""
    [latent] = latents_of(model, 1, device, dtype)
    return unet(latent, timesteps()[7], **told).sample.float()


def timesteps() -> Tensor:
    """On the host, as our loop has them."""
    return torch.linspace(981, 1, 50).long()


def run(unet: Any, model: Model, told: dict[str, Any], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Latents after 20 steps of DDIM with guidance, from noise that is the same every time."""
    from nodes.nextgpt.model.sampling import denoise

    shape = (1, *model.latent[1:])
    words = next(tensor for tensor in told.values() if tensor is not None)
    name = "class_labels" if model.config.modality == "audio" else "encoder_hidden_states"
    beside = {key: value for key, value in told.items() if key != name}
    return denoise(
        lambda state, timestep, both: unet(state, timestep, **{**beside, name: both}).sample,
        shape,
        words[1:],
        words[:1],
        model.config.schedule,
        steps=STEPS if device.type == "cuda" else 2,
        guidance=7.5,
        seed=3,
    ).float()


def time_steps(
    row: Row, unet: Any, model: Model, told: dict[str, Any], device: torch.device, dtype: torch.dtype
) -> None:
    cuda = device.type == "cuda"
    count = 50 if cuda else 3
    inputs = latents_of(model, 4, device, dtype)
    steps = list(timesteps()[:count])
    for index in range(3):
        unet(inputs[index], steps[index], **told)
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    taken: list[float] = []
    medians = []
    for _ in range(2):
        found = spans([lambda i=i: unet(inputs[i % 4], steps[i], **told) for i in range(count)], cuda)  # type: ignore[misc]
        medians.append(statistics.median(found))
        taken += found
    row.medians, row.fastest, row.slowest = tuple(medians), min(taken), max(taken)
    if cuda:
        row.peak_allocated, row.peak_reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()


def spans(calls: list[Callable[[], Any]], cuda: bool) -> list[float]:
    """Seconds of each call of a run, the first two left out."""
    if not cuda:
        marks = [time.perf_counter()]
        for call in calls:
            call()
            marks.append(time.perf_counter())
        return [after - before for before, after in itertools.pairwise(marks)]
    events = [torch.cuda.Event(enable_timing=True) for _ in range(len(calls) + 1)]
    events[0].record()
    for call, event in zip(calls, events[1:], strict=True):
        call()
        event.record()
    torch.cuda.synchronize()
    return [one.elapsed_time(other) / 1e3 for one, other in itertools.pairwise(events)][2:]


def floor_of(unet: Any, model: Model, told: dict[str, Any], device: torch.device, dtype: torch.dtype) -> float:
    """Seconds below which no step can be: its arithmetic at the measured rate of products, or its weights read once."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counted:
        single(unet, model, told, device, dtype)
    roof = timing.ceilings(device)
    weights = sum(parameter.numel() * parameter.element_size() for parameter in unet.parameters())
    return max(counted.get_total_flops() / roof.flops, weights / roof.bytes)


@contextmanager
def poisoned() -> Iterator[None]:
    """Memory that nobody wrote to holds NaN."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(False)


def tidy(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
