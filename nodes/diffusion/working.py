"""Working bytes and models of this pack's nodes, as functions of their literals and of the models that arrived.

The multiples are those of `nodes.nextgpt.working`, whose denoisers and autoencoders are of the same build. What is linked
(the size of a latent or a picture) is taken as the size that the model was trained for; what a device really took corrects it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from graph_engine.models.spec import DTYPE_BYTES, ModelSpec
from nodes.diffusion.controlnet import specs
from nodes.nextgpt.working import DECODED, DENOISER, TOGETHER

Values = Mapping[str, Any]
FACTOR = 8
HELPED = 1.4
"""Of the skips and the middle of a denoiser: what ControlNets say of them, and their sum with some of it."""
WIDEST = 128
"""Channels of the autoencoders at full resolution."""


SMALLEST_TILE = 64
"""Pixels on a side; smaller ones have nothing in common with the picture."""


def bare(port: str) -> Any:
    """The model at a port as `load.lease` asks for it: without what only nodes want to know of it."""
    return lambda values: [replace(values[port], extras={})]


def denoisers(values: Values) -> list[ModelSpec]:
    """The denoiser, and the ControlNets of the condition where that has arrived."""
    return [replace(values["model"], extras={}), *specs(values.get("positive"))]


def encoders(values: Values) -> list[ModelSpec]:
    """The text encoders that a CLIP stands for."""
    return [replace(ModelSpec.from_dict(entry), extras={}) for entry in values["clip"].extras["encoders"]]


def parts(port: str) -> Any:
    """All models of a bundle. Their own library loads them, so they are counted but not brought ahead."""
    return lambda values: [
        replace(ModelSpec.from_dict(entry), extras={}) for entry in values[port].extras["parts"].values()
    ]


def sampling(values: Values) -> int:
    model = values["model"]
    side = int(model.config.get("sample_size") or 64)
    passes = 1 if float(values.get("guidance") or 7.5) <= 1 else 2
    latent = values.get("latent")
    cells, count = side * side, 1
    if isinstance(latent, Mapping):
        count, _, height, width = latent["samples"].shape
        cells = int(height) * int(width)
    item = DTYPE_BYTES.get(model.dtype, 4)
    layer = passes * int(count) * cells * int(model.config["block_out_channels"][0]) * item
    # What the nets say together stays while the denoiser computes; one net itself takes less than the denoiser.
    said = passes * int(count) * cells * _skips(model.config) * item if specs(values.get("positive")) else 0
    return DENOISER["image"] * layer + round(HELPED * said)


def _skips(config: Mapping[str, Any]) -> float:
    """Channels of all skips and the middle, per cell of the latent; a level further down has a quarter of the cells."""
    channels = config["block_out_channels"]
    layers = config.get("layers_per_block", 2)
    per_level = layers if isinstance(layers, list | tuple) else [layers] * len(channels)
    total = float(channels[0])
    for level, (width, count) in enumerate(zip(channels, per_level, strict=True)):
        resampled = 0.25 if level < len(channels) - 1 else 1  # the last level is followed by the middle
        total += int(width) * (int(count) + resampled) / 4**level
    return total


def autoencoding(values: Values) -> int:
    """One picture at a time, or one tile of it; the size of the latent or the picture, where it is known."""
    vae = values["vae"]
    latent, image = values.get("latent"), values.get("image")
    count, height, width = 1, trained_side(vae.config), trained_side(vae.config)
    if isinstance(latent, Mapping):
        count, _, height, width = latent["samples"].shape
        height, width = int(height) * FACTOR, int(width) * FACTOR
    elif image is not None and hasattr(image, "shape"):
        count, height, width = (int(size) for size in image.shape[:3])
    side = tile_side(vae.config, int(values.get("tile") or 0), bool(values.get("tiled"))) or max(height, width)
    wide = int((vae.config.get("block_out_channels") or [WIDEST])[0])
    once = min(height, side) * min(width, side) * wide * DTYPE_BYTES.get(vae.dtype, 4)
    return round(DECODED * once) + int(count) * height * width * 3 * 4


def tile_side(config: Mapping[str, Any], tile: int, tiled: bool = False) -> int:
    """Pixels on a side of what an autoencoder takes at once; 0 for all. tiled: without `tile`, as it was trained."""
    return tile or (max(SMALLEST_TILE, trained_side(config)) if tiled else 0)


def trained_side(config: Mapping[str, Any]) -> int:
    size = config.get("sample_size") or 512
    return int(size if isinstance(size, int) else max(size))


def filming(values: Values) -> int:
    """Mostly the autoencoder, which has some frames at once at full size, in the types that these pipelines compute with."""
    frames = int(values["frames"])
    pixels = int(values["width"]) * int(values["height"])
    item = DTYPE_BYTES.get(values["model"].dtype, 4)
    return round(DECODED * min(frames, 2 * TOGETHER) * pixels * WIDEST * item) + frames * pixels * 3 * 4
