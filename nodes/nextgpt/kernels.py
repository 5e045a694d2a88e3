"""Which kernels a denoiser computes with, and the word to the watcher about which they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

from graph_engine import NodeContext, NodeError
from graph_engine.errors import AnyloomError

Kernels = Literal["auto", "triton", "sdpa", "xformers", "reference"]
T = TypeVar("T")
KEPT_SHARE = 0.05
"""Of a device's memory, for CUDA graphs between runs."""


def with_kernels(context: NodeContext, unet: Any, kernels: str, compute: Callable[[], T]) -> T:
    """`compute()` while `unet` computes with these kernels.

    "auto" is the fastest that is known for the device; without CUDA, and for a denoiser that is none of diffusers' UNets, it
    is diffusers alone, to the bit. Should it break down where others would not, the work is done again without. Another
    choice is an order: where it cannot be carried out, that is a NodeError at the port `kernels`.
    """
    from custom_kernels.dispatch import KernelError
    from custom_kernels.plug import UNETS, accelerate_unet

    known = type(unet).__name__ in UNETS
    if kernels == "auto" and not (known and context.device.startswith("cuda")):
        return compute()
    if not known:
        raise _refused(kernels, "this decoder has no UNet of diffusers, which is what the kernels are for.")
    # On a CPU the layout of the weights may change the last bit of what is drawn after; there is nothing to keep there.
    keep = context.device.startswith("cuda")
    try:
        with accelerate_unet(unet, kernels, keep=keep) as fast:
            made = compute()
            told = fast.told()
            fast.drop_graphs_above(_kept_bytes(context.device))
    except KernelError as error:
        raise _refused(kernels, str(error)) from error
    except Exception as error:
        if kernels != "auto" or not is_kernels_fault(error):
            raise
        broken = error
    else:
        context.log(f"Denoised with {told}.")
        return made
    context.log(f"The kernels failed ({type(broken).__name__}: {broken}); denoising again without them.")
    return compute()


def layout(module: Any) -> dict[str, tuple[int, ...]]:
    """Strides of weights as the kernels want them, by their names in a denoiser, or in a decoder that has one as `unet`.

    The pool brings them to a device so. Turned there, they would be there twice: half of Stable Diffusion's denoiser.
    """
    from custom_kernels.layout import strides_of
    from custom_kernels.plug import UNETS

    parts = (("", module), ("unet.", getattr(module, "unet", None)))
    return {
        f"{prefix}{name}": strides
        for prefix, part in parts
        if type(part).__name__ in UNETS
        for name, strides in strides_of(part).items()
    }


def _kept_bytes(device: str) -> int:
    """What CUDA graphs may keep until the next run. On a small card that is less than a film's activations: the
    autoencoder, which comes next, needs the room.
    """
    import torch

    if not device.startswith("cuda"):
        return 0
    return int(torch.cuda.get_device_properties(device).total_memory * KEPT_SHARE)


def is_kernels_fault(error: Exception) -> bool:
    """Whether others might succeed: not where the run was stopped, memory ran out or the request makes no sense."""
    import torch

    from nodes.nextgpt.model.sampling import Cancelled

    return not isinstance(error, Cancelled | AnyloomError | ValueError | torch.OutOfMemoryError)


def _refused(kernels: str, why: str) -> NodeError:
    return NodeError(
        f"kernels={kernels} was asked for and cannot be used: {why}",
        remedy="Set kernels to auto, which takes what this device has.",
        code="kernels_unavailable",
        port="kernels",
    )
