"""Which modules of a UNet compute otherwise when it is accelerated, and by which function of forwards.py.

A module that is not what the functions were written for (another activation, another norm, another attention processor)
is left as it is.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from custom_kernels import forwards

PLAIN_PROCESSORS = ("AttnProcessor2_0", "AttnProcessor")


def replacements(unet: Any) -> list[tuple[Any, Any]]:
    """Module, function: the UNet itself, and of its modules those that are plain."""
    found: list[tuple[Any, Any]] = [(unet, _step_of(type(unet)))]
    for module in unet.modules():
        function = None if module is unet else function_of(module)
        if function is not None:
            found.append((module, function))
    last, act = getattr(unet, "conv_norm_out", None), getattr(unet, "conv_act", None)
    if _own(last, nn.GroupNorm) and _own(act, nn.SiLU):
        found = [(m, f) for m, f in found if m is not last]
        found += [(last, forwards.group_norm_silu), (act, forwards.identity)]
    return found


def why_left(unet: Any) -> str:
    """The first attention that is left as it is, and why; "" if there is none."""
    for name, module in unet.named_modules():
        if not is_attention(module) or function_of(module) is not None:
            continue
        processor = type(module.processor).__name__
        if "forward" in module.__dict__:
            why = "somebody else has replaced its forward"
        elif processor not in PLAIN_PROCESSORS:
            why = f"its processor is {processor}, which computes attention by itself"
        else:
            why = "it norms, projects or scales what the kernels take as it is"
        return f"{name} ({why})"
    return ""


def _step_of(kind: Any) -> Any:
    names = list(inspect.signature(kind.forward).parameters)[4:]

    def forward(
        self: Any, sample: Tensor, timestep: Any, encoder_hidden_states: Any = None, *args: Any, **kw: Any
    ) -> Any:
        return self._plug.step(
            self, sample, timestep, encoder_hidden_states, {**dict(zip(names, args, strict=False)), **kw}
        )

    return forward


def function_of(module: Any) -> Any:
    """What stands in for its `forward`; None if it is left as it is. What somebody else has replaced stays his."""
    if "forward" in module.__dict__:
        return None
    name = type(module).__name__
    if type(module) is nn.GroupNorm:
        return forwards.group_norm
    if type(module) is nn.LayerNorm and len(module.normalized_shape) == 1:
        return forwards.layer_norm
    if not type(module).__module__.startswith("diffusers."):
        return None
    test = _TESTS.get(name)
    return test[1] if test is not None and test[0](module) else None


def is_attention(module: Any) -> bool:
    return type(module).__name__ == "Attention" and type(module).__module__.startswith("diffusers.")


def _own(module: Any, kind: Any) -> bool:
    """Whether a module is exactly torch's, with torch's `forward`: ours takes more arguments, another one does not."""
    return type(module) is kind and "forward" not in module.__dict__


def _plain_resnet(m: Any) -> bool:
    return (
        m.upsample is None
        and m.downsample is None
        and _own(m.nonlinearity, nn.SiLU)
        and _own(m.norm1, nn.GroupNorm)
        and _own(m.norm2, nn.GroupNorm)
        and m.time_embedding_norm in ("default", "scale_shift")
        and m.output_scale_factor == 1.0
    )


def _plain_temporal_convolutions(m: Any) -> bool:
    stages = (m.conv1, m.conv2, m.conv3, m.conv4)
    return all(_own(s[0], nn.GroupNorm) and _own(s[1], nn.SiLU) for s in stages) and all(
        getattr(s[-1], "kernel_size", None) == (3, 1, 1) and s[-1].padding == (1, 0, 0) for s in stages
    )


def _plain_transformer(m: Any) -> bool:
    return bool(m.is_input_continuous) and type(m.norm) is nn.GroupNorm


def _plain_temporal_transformer(m: Any) -> bool:
    """Its blocks are given films, which only ours take."""
    parts = [part for b in m.transformer_blocks for part in (b, b.attn1, b.attn2) if part is not None]
    return type(m.norm) is nn.GroupNorm and all(function_of(part) is not None for part in parts)


def _plain_block(m: Any) -> bool:
    norms = (m.norm1, m.norm3) if m.attn2 is None else (m.norm1, m.norm2, m.norm3)
    return (
        m.norm_type == "layer_norm"
        and m.pos_embed is None
        and not hasattr(m, "fuser")
        and all(_own(norm, nn.LayerNorm) for norm in norms)
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
    "TransformerTemporalModel": (_plain_temporal_transformer, forwards.temporal_transformer),
    "BasicTransformerBlock": (_plain_block, forwards.transformer_block),
    "Attention": (_plain_attention, forwards.attention),
    "GEGLU": (lambda m: True, forwards.geglu),
}
