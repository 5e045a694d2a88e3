"""What the kernels keep on a device for a denoiser between runs, as the engine counts it and lets go of it.

CUDA graphs, mostly: a step of a film has its activations in them.
"""

from __future__ import annotations

import sys
from typing import Any

from graph_engine.models.catalog import Beside

KEEPER = "custom_kernels.plug"


def _denoisers(module: Any) -> list[Any]:
    """The module itself, and the denoiser of a decoder; none before anybody used the kernels."""
    plug = sys.modules.get(KEEPER)
    parts = (module, getattr(module, "unet", None))
    return [part for part in parts if plug is not None and type(part).__name__ in plug.UNETS]


def held(module: Any) -> int:
    """Bytes."""
    return sum(sys.modules[KEEPER].held_bytes(unet) for unet in _denoisers(module))


def forget(module: Any) -> None:
    for unet in _denoisers(module):
        sys.modules[KEEPER].forget(unet)


GRAPHS = Beside(held, forget)
