"""How the modules of a diffusers UNet compute when they are accelerated.

Each function here stands in for `forward` of one class. It gets the module and finds what the whole UNet shares in
`module._plug` (plug.py). Weights are read inside a call of the module that owns them, so that hooks which bring weights in
(streaming, accelerate) and layers which peft put in the place of others keep working; where a layer is plain torch and has
no hooks, its weights are read directly, which saves a pass:

* a convolution's bias is not added by the convolution but by whoever reads the result next;
* a 1 x 1 convolution is a matrix product over rows, whose bias is part of the product;
* a convolution over frames (3 x 1 x 1) is one over an image whose sides are the frames and all places of a frame;
* the projections of self attention are one product.

Pictures are "N C H W" in channels-last memory, so that "N H*W C" is a view of them; films "B F S C" likewise, S being the
places of a frame. No permuted copy is made anywhere.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from custom_kernels import ops, stream


def group_norm(
    self: Any,
    x: Tensor,
    silu: bool = False,
    add: Tensor | None = None,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
) -> Tensor:
    """For GroupNorm; alone it is what it was."""
    kernels = self._plug.kernels["group_norm_silu"]
    return ops.group_norm_silu(
        x, self.num_groups, self.weight, self.bias, self.eps, add, scale, shift, silu, kernels=kernels
    )


def group_norm_silu(self: Any, x: Tensor) -> Tensor:
    """For a GroupNorm whose only reader is a SiLU, which is made the identity."""
    return group_norm(self, x, silu=True)


def identity(self: Any, x: Tensor) -> Tensor:
    return x


def layer_norm(self: Any, x: Tensor, residual: Tensor | None = None) -> Any:
    """For LayerNorm. With a residual: the sum, and its norm."""
    chosen = self._plug.kernels
    if residual is None:
        return ops.layer_norm(x, self.weight, self.bias, self.eps, kernels=chosen["layer_norm"])
    return stream.add_layer_norm(x, residual, self.weight, self.bias, self.eps, kernels=chosen["add_layer_norm"])


def geglu(self: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return ops.geglu(self.proj(hidden_states), kernels=self._plug.kernels["geglu"])


def resnet(self: Any, input_tensor: Tensor, temb: Tensor | None = None, *args: Any, **kwargs: Any) -> Tensor:
    """For ResnetBlock2D without a change of size."""
    h, bias = convolve(self.conv1, self.norm1(input_tensor, silu=True))
    line = self._plug.times.line(self)
    if line is None and self.time_emb_proj is not None and temb is not None:
        line = self.time_emb_proj(temb if self.skip_time_act else self._plug.activated(temb, self.nonlinearity))
        line = line if bias is None or self.time_embedding_norm != "default" else line + bias
        bias = bias if self.time_embedding_norm != "default" else None
    elif line is not None and self.time_embedding_norm == "default":
        bias = None  # it is in the line already
    added = None if bias is None else bias[None].expand(1 if line is None else line.shape[0], -1)
    if line is None:
        h = self.norm2(h, silu=True, add=added)
    elif self.time_embedding_norm == "scale_shift":
        scale, shift = line.chunk(2, dim=1)
        h = self.norm2(h, silu=True, add=added, scale=scale, shift=shift)
    else:
        h = self.norm2(h, silu=True, add=line)
    h, bias = convolve(self.conv2, self.dropout(h))
    shortcut = input_tensor
    if self.conv_shortcut is not None:
        shortcut, more = convolve(self.conv_shortcut, input_tensor)
        bias = more if bias is None else bias if more is None else bias + more
    return pictures(add(self, rows(h), rows(shortcut), bias), h.shape)


def temporal_convolutions(self: Any, hidden_states: Tensor, num_frames: int = 1) -> Tensor:
    """For TemporalConvLayer: "B*F C H W"."""
    height, width = hidden_states.shape[2:]
    film = frames(hidden_states, num_frames)
    h, bias = film.permute(0, 3, 1, 2), None
    for stage in (self.conv1, self.conv2, self.conv3, self.conv4):
        h = stage[0](h, silu=True, add=None if bias is None else bias[None])
        if self.training:
            for dropout in stage[2:-1]:
                h = dropout(h)
        h, bias = convolve_frames(stage[-1], h, (height, width))
    total = add(self, h.permute(0, 2, 3, 1), film, bias)
    return pictures(total.flatten(0, 1), hidden_states.shape)


def transformer(
    self: Any,
    hidden_states: Tensor,
    encoder_hidden_states: Tensor | None = None,
    timestep: Tensor | None = None,
    added_cond_kwargs: Any = None,
    class_labels: Tensor | None = None,
    cross_attention_kwargs: Any = None,
    attention_mask: Tensor | None = None,
    encoder_attention_mask: Tensor | None = None,
    return_dict: bool = True,
) -> Any:
    """For Transformer2DModel over pictures."""
    if return_dict or cross_attention_kwargs or (torch.is_grad_enabled() and self.gradient_checkpointing):
        return type(self).forward(
            self,
            hidden_states,
            encoder_hidden_states,
            timestep,
            added_cond_kwargs,
            class_labels,
            cross_attention_kwargs,
            attention_mask,
            encoder_attention_mask,
            return_dict,
        )
    masks = [_summand(mask, hidden_states.dtype) for mask in (attention_mask, encoder_attention_mask)]
    linear = self.use_linear_projection
    h = self.norm(hidden_states)
    h = self.proj_in(rows(h)) if linear else project(self.proj_in, h)
    for block in self.transformer_blocks:
        h = block(h, masks[0], encoder_hidden_states, masks[1], timestep, None, class_labels)
    out = self.proj_out(h) if linear else project_back(self.proj_out, h, hidden_states.shape)
    return (pictures(add(self, out, rows(hidden_states)), hidden_states.shape),)


def temporal_transformer(
    self: Any,
    hidden_states: Tensor,
    encoder_hidden_states: Tensor | None = None,
    timestep: Tensor | None = None,
    class_labels: Tensor | None = None,
    num_frames: int = 1,
    cross_attention_kwargs: Any = None,
    return_dict: bool = True,
) -> Any:
    """For TransformerTemporalModel: "B*F C H W". Its blocks compute on "B F S C"."""
    # Blocks that feed forward in chunks are diffusers' own, which know no films.
    chunked = any(block._chunk_size is not None for block in self.transformer_blocks)
    if return_dict or cross_attention_kwargs or encoder_hidden_states is not None or chunked:
        return type(self).forward(
            self,
            hidden_states,
            encoder_hidden_states,
            timestep,
            class_labels,
            num_frames,
            cross_attention_kwargs,
            return_dict,
        )
    film = frames(hidden_states, num_frames)
    h = self.norm(film.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    h = self.proj_in(h)
    for block in self.transformer_blocks:
        h = block(h, timestep=timestep, class_labels=class_labels)
    total = add(self, self.proj_out(h), film)
    return (pictures(total.flatten(0, 1), hidden_states.shape),)


def transformer_block(
    self: Any,
    hidden_states: Tensor,
    attention_mask: Tensor | None = None,
    encoder_hidden_states: Tensor | None = None,
    encoder_attention_mask: Tensor | None = None,
    timestep: Tensor | None = None,
    cross_attention_kwargs: Any = None,
    class_labels: Tensor | None = None,
    added_cond_kwargs: Any = None,
) -> Tensor:
    """For BasicTransformerBlock with plain layer norms: what is added is normed in the same pass."""
    if cross_attention_kwargs or self._chunk_size is not None:
        made: Tensor = type(self).forward(
            self,
            hidden_states,
            attention_mask,
            encoder_hidden_states,
            encoder_attention_mask,
            timestep,
            cross_attention_kwargs,
            class_labels,
            added_cond_kwargs,
        )
        return made
    context = encoder_hidden_states if self.only_cross_attention else None
    h = hidden_states
    more = self.attn1(self.norm1(h), encoder_hidden_states=context, attention_mask=attention_mask)
    if self.attn2 is not None:
        h, normed = self.norm2(more, residual=h)
        more = self.attn2(normed, encoder_hidden_states=encoder_hidden_states, attention_mask=encoder_attention_mask)
    h, normed = self.norm3(more, residual=h)
    return add(self, self.ff(normed), h)


def attention(
    self: Any,
    hidden_states: Tensor,
    encoder_hidden_states: Tensor | None = None,
    attention_mask: Tensor | None = None,
    **kwargs: Any,
) -> Tensor:
    """For Attention over "B L C", with words or without, and over films "B F S C", along the frames."""
    if kwargs or hidden_states.ndim not in (3, 4):
        made: Tensor = type(self).forward(self, hidden_states, encoder_hidden_states, attention_mask, **kwargs)
        return made
    plug = self._plug
    if encoder_hidden_states is None:
        query, key, value = plug.projections(self, hidden_states)
    else:
        query = self.to_q(hidden_states)
        key, value = plug.prompt.keys_and_values(self, encoder_hidden_states)
    if hidden_states.ndim == 4:
        mixed = ops.frame_attention(query, key, value, self.heads, kernels=plug.kernels["frame_attention"])
    else:
        mask = attention_mask
        if mask is not None:
            mask = self.prepare_attention_mask(mask, key.shape[1], query.shape[0])
            mask = mask.view(query.shape[0], self.heads, -1, mask.shape[-1])
        mixed = ops.attention(query, key, value, self.heads, mask, kernels=plug.kernels["attention"])
    out: Tensor = self.to_out[1](self.to_out[0](mixed))
    return out


# --- parts ----------------------------------------------------------------------------------------------------------------


def is_plain(layer: Any, kind: Any) -> bool:
    """Whether a layer is exactly torch's, and nobody wants to be told when it is called.

    Hooks of accelerate are no hooks of torch: they stand in the place of the layer's `forward`.
    """
    hooked = layer._forward_hooks or layer._forward_pre_hooks or "forward" in layer.__dict__
    return type(layer) is kind and not hooked


def rows(x: Tensor) -> Tensor:
    """ "N C H W" to "N H*W C": of a channels-last picture a view."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def pictures(x: Tensor, shape: torch.Size) -> Tensor:
    """ "N H*W C" to "N C H W" of these N, H and W, in channels-last memory, without a copy."""
    return x.unflatten(1, (shape[2], shape[3])).permute(0, 3, 1, 2)


def frames(x: Tensor, num_frames: int) -> Tensor:
    """ "B*F C H W" to "B F H*W C"."""
    return rows(x).unflatten(0, (-1, num_frames))


def add(self: Any, x: Tensor, residual: Tensor, bias: Tensor | None = None) -> Tensor:
    return stream.add_bias(x, residual, bias, kernels=self._plug.kernels["add_bias"])


def convolve(layer: Any, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """The convolution, and the bias that is yet to be added."""
    if layer_bias(layer) is None:
        return layer(x), None
    return layer._conv_forward(x, layer.weight, None), layer.bias


def layer_bias(layer: Any) -> Tensor | None:
    """The bias that `convolve` leaves out."""
    return layer.bias if is_plain(layer, nn.Conv2d) else None


def convolve_frames(layer: Any, x: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
    """A convolution over frames on "B C F S", and the bias that is yet to be added."""
    if is_plain(layer, nn.Conv3d):
        return F.conv2d(x, layer.weight.squeeze(-1), None, padding=(1, 0)), layer.bias
    return layer(x.unflatten(3, size)).flatten(3), None


def project(layer: Any, x: Tensor) -> Tensor:
    """A 1 x 1 convolution of "N C H W" to "N H*W C"."""
    if is_plain(layer, nn.Conv2d):
        return F.linear(rows(x), layer.weight.flatten(1), layer.bias)
    return rows(layer(x))


def project_back(layer: Any, x: Tensor, shape: torch.Size) -> Tensor:
    """A 1 x 1 convolution of "N H*W C" to the same."""
    if is_plain(layer, nn.Conv2d):
        return F.linear(x, layer.weight.flatten(1), layer.bias)
    return rows(layer(pictures(x, shape)))


def _summand(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """A mask "B L" of ones and zeros as what is added to the scores; another one as it is."""
    if mask is None or mask.ndim != 2:
        return mask
    return ((1 - mask.to(dtype)) * -10000.0).unsqueeze(1)
