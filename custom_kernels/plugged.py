"""Plug: what the replaced forwards of one UNet share, and how a step is taken with it."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from custom_kernels import dispatch, forwards
from custom_kernels.constant import Prompt, Times
from custom_kernels.embedding import embedder, makers
from custom_kernels.layout import Layout
from custom_kernels.step_graph import CudaRecorder, Recorder, StepGraphs

CAPTURED = ("class_labels", "timestep_cond")
"""Arguments beside sample, timestep and words with which a step can be captured; `added_cond_kwargs` of tensors too."""
ARRIVED = 3
"""The step at which weights that came one after the other during the first may be there to stay: it is looked at again."""
BACKENDS = (*dispatch.KERNELS, "compile")


class Plug:
    """What the replaced forwards of one UNet share. Knows its modules, not the UNet itself: that may be let go of."""

    def __init__(self, kernels: str, graph: bool, recorder: Recorder | None = None) -> None:
        self.asked = kernels
        self.kernels = choices(kernels)
        self.prompt, self.times, self.layout = Prompt(), Times(), Layout()
        self.graphs = StepGraphs(recorder or CudaRecorder()) if graph else None
        self._on_any_device = recorder is not None
        self.ran: Counter[tuple[str, str]] = Counter()
        self.steps = 0
        self.resident = False
        """All weights are there, and stay."""
        self.theirs: Any = None
        """The UNet's `forward` where somebody else had replaced it; it calls the one of diffusers when it likes."""
        self._blocks: list[Any] = []
        self._slots: list[tuple[dict[str, Any], str]] = []
        self._own: list[dict[str, Any]] = []
        self._weights: tuple[int, ...] = ()
        self._activated: tuple[Tensor, Tensor] | None = None

    def __deepcopy__(self, memo: Any) -> Plug:
        """A copy of a UNet has other layers, and so nothing of what was computed with these."""
        copy = Plug(self.asked, self.graphs is not None)
        memo[id(self)] = copy
        return copy

    # --- what the forwards ask for

    def projections(self, attention: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of self attention: one product where the weights lie behind one another."""
        packed = self.layout.packed.get(attention)
        layers = (attention.to_q, attention.to_k, attention.to_v)
        if packed is None or torch.is_grad_enabled() or not _are_of(packed, layers):
            return layers[0](x), layers[1](x), layers[2](x)
        query, key, value = torch.nn.functional.linear(x, packed).chunk(3, dim=-1)
        return query, key, value

    def activated(self, temb: Tensor, activation: Any) -> Tensor:
        """The time embedding after the activation, which all blocks read."""
        if self._activated is None or self._activated[0] is not temb:
            self._activated = (temb, activation(temb))
        return self._activated[1]

    # --- a step

    def step(self, unet: Any, sample: Tensor, timestep: Any, words: Tensor | None, given: dict[str, Any]) -> Any:
        theirs = self.theirs
        plain = type(unet).forward if theirs is None else lambda _, *args, **named: theirs(*args, **named)
        self.steps += 1
        if self.steps == ARRIVED and not self.resident:
            self.settle(unet)
        self._activated = None
        kept = self.resident and not torch.is_grad_enabled() and not torch.is_autocast_enabled(sample.device.type)
        with dispatch.record() as ran:
            try:
                if not kept:
                    self.prompt.begin(None)
                    self.times.begin(timestep, 0, {}, [], [], None)
                    return plain(unet, sample, timestep, words, **given)
                self.prompt.begin(None if getattr(unet, "encoder_hid_proj", None) is not None else words)
                beside, embed = embedder(unet, sample, given)
                self.times.begin(timestep, sample.shape[0], beside, self._blocks, makers(unet), embed)
                return self._captured(unet, plain, sample, timestep, words, given)
            finally:
                self._activated = None
                self.ran.update(ran)

    def _captured(
        self, unet: Any, plain: Any, sample: Tensor, timestep: Any, words: Tensor | None, given: dict[str, Any]
    ) -> Any:
        graphs = self.graphs
        if graphs is None or not (sample.is_cuda or self._on_any_device):
            return plain(unet, sample, timestep, words, **given)
        inputs = _inputs(sample, timestep, words, given)
        if inputs is None:
            graphs.refuse("the step takes more than sample, timestep, words and their embeddings")
            return plain(unet, sample, timestep, words, **given)
        added = tuple(given.get("added_cond_kwargs") or ())

        def compute(tensors: Mapping[str, Tensor]) -> Tensor:
            self._activated = None
            named: dict[str, Any] = {name: tensors[name] for name in CAPTURED if name in tensors}
            if added:
                named["added_cond_kwargs"] = {name: tensors[name] for name in added}
            made: Tensor = plain(
                unet, tensors["sample"], tensors["timestep"], tensors.get("words"), return_dict=False, **named
            )[0]
            return made

        shapes = tuple((name, tensor.shape, tensor.dtype, tensor.device) for name, tensor in inputs.items())
        weights = self._weights_now()
        made = graphs.run(
            lambda: (shapes, weights, self.times.on, self.times.generation, self.prompt.on, self.prompt.generation),
            inputs,
            compute,
        )
        if not given.get("return_dict", True):
            return (made,)
        return _answer(unet)(sample=made)

    def _weights_now(self) -> tuple[Any, ...]:
        """Where all weights lie, which layers there are, and how strongly adapters change them: a graph has that in it."""
        found: list[Any] = [p.data_ptr() for own in self._own for p in own.values() if p is not None]
        for holder, name in self._slots:
            layer: Any = holder.get(name)
            if hasattr(layer, "base_layer"):
                found += (p.data_ptr() for p in layer.parameters())
                found += (*sorted(layer.scaling.items()), *layer.active_adapters, layer.disable_adapters)
                # Merging writes to the weights where they lie, and what was added as a product is added no more.
                found.append(tuple(layer.merged_adapters))
            found.append(id(layer))
        return tuple(found)

    # --- coming and going

    def settle(self, unet: Any) -> None:
        """Look at the UNet: what is there to be kept, and is what was kept still true."""
        modules = list(unet.modules())
        weights = tuple(parameter.data_ptr() for parameter in unet.parameters()) if is_resident(unet) else ()
        self.resident = bool(weights)
        if weights != self._weights:
            self.forget()
        if self.resident:
            self.layout.lay_out(modules)
            weights = tuple(parameter.data_ptr() for parameter in unet.parameters())
        self._weights = weights
        self._blocks = [m for m in modules if m.__dict__.get("_plug") is self and is_timed(m)]
        self._own = [module._parameters for module in modules if module._parameters]
        self._slots = [
            (module._modules, name)
            for module in modules
            for name, child in module._modules.items()
            if isinstance(child, nn.Linear | nn.Conv2d | nn.Conv3d) or hasattr(child, "base_layer")
        ]
        if not self.resident and self.graphs is not None:
            self.graphs.refuse("the weights come and go while it computes")

    def forget(self) -> None:
        """Drop whatever was computed or captured."""
        self.prompt.forget()
        self.times.forget()
        self.layout.packed.clear()
        if self.graphs is not None:
            self.graphs.forget()

    def told(self) -> str:
        text = dispatch.summary(self.ran) or "nothing ran"
        if self.graphs is None:
            return text
        if self.graphs.replays:
            return f"{text}; CUDA graph: {self.graphs.replays} of {self.steps} steps"
        return f"{text}; no CUDA graph: {self.graphs.refused}" if self.graphs.refused else text


def choices(kernels: str) -> dict[str, str]:
    """Operation -> who computes it. An attention's name leaves the rest to torch; Triton has not every operation."""
    family = kernels.partition(".")[0]
    if family not in dispatch.KERNELS:
        raise dispatch.KernelError(f"there are no kernels {kernels!r}; choose one of {', '.join(BACKENDS)}")
    chosen = {}
    for operation, rows in dispatch.TABLE.items():
        if any(kernels in (row.name, row.family) for row in rows):
            chosen[operation] = kernels
        else:
            chosen[operation] = "auto" if family in ("auto", "triton") else "torch"
    return chosen


def is_resident(unet: Any) -> bool:
    """Whether all weights are there, and nobody brings and takes them as layers are called."""
    for module in unet.modules():
        replaced = "forward" in module.__dict__ and "_plug" not in module.__dict__
        if module._parameters and (module._forward_pre_hooks or module._forward_hooks or replaced):
            return False
        if is_steered(module):
            return False
        for tensor in module._parameters.values():
            if tensor is not None and (type(tensor) is not nn.Parameter or tensor.device.type == "meta"):
                return False
    return True


def is_steered(module: Any) -> bool:
    """Whether accelerate or diffusers bring and take the weights below a module: they replace its `forward`."""
    return "_hf_hook" in module.__dict__ or "_diffusers_hook" in module.__dict__


def is_timed(module: Any) -> bool:
    return type(module).__name__ == "ResnetBlock2D" and module.time_emb_proj is not None


def _are_of(packed: Tensor, layers: tuple[Any, ...]) -> bool:
    """Whether the packed weights are still those of the layers: nobody put other layers or weights in."""
    place, size = packed.data_ptr(), packed.numel() // 3 * packed.element_size()
    return all(
        forwards.is_plain(layer, nn.Linear) and layer.weight.data_ptr() == place + index * size
        for index, layer in enumerate(layers)
    )


def _inputs(sample: Tensor, timestep: Any, words: Tensor | None, given: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """The tensors of a step by name; None if it takes something else."""
    if not isinstance(timestep, Tensor):
        timestep = torch.tensor([timestep], device=sample.device)
    inputs = {"sample": sample, "timestep": timestep.reshape(-1).to(sample.device, non_blocking=True)}
    if words is not None:
        inputs["words"] = words
    for name, value in given.items():
        if value is None or name == "return_dict" or value == {}:
            continue
        if name == "added_cond_kwargs" and all(isinstance(tensor, Tensor) for tensor in value.values()):
            inputs.update(value)
        elif name in CAPTURED and isinstance(value, Tensor):
            inputs[name] = value
        else:
            return None
    return inputs


def _answer(unet: Any) -> Any:
    """The class in which this UNet gives its result."""
    return getattr(inspect.getmodule(type(unet)), type(unet).__name__.replace("Model", "Output"))
