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

import inspect
import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from custom_kernels import dispatch, forwards
from custom_kernels.constant import Prompt, Times
from custom_kernels.embedding import embedder, makers
from custom_kernels.layout import Layout
from custom_kernels.step_graph import CudaRecorder, Recorder, StepGraphs

UNETS = ("UNet2DConditionModel", "UNet3DConditionModel")
BACKENDS = (*dispatch.KERNELS, "compile")
CAPTURED = ("class_labels", "timestep_cond")
"""Arguments beside sample, timestep and words with which a step can be captured; `added_cond_kwargs` of tensors too."""
PLAIN_PROCESSORS = ("AttnProcessor2_0", "AttnProcessor")
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

    def told(self) -> str:
        """Which implementation computed what, since it was made."""
        return "torch.compile" if self.plug is None else self.plug.told()


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
        self._blocks: list[Any] = []
        self._slots: list[tuple[dict[str, Any], str]] = []
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
        plain = type(unet).forward
        self.steps += 1
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
            named = {name: tensors[name] for name in CAPTURED if name in tensors}
            if added:
                named["added_cond_kwargs"] = {name: tensors[name] for name in added}
            made: Tensor = plain(
                unet, tensors["sample"], tensors["timestep"], tensors.get("words"), return_dict=False, **named
            )[0]
            return made

        shapes = tuple((name, tensor.shape, tensor.dtype, tensor.device) for name, tensor in inputs.items())
        adapters = self._adapters()
        made = graphs.run(
            lambda: (shapes, adapters, self.times.on, self.times.generation, self.prompt.on, self.prompt.generation),
            inputs,
            compute,
        )
        if not given.get("return_dict", True):
            return (made,)
        return _answer(unet)(sample=made)

    def _adapters(self) -> tuple[Any, ...]:
        """Which layers there are, and how strongly adapters change them: a graph has that in it."""
        found = []
        for holder, name in self._slots:
            layer = holder.get(name)
            if hasattr(layer, "base_layer"):
                found.append(
                    (id(layer), *sorted(layer.scaling.items()), *layer.active_adapters, layer.disable_adapters)
                )
            else:
                found.append((id(layer),))
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

    Raises ValueError for another module, TypeError-free: nothing is changed then.
    """
    if type(unet).__name__ not in UNETS:
        raise ValueError(f"accelerate_unet takes a {' or a '.join(UNETS)} of diffusers, not a {type(unet).__name__}")
    if "_plug" in unet.__dict__ or "forward" in unet.__dict__:
        raise ValueError("this UNet is accelerated already; restore() it first")
    if kernels == "compile":
        return _compiled(unet, compile_options)
    if compile_options:
        raise ValueError(f"{', '.join(compile_options)}: only for kernels='compile'")
    plug = _KEPT.get(unet)
    if plug is None or plug.asked != kernels or (plug.graphs is not None) != graph or recorder is not None:
        if plug is not None:
            plug.layout.restore()
        plug = Plug(kernels, graph, recorder)
    plug.ran.clear()
    plug.steps = 0
    if plug.graphs is not None:
        plug.graphs.replays = 0
    replaced = list(_replacements(unet))
    for module, function in replaced:
        module._plug = plug
        module.forward = MethodType(function, module)

    def undo() -> None:
        for module, _ in replaced:
            module.__dict__.pop("forward", None)
            module.__dict__.pop("_plug", None)
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


def held_bytes() -> int:
    """Memory that CUDA graphs keep for UNets that are not at work."""
    return sum(plug.graphs.held_bytes for plug in _KEPT.values() if plug.graphs is not None)


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
        if module._parameters and (module._forward_pre_hooks or module._forward_hooks):
            return False
        for tensor in module._parameters.values():
            if tensor is not None and (type(tensor) is not nn.Parameter or tensor.device.type == "meta"):
                return False
    return True


def is_timed(module: Any) -> bool:
    return type(module).__name__ == "ResnetBlock2D" and module.time_emb_proj is not None


# --- which modules are replaced, by what ----------------------------------------------------------------------------------


def _replacements(unet: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = [(unet, _step_of(type(unet)))]
    for module in unet.modules():
        # What somebody else has replaced stays his.
        function = None if "forward" in module.__dict__ else _replacement(module)
        if function is not None:
            found.append((module, function))
    last, act = getattr(unet, "conv_norm_out", None), getattr(unet, "conv_act", None)
    if type(last) is nn.GroupNorm and type(act) is nn.SiLU:
        found = [(m, f) for m, f in found if m is not last]
        found += [(last, forwards.group_norm_silu), (act, forwards.identity)]
    return found


def _step_of(kind: Any) -> Any:
    names = list(inspect.signature(kind.forward).parameters)[4:]

    def forward(
        self: Any, sample: Tensor, timestep: Any, encoder_hidden_states: Any = None, *args: Any, **kw: Any
    ) -> Any:
        return self._plug.step(
            self, sample, timestep, encoder_hidden_states, {**dict(zip(names, args, strict=False)), **kw}
        )

    return forward


def _replacement(module: Any) -> Any:
    name = type(module).__name__
    if type(module) is nn.GroupNorm:
        return forwards.group_norm
    if type(module) is nn.LayerNorm and len(module.normalized_shape) == 1:
        return forwards.layer_norm
    if not type(module).__module__.startswith("diffusers."):
        return None
    test = _TESTS.get(name)
    return test[1] if test is not None and test[0](module) else None


def _plain_resnet(m: Any) -> bool:
    return (
        m.upsample is None
        and m.downsample is None
        and type(m.nonlinearity) is nn.SiLU
        and type(m.norm1) is type(m.norm2) is nn.GroupNorm
        and m.time_embedding_norm in ("default", "scale_shift")
        and m.output_scale_factor == 1.0
    )


def _plain_temporal_convolutions(m: Any) -> bool:
    stages = (m.conv1, m.conv2, m.conv3, m.conv4)
    return all(type(s[0]) is nn.GroupNorm and type(s[1]) is nn.SiLU for s in stages) and all(
        getattr(s[-1], "kernel_size", None) == (3, 1, 1) and s[-1].padding == (1, 0, 0) for s in stages
    )


def _plain_transformer(m: Any) -> bool:
    return bool(m.is_input_continuous) and type(m.norm) is nn.GroupNorm


def _plain_block(m: Any) -> bool:
    norms = (m.norm1, m.norm3) if m.attn2 is None else (m.norm1, m.norm2, m.norm3)
    return (
        m.norm_type == "layer_norm"
        and m.pos_embed is None
        and not hasattr(m, "fuser")
        and all(type(norm) is nn.LayerNorm for norm in norms)
    )


def _plain_attention(m: Any) -> bool:
    return (
        type(m.processor).__name__ in PLAIN_PROCESSORS
        and m.group_norm is None
        and m.spatial_norm is None
        and m.norm_q is None
        and m.norm_k is None
        and not m.norm_cross
        and m.added_kv_proj_dim is None
        and not m.residual_connection
        and m.rescale_output_factor == 1.0
        and m.inner_kv_dim == m.inner_dim
        and m.scale_qk
        and not m.is_causal
    )


_TESTS: dict[str, tuple[Callable[[Any], bool], Any]] = {
    "ResnetBlock2D": (_plain_resnet, forwards.resnet),
    "TemporalConvLayer": (_plain_temporal_convolutions, forwards.temporal_convolutions),
    "Transformer2DModel": (_plain_transformer, forwards.transformer),
    "TransformerTemporalModel": (lambda m: type(m.norm) is nn.GroupNorm, forwards.temporal_transformer),
    "BasicTransformerBlock": (_plain_block, forwards.transformer_block),
    "Attention": (_plain_attention, forwards.attention),
    "GEGLU": (lambda m: True, forwards.geglu),
}


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


def _compiled(unet: Any, options: Mapping[str, Any]) -> Accelerated:
    """torch.compile of the UNet as diffusers wrote it, in channels-last."""
    layout = Layout()
    if is_resident(unet):
        layout.lay_out(m for m in unet.modules() if type(m) in (nn.Conv2d, nn.Conv3d))
    unet.forward = torch.compile(MethodType(type(unet).forward, unet), **options)

    def undo() -> None:
        unet.__dict__.pop("forward", None)
        layout.restore()

    return Accelerated(unet, None, undo)
