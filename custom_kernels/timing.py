"""How long calls take on a device: captured in a graph, on inputs that no cache holds, medians, the ceilings beside them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

EXPONENTIALS_PER_CLOCK = 16  # of a multiprocessor, compute capability 8.0 to 9.0 (CUDA programming guide, arithmetic)
ASSUMED_CLOCK_HZ = 1.755e9  # where torch does not tell the clock


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: the median of each repeat, the fastest and the slowest sample of all."""

    medians: tuple[float, ...]
    fastest: float
    slowest: float
    graphed: bool  # False: launched one by one, so that the host's time is in it where it is longer

    @property
    def seconds(self) -> float:
        """The better of the repeats, which should agree."""
        return min(self.medians)


def time_calls(
    call: Callable[[int], Any], inputs: int, device: torch.device, repeats: int = 2, seconds: float = 0.1
) -> Timing:
    """Time `call(i)`, which computes on the i-th of `inputs` sets of inputs.

    On CUDA all calls are captured in one graph and the graph is replayed, so the launches of the host are left out; what
    cannot be captured is launched in a row between two events. On a CPU each call is timed by the clock. `seconds` is spent
    per repeat, at least on five samples.
    """
    if device.type != "cuda":
        return _on_host(call, inputs, repeats, seconds)
    with torch.cuda.device(device):
        return _on_cuda(call, inputs, repeats, seconds)


def _on_cuda(call: Callable[[int], Any], inputs: int, repeats: int, seconds: float) -> Timing:
    def all_calls() -> None:
        for i in range(inputs):
            call(i)

    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # compiles kernels and makes workspaces, which a capture must not
        call(0)
        call(inputs - 1)
    torch.cuda.current_stream().wait_stream(aside)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    run: Callable[[], Any] = graph.replay
    try:
        with torch.cuda.graph(graph):
            all_calls()
    except RuntimeError:
        run = all_calls
        torch.cuda.synchronize()
    run()
    medians, samples = [], []
    for _ in range(repeats):
        taken: list[float] = []
        began = time.perf_counter()
        while len(taken) < 5 or time.perf_counter() - began < seconds:
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            run()
            end.record()
            end.synchronize()
            taken.append(start.elapsed_time(end) / 1e3 / inputs)
        medians.append(statistics.median(taken))
        samples += taken
    return Timing(tuple(medians), min(samples), max(samples), graphed=run is not all_calls)


def _on_host(call: Callable[[int], Any], inputs: int, repeats: int, seconds: float) -> Timing:
    medians, samples = [], []
    for _ in range(repeats):
        taken: list[float] = []
        began = time.perf_counter()
        while not taken or (len(taken) < 5 and time.perf_counter() - began < seconds):
            start = time.perf_counter()
            call(len(taken) % inputs)
            taken.append(time.perf_counter() - start)
        medians.append(statistics.median(taken))
        samples += taken
    return Timing(tuple(medians), min(samples), max(samples), graphed=False)


def input_sets(bytes_each: int, device: torch.device, at_most_bytes: int = 4 << 30) -> int:
    """How many sets of inputs to rotate through so that none is found in the L2 cache: three times its size, at least 2."""
    cache = torch.cuda.get_device_properties(device).L2_cache_size if device.type == "cuda" else 0
    wanted = -(-3 * cache // max(1, bytes_each))
    return max(2, min(wanted, 64, at_most_bytes // max(1, bytes_each)))


@dataclass(frozen=True)
class Ceilings:
    """What a device can do at most, per second, as measured on it a moment ago (the exponentials: as documented)."""

    flops: float  # of a matrix product in bfloat16
    bytes: float  # read plus written by a copy
    exponentials: float

    def floor(self, flops: float, exponentials: float, bytes: float) -> float:
        """The seconds below which no kernel can be: the largest of the three."""
        return max(flops / self.flops, exponentials / self.exponentials, bytes / self.bytes)


@lru_cache(maxsize=8)
def ceilings(device: torch.device) -> Ceilings:
    """Measured by a product of 8192 x 8192 and a copy of 1 GiB; on a CPU by small ones, for a dry run."""
    cuda = device.type == "cuda"
    size, dtype, bytes_moved = (8192, torch.bfloat16, 1 << 30) if cuda else (256, torch.float32, 1 << 20)
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    product = torch.empty_like(a)
    matrix = time_calls(lambda i: torch.mm(a, b, out=product), 1, device, repeats=1, seconds=0.2)
    source, target = (torch.empty(bytes_moved, dtype=torch.uint8, device=device) for _ in range(2))
    copy = time_calls(lambda i: target.copy_(source), 1, device, repeats=1, seconds=0.2)
    exponentials = 1e9
    if cuda:
        properties = torch.cuda.get_device_properties(device)
        clock = getattr(properties, "clock_rate", 0) * 1e3 or ASSUMED_CLOCK_HZ
        exponentials = EXPONENTIALS_PER_CLOCK * properties.multi_processor_count * clock
    return Ceilings(2 * size**3 / matrix.fastest, 2 * bytes_moved / copy.fastest, exponentials)


def describe(device: torch.device) -> dict[str, str]:
    """The device, driver and versions that a measurement must name."""
    try:
        import triton

        triton_version = str(triton.__version__)
    except ImportError:
        triton_version = ""
    told = {"torch": torch.__version__, "triton": triton_version, "cuda": torch.version.cuda or ""}
    if device.type != "cuda":
        return {"device": device.type, "driver": "", **told, "cudnn": ""}
    return {
        "device": torch.cuda.get_device_name(device),
        "driver": _driver(),
        **told,
        "cudnn": str(torch.backends.cudnn.version()),
    }


def _driver() -> str:
    path = "/proc/driver/nvidia/version"
    try:
        with open(path, encoding="utf-8") as file:
            words = file.readline().split()
    except OSError:
        return ""
    versions: Sequence[str] = [word for word in words if word[:1].isdigit() and "." in word]
    return versions[0] if versions else ""
