"""Whole UNets with every Triton kernel, in Triton's interpreter: the pictures of diffusers."""

from __future__ import annotations

import copy

import pytest
import torch

from custom_kernels import device
from custom_kernels.plug import accelerate_unet
from tests.kernels.small_unets import BUILDS, Again, answer, relative, small_unet, start, walk, words

pytestmark = pytest.mark.skipif(not device.interpreting(), reason="needs TRITON_INTERPRET=1")
BY_TRITON = ("add_bias", "add_layer_norm", "attention", "geglu", "group_norm_silu")


@pytest.mark.law("P12")
@pytest.mark.parametrize(
    ("build", "dtype", "most"),
    [
        *((build, torch.float32, 1e-5) for build in BUILDS),
        ("image", torch.float16, 5e-3),
        *((build, torch.bfloat16, 2e-2) for build in BUILDS),
    ],
)
@torch.no_grad()
def test_a_step_is_that_of_diffusers(build: str, dtype: torch.dtype, most: float) -> None:
    """Held to what float32 makes of the same rounded weights; plain diffusers is as far from that (1e-3, 1e-2)."""
    unet = small_unet(build)
    torch.nn.Module.to(unet, dtype)
    told, state = words(build, 1, dtype=dtype), start(build, 1, 4, 2, dtype=dtype)
    wide = torch.nn.Module.to(copy.deepcopy(unet), torch.float32)
    truth = answer(wide, build, {name: tensor.float() for name, tensor in told.items()}, state.float())
    with accelerate_unet(unet, "triton") as fast:
        found = answer(unet, build, told, state)
    assert found.dtype == dtype and relative(found, truth) < most
    assert fast.plug is not None
    for operation in (*BY_TRITON, *(["frame_attention"] if build == "video" else [])):
        assert {name for op, name in fast.plug.ran if op == operation} == {"triton"}


@pytest.mark.law("P12")
@torch.no_grad()
def test_a_run_of_several_steps_draws_the_same_picture() -> None:
    """What is kept between steps, what is replayed, guidance with a batch of two, half precision."""
    unet = small_unet("image")
    torch.nn.Module.to(unet, torch.float16)
    told, state = words("image", dtype=torch.float16), start("image", 2, 4, dtype=torch.float16)
    plain = walk(unet, "image", told, 2, state)
    with accelerate_unet(unet, "triton", recorder=Again()) as fast:
        found = walk(unet, "image", told, 2, state)
    assert "1 of 2 steps" in fast.told()
    spread = float(plain.max() - plain.min())
    error = (found.float() - plain.float()).square().mean().sqrt()
    assert 20 * torch.log10(spread / error) >= 50
