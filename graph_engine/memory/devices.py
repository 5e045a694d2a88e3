"""Which devices this machine has, found without importing torch where there is no accelerator."""

from __future__ import annotations

import os
from pathlib import Path


def is_host(device: str) -> bool:
    """Whether its memory is the host's. Beside "cpu" there may be "cpu:0", "cpu:1", ...: several devices for whoever has
    none, each with a lane and a budget of its own."""
    return device.partition(":")[0] == "cpu"


def torch_name(device: str) -> str:
    """What torch calls the device."""
    return "cpu" if is_host(device) else device


LIMITS = ("memory.max", "memory/memory.limit_in_bytes")
"""What a container may use, in the first and the second version of Linux' control groups."""


def host_bytes(root: Path = Path("/sys/fs/cgroup")) -> int:
    """What this process can have of the host's memory: all there is, or the limit of the container that it runs in.

    root: where the control groups are mounted.
    """
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in LIMITS:
        try:
            total = min(total, int((root / name).read_text()))
        except (OSError, ValueError):  # there is none, or it says "max"
            continue
    return total


def device_memory(device: str) -> tuple[int, int]:
    """(free, total) bytes of a device. The host counts as free: what the system needs back, it takes from its caches."""
    if is_host(device):
        total = host_bytes()
        return total, total
    import torch

    free, total = torch.cuda.mem_get_info(torch.device(device))
    return int(free), int(total)


def find_devices() -> tuple[str, ...]:
    """The torch names of the devices to run on: every CUDA device, else the CPU."""
    if not Path("/dev/nvidiactl").exists():
        return ("cpu",)
    import torch

    count = torch.cuda.device_count()
    return tuple(f"cuda:{index}" for index in range(count)) or ("cpu",)


def watch_peak(device: str) -> bool:
    """Begin to watch the most that is allocated on a device. False where nothing tells: on the host, every thread of the
    process and every mapped page would be in the number."""
    if not device.startswith("cuda"):
        return False
    import torch

    torch.cuda.reset_peak_memory_stats(torch.device(device))
    return True


def peak_bytes(device: str) -> int:
    """The most that was allocated since `watch_peak`."""
    import torch

    return int(torch.cuda.max_memory_allocated(torch.device(device)))
