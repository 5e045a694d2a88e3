"""`accelerate_unet`: a diffusers UNet computes with the kernels of this folder, until it is told not to.

    with accelerate_unet(unet) as fast:
        ...                        # unet(...) as ever
    print(fast.told())             # attention: triton 32; ...; CUDA graph: 48 of 50 steps

Works on UNet2DConditionModel (SD 1.x, 2.x, SDXL, AudioLDM) and UNet3DConditionModel (ModelScope, zeroscope). Only `forward`
of single modules is replaced, on the instance: class, parameters and state dict stay as they are, and layers that peft
puts in, before or after, are called as ever. What a module needs that is not plain (another activation, another norm,
another attention processor) is left as it is.

Three things make it faster: kernels that do in one pass what took several (forwards.py), results that are the same at
every step (constant.py), and one launch per step (step_graph.py). A UNet whose weights come and go while it computes gets
only the first.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any

import torch
from torch import nn

from custom_kernels.dispatch import KernelError
from custom_kernels.layout import Layout
from custom_kernels.plugged import Plug, choices, is_resident, is_steered
from custom_kernels.replacements import replacements, why_left
from custom_kernels.step_graph import Recorder

UNETS = ("UNet2DConditionModel", "UNet3DConditionModel")
_KEPT: weakref.WeakKeyDictionary[Any, Plug] = weakref.WeakKeyDictionary()


class Accelerated:
    """A UNet at work with the kernels. `restore()`, or leaving the context, makes it what it was."""

    def __init__(self, unet: Any, plug: Plug | None, undo: Callable[[], None]) -> None:
        self.unet, self.plug, self._undo = unet, plug, undo

    def __enter__(self) -> Accelerated:
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()

    def restore(self) -> None:
        """May be called twice."""
        undo, self._undo = self._undo, lambda: None
        undo()

    def drop_graphs_above(self, most_bytes: int) -> None:
        """Let go of the CUDA graphs if they keep more memory than this. The next step is captured anew."""
        graphs = None if self.plug is None else self.plug.graphs
        if graphs is not None and graphs.held_bytes > most_bytes:
            graphs.forget()

    def told(self) -> str:
        """Which implementation computed what, since it was made."""
        return "torch.compile" if self.plug is None else self.plug.told()


def accelerate_unet(
    unet: Any,
    kernels: str = "auto",
    *,
    graph: bool = True,
    keep: bool = False,
    recorder: Recorder | None = None,
    **compile_options: Any,
) -> Accelerated:
    """Make a UNet compute with these kernels.

    kernels   "auto", "triton", "sdpa" (or one of its backends, "sdpa.flash"), "xformers", "reference"; what was asked for
              by name and cannot compute here fails at the first step (`dispatch.KernelError`). "compile" is torch.compile
              of the UNet as it is, with `compile_options`
    graph     replay whole steps as CUDA graphs, where there is CUDA
    keep      after `restore()` the layout of the weights, what was captured and what was computed of the words are kept
              for the next time, as long as somebody holds the UNet. The values of the weights are the same either way

    Raises ValueError for another module or unknown kernels, KernelError where an attention of the UNet would be left to
    diffusers although kernels were asked for by name; nothing is changed then.
    """
    if type(unet).__name__ not in UNETS:
        raise ValueError(f"accelerate_unet takes a {' or a '.join(UNETS)} of diffusers, not a {type(unet).__name__}")
    theirs = unet.__dict__.get("forward")
    if "_plug" in unet.__dict__ or (theirs is not None and not is_steered(unet)):
        raise ValueError("this UNet is accelerated already, or its forward was replaced; restore() it first")
    if kernels == "compile":
        return _compiled(unet, compile_options)
    if compile_options:
        raise ValueError(f"{', '.join(compile_options)}: only for kernels='compile'")
    choices(kernels)
    replaced = replacements(unet)
    if kernels != "auto" and (why := why_left(unet)):
        raise KernelError(f"kernels={kernels!r} cannot compute {why}. Choose kernels='auto', which leaves it as it is")
    plug = _KEPT.get(unet)
    if plug is None or plug.asked != kernels or (plug.graphs is not None) != graph or recorder is not None:
        if plug is not None:
            plug.layout.restore()
        plug = Plug(kernels, graph, recorder)
    plug.ran.clear()
    plug.steps, plug.theirs = 0, theirs
    if plug.graphs is not None:
        plug.graphs.replays = 0
    for module, function in replaced:
        module._plug = plug
        module.forward = MethodType(function, module)

    def undo() -> None:
        for module, _ in replaced:
            module.__dict__.pop("forward", None)
            module.__dict__.pop("_plug", None)
        if theirs is not None:
            unet.forward = theirs
        plug.theirs = None  # it holds the UNet
        if keep:
            _KEPT[unet] = plug
        else:
            _KEPT.pop(unet, None)
            plug.forget()
            plug.layout.restore()

    try:
        plug.settle(unet)
    except BaseException:
        undo()
        raise
    return Accelerated(unet, plug, undo)


def forget(unet: Any = None) -> None:
    """Drop what is kept for a UNet, or for all: CUDA graphs and their memory, keys and values, packed weights."""
    for one in [unet] if unet is not None else list(_KEPT):
        plug = _KEPT.pop(one, None)
        if plug is not None:
            plug.forget()
            plug.layout.restore()


def held_bytes(unet: Any = None) -> int:
    """Memory that CUDA graphs and weights that were laid out anew take for a UNet that is not at work, or for all such."""
    plugs = list(_KEPT.values()) if unet is None else [_KEPT[unet]] if unet in _KEPT else []
    return sum(plug.layout.bytes + (plug.graphs.held_bytes if plug.graphs is not None else 0) for plug in plugs)


def _compiled(unet: Any, options: Mapping[str, Any]) -> Accelerated:
    """torch.compile of the UNet as diffusers wrote it, in channels-last."""
    layout = Layout()
    if is_resident(unet):
        layout.lay_out(m for m in unet.modules() if type(m) in (nn.Conv2d, nn.Conv3d))
    theirs = unet.__dict__.get("forward")
    unet.forward = torch.compile(unet.forward, **options)

    def undo() -> None:
        unet.__dict__.pop("forward", None)
        if theirs is not None:
            unet.forward = theirs
        layout.restore()

    return Accelerated(unet, None, undo)
