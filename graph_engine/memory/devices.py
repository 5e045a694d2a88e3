"""Which devices this machine has, found without importing torch where there is no accelerator."""

from __future__ import annotations

from pathlib import Path


def find_devices() -> tuple[str, ...]:
    """The torch names of the devices to run on: every CUDA device, else the CPU."""
    if not Path("/dev/nvidiactl").exists():
        return ("cpu",)
    import torch

    count = torch.cuda.device_count()
    return tuple(f"cuda:{index}" for index in range(count)) or ("cpu",)
