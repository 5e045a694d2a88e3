"""The denoisers that `tests.bench.unets` measures, at their true sizes with random weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from graph_engine.memory.absent import put
from graph_engine.memory.blocks import pack
from graph_engine.memory.mover import carve, offsets
from graph_engine.models.sources import Source
from nodes.nextgpt.model.diffusion_config import DiffusionConfig
from nodes.nextgpt.model.image_decoder import decode_cells
from nodes.nextgpt.model.sampling import frames_of


@dataclass(frozen=True)
class Model:
    """A denoiser, and what its step is given. Batch 2: with words and without."""

    name: str
    config: DiffusionConfig
    latent: tuple[int, ...]
    bars: dict[str, float] = field(default_factory=dict)
    """How many times as fast as a way `ours+graph` must be; "compiled" is the best of `COMPILED`."""

    def build(self, device: torch.device, dtype: torch.dtype) -> Any:
        """With random weights that keep the size of what passes through."""
        from diffusers import UNet2DConditionModel, UNet3DConditionModel

        kind: Any = UNet3DConditionModel if self.config.modality == "video" else UNet2DConditionModel
        with torch.device("meta"):
            unet = kind(**self.config.unet)
        nn.Module.to(unet, dtype)
        return randomised(unet, device)

    def told(self, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
        shape = (2, *self.config.condition)
        words = rounded(torch.randn(shape, generator=torch.Generator().manual_seed(1))).to(device, dtype)
        if self.config.modality == "audio":
            return {"encoder_hidden_states": None, "class_labels": words}
        return {"encoder_hidden_states": words}

    def drawn(self, latents: Tensor, device: torch.device) -> Tensor:
        """What the autoencoder makes of latents "1 C *": pictures or frames "N H W 3" in 0..1, or a spectrogram "1 H W 1".

        In float32 on `device`, so that nothing but the latents makes a difference, with random weights that are the same
        every time. Of the right size they give what is as rich in contrast as a photograph, and they pass on a relative
        difference of the latents much as it is: the last norm takes the scale out.
        """
        from diffusers import AutoencoderKL

        with torch.device("meta"):
            vae: Any = AutoencoderKL(**self.config.vae)
        vae.encoder = None
        vae = randomised(vae, device)
        scale = float(self.config.vae["scaling_factor"])
        cells = latents.to(device, torch.float32)
        if self.config.modality == "audio":
            return vae.decode(cells / scale).sample.permute(0, 2, 3, 1).cpu()
        return decode_cells(vae, scale, frames_of(cells), 1, None).cpu()


def randomised(module: Any, device: torch.device) -> Any:
    """A module on the meta device, on `device` and with weights that keep the size of what passes through."""
    lay_in_blocks(module, device)
    generator = torch.Generator(device).manual_seed(0)
    for parameter in module.parameters():
        if parameter.ndim > 1:
            fan_in = parameter[0].numel()
            parameter.data.normal_(0, fan_in**-0.5, generator=generator)
        else:  # not 0: where a bias goes is what a fused kernel gets wrong
            parameter.data.normal_(0, 0.02, generator=generator)
    for norm in module.modules():
        if isinstance(norm, nn.GroupNorm | nn.LayerNorm):
            norm.weight.data.normal_(1, 0.1, generator=generator)
    return module.eval().requires_grad_(False)


def lay_in_blocks(
    module: Any, device: torch.device, strides: Mapping[str, tuple[int, ...]] = MappingProxyType({})
) -> None:
    """Lay weights as the pool does that brings a model to a device: many layers in one piece of memory, which is there as long
    as one of them is. Whoever lays one of them elsewhere has it twice. Values stay; those of the meta device are undefined.

    strides: by the names of weights; the others lie in the order of their shapes.
    """
    for block in pack(module):
        places = [
            (module.get_submodule(layer), name, tensor, strides.get(f"{layer}.{name}"))
            for layer in block.layers
            for name, tensor in _tensors(module.get_submodule(layer))
        ]
        sources = [Source(name, tuple(tensor.shape), tensor.dtype, strides=laid) for _, name, tensor, laid in places]
        begins, size = offsets(sources)
        room = torch.empty(size, dtype=torch.uint8, device=device)
        for (layer, name, tensor, _), placed in zip(places, carve(room, sources, begins), strict=True):
            if not tensor.is_meta:
                placed.copy_(tensor)
            put(layer, name, nn.Parameter(placed, False) if isinstance(tensor, nn.Parameter) else placed)


def _tensors(layer: Any) -> list[tuple[str, Tensor]]:
    entries = (*layer._parameters.items(), *layer._buffers.items())
    return [(name, tensor) for name, tensor in entries if tensor is not None]


def models(small: bool) -> list[Model]:
    if small:
        tiny = {name: DiffusionConfig.tiny(name) for name in ("image", "video", "audio")}  # type: ignore[arg-type]
        return [
            Model("sd15", tiny["image"], (2, 4, 8, 8)),
            Model("zeroscope", tiny["video"], (2, 4, 3, 4, 4)),
            Model("audioldm", tiny["audio"], (2, 8, 8, 16)),
        ]
    return [
        Model("sd15", DiffusionConfig.sd15(), (2, 4, 64, 64), {"eager": 3.0, "compiled": 1.1}),
        Model("audioldm", DiffusionConfig.audioldm_l(), (2, 8, 250, 16), {"eager": 4.0}),
        Model("zeroscope", DiffusionConfig.zeroscope_576w(), (2, 4, 24, 40, 72), {"eager": 1.25, "compiled": 1.05}),
        Model("sd2", DiffusionConfig.sd2(), (2, 4, 96, 96)),
    ]


def rounded(tensor: Tensor) -> Tensor:
    """To what bfloat16 can hold, so that all types compute from the same."""
    return tensor.bfloat16().float()
