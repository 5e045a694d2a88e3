"""How each modality becomes a sequence of tokens before its ImageBind trunk.

Submodule names repeat those of the published file ("rgbt_stem", "pos_embedding_helper", ...), odd as some are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nodes.nextgpt.model.imagebind_config import ImageBindConfig


class Stem(nn.Module):
    """A stem turns ``"B *item_shape"`` into ``"B N D"``."""

    item_shape: tuple[int, ...]

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class VisionStem(Stem):
    """Patches of ``frames x p x p`` pixels: ``"B 3 T H W" -> "B 1+N D"``; a still image is a clip of equal frames."""

    def __init__(self, config: ImageBindConfig) -> None:
        super().__init__()
        width, patch, frames = config.vision.width, config.vision_patch, config.vision_frames
        self.frames = frames
        self.item_shape = (3, frames, config.image_size, config.image_size)
        self.cls_token = small_normal(1, 1, width)
        kernel = (frames, patch, patch)
        convolution = nn.Conv3d(3, width, kernel_size=kernel, stride=kernel, bias=False)
        # Place 0 held the step that repeats a still image; it has no weights.
        self.rgbt_stem = nn.ModuleDict({"proj": nn.Sequential(nn.Identity(), convolution)})
        self.pos_embedding_helper = positions(config.token_count("vision"), width)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.rgbt_stem["proj"](x).flatten(2).transpose(1, 2)
        tokens: Tensor = with_class_token(patches, self.cls_token) + self.pos_embedding_helper["pos_embed"]
        return tokens


class PlaneStem(Stem):
    """One-channel pictures (spectrogram, depth, thermal): ``"B 1 H W" -> "B 1+N D"``."""

    def __init__(self, config: ImageBindConfig, modality: str) -> None:
        super().__init__()
        width = config.trunk(modality).width
        if modality == "audio":
            self.item_shape = (1, config.mel_bins, config.audio_frames)
            patch, stride = config.audio_patch, config.audio_stride
        else:
            self.item_shape = (1, config.image_size, config.image_size)
            patch = stride = config.plane_patch
        self.cls_token = small_normal(1, 1, width)
        self.stem_name = "depth_stem" if modality == "depth" else "rgbt_stem"
        convolution = nn.Conv2d(1, width, kernel_size=patch, stride=stride, bias=False)
        self.add_module(self.stem_name, nn.ModuleDict({"proj": convolution, "norm_layer": nn.LayerNorm(width)}))
        self.pos_embedding_helper = positions(config.token_count(modality), width)

    def forward(self, x: Tensor) -> Tensor:
        stem = self.get_submodule(self.stem_name)
        assert isinstance(stem, nn.ModuleDict)
        patches = stem["norm_layer"](stem["proj"](x).flatten(2).transpose(1, 2))
        tokens: Tensor = with_class_token(patches, self.cls_token) + self.pos_embedding_helper["pos_embed"]
        return tokens


class ImuStem(Stem):
    """Windows of samples, all sensors together: ``"B C T" -> "B 1+T/w D"``; a window is laid out sensor by sensor."""

    def __init__(self, config: ImageBindConfig) -> None:
        super().__init__()
        width = config.imu.width
        self.window = config.imu_window
        self.item_shape = (config.imu_channels, config.imu_samples)
        self.cls_token = small_normal(1, 1, width)
        projection = nn.Linear(config.imu_channels * config.imu_window, width, bias=False)
        self.imu_stem = nn.ModuleDict({"proj": projection, "norm_layer": nn.LayerNorm(width)})
        self.pos_embed = small_normal(1, config.token_count("imu"), width)

    def forward(self, x: Tensor) -> Tensor:
        windows = x.unfold(-1, self.window, self.window).transpose(1, 2).flatten(2)
        tokens = self.imu_stem["norm_layer"](self.imu_stem["proj"](windows))
        return with_class_token(tokens, self.cls_token) + self.pos_embed


class TextStem(Stem):
    """Token and position embeddings: ids ``"B L" -> "B L D"``."""

    def __init__(self, config: ImageBindConfig) -> None:
        super().__init__()
        width = config.text.width
        self.item_shape = (config.text_length,)
        self.token_embedding = nn.Embedding(config.text_vocabulary, width)
        self.pos_embed = small_normal(1, config.text_length, width)
        self.register_load_state_dict_pre_hook(_drop_stored_mask)

    def forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.token_embedding(x) + self.pos_embed
        return tokens


def _drop_stored_mask(module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """The published file stores the causal mask; it is a constant, and the attention call makes it."""
    state.pop(prefix + "mask", None)


def build_stem(config: ImageBindConfig, modality: str) -> Stem:
    """The stem of one modality, with fresh weights."""
    match modality:
        case "vision":
            return VisionStem(config)
        case "text":
            return TextStem(config)
        case "imu":
            return ImuStem(config)
        case _:
            return PlaneStem(config, modality)


def small_normal(*shape: int) -> nn.Parameter:
    """A parameter drawn from N(0, 0.02), the usual start for class tokens and positions."""
    parameter = nn.Parameter(torch.empty(*shape))
    nn.init.normal_(parameter, std=0.02)
    return parameter


def positions(count: int, width: int) -> nn.ParameterDict:
    """Learned positions ``"1 N D"`` under the published inner name."""
    values: Mapping[str, nn.Parameter] = {"pos_embed": small_normal(1, count, width)}
    return nn.ParameterDict(values)


def with_class_token(tokens: Tensor, cls_token: Tensor) -> Tensor:
    """``"B N D" -> "B 1+N D"``."""
    return torch.cat([cls_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
