"""Small UNets of the three builds, whose layers are those of the large ones, and how to run a few steps of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

BUILDS = ("image", "video", "audio")


class Again:
    """Stands for a recorder of CUDA graphs: a replay computes again, into the tensor of the first time."""

    held_bytes = 0

    def record(self, run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        result = run()

        def replay() -> None:
            result.copy_(run())

        return replay, result

    def let_go(self) -> None:
        pass


def small_unet(build: str, seed: int = 0, **changes: Any) -> Any:
    """Head dims of 32, two levels, one layer per block. The temporal convolutions are no identity, as trained ones."""
    from diffusers import UNet2DConditionModel, UNet3DConditionModel

    shape: dict[str, Any] = {
        "block_out_channels": [32, 64],
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "sample_size": 8,
        "attention_head_dim": [1, 2],
        "cross_attention_dim": 24,
        **changes,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if build == "video":
            unet = UNet3DConditionModel(
                **{
                    **shape,
                    "attention_head_dim": 32,
                    "down_block_types": ["CrossAttnDownBlock3D", "DownBlock3D"],
                    "up_block_types": ["UpBlock3D", "CrossAttnUpBlock3D"],
                }
            )
            for name, parameter in unet.named_parameters():
                if ".conv4." in name:
                    torch.nn.init.normal_(parameter, std=0.05)
        elif build == "audio":
            unet = UNet2DConditionModel(
                **{
                    **shape,
                    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
                    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
                    "cross_attention_dim": [32, 64],
                    "class_embed_type": "simple_projection",
                    "projection_class_embeddings_input_dim": 16,
                    "class_embeddings_concat": True,
                }
            )
        else:
            unet = UNet2DConditionModel(
                **{
                    **shape,
                    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
                    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
                }
            )
    return unet.eval().requires_grad_(False)


def start(build: str, batch: int = 2, side: int = 8, frames: int = 3, dtype: torch.dtype = torch.float32) -> Tensor:
    shape = (batch, 4, frames, side, side) if build == "video" else (batch, 4, side, side)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)


def words(build: str, batch: int = 2, seed: int = 2, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """What the UNet is told: rows of words, or one vector."""
    generator = torch.Generator().manual_seed(seed)
    if build == "audio":
        return {"class_labels": torch.randn((batch, 16), generator=generator).to(dtype)}
    return {"encoder_hidden_states": torch.randn((batch, 7, 24), generator=generator).to(dtype)}


def walk(unet: Any, build: str, told: dict[str, Tensor], steps: int = 3, state: Tensor | None = None) -> Tensor:
    """A few steps of something like a denoising loop, over timesteps of one tensor."""
    state = start(build) if state is None else state
    given: dict[str, Any] = {"encoder_hidden_states": None, **told}
    for timestep in torch.linspace(900, 100, steps).long():
        state = state - 0.3 * unet(state, timestep, **given).sample
    return state


def answer(unet: Any, build: str, told: dict[str, Tensor], state: Tensor | None = None) -> Tensor:
    """What the UNet itself says at one step: in a walk the state, which is much larger, hides nine tenths of its error."""
    state = start(build) if state is None else state
    given: dict[str, Any] = {"encoder_hidden_states": None, **told}
    answer: Tensor = unet(state, torch.linspace(900, 100, 3).long()[1], **given).sample
    return answer


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())
