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
