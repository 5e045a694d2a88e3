"""How many bytes of weights a device may hold. Pure; `devices.py` asks the machine."""

from __future__ import annotations

from collections.abc import Mapping


def weight_budget(device: str, named: Mapping[str, int], free_bytes: int, total_bytes: int) -> int:
    """As named, else what the device has less a margin for activations, results and other programs.

    The margin is half of the host and a quarter of an accelerator.
    """
    if device in named:
        return named[device]
    share = total_bytes // 2 if device.startswith("cpu") else total_bytes * 3 // 4
    return min(free_bytes, share)
