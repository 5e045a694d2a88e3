"""How many bytes a device may hold. Pure but for the one function that asks the machine."""

from __future__ import annotations

import os
from collections.abc import Mapping


def host_bytes() -> int:
    """Physical memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def device_budget(device: str, named: Mapping[str, int]) -> int:
    """Bytes of weights that `device` may hold: as named, else what it has less a margin for working memory.

    A quarter of an accelerator and half of the host are left for activations, results and other programs.
    """
    if device in named:
        return named[device]
    if device == "cpu":
        return host_bytes() // 2
    import torch

    free, total = torch.cuda.mem_get_info(torch.device(device))
    return min(free, total * 3 // 4)
