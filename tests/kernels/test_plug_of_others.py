"""`accelerate_unet` where others have put their hands on the UNet: forwards that were replaced, processors of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from custom_kernels import plug
from custom_kernels.dispatch import KernelError
from custom_kernels.plug import accelerate_unet
from tests.kernels.small_unets import BUILDS, Again, relative, small_unet, start, walk, words

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


# --- weights that come and go ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", BUILDS)
def test_weights_that_come_and_go_because_forwards_were_replaced(build: str) -> None:
    """As accelerate does it: no hooks of torch, but another `forward` on the layer."""
    unet, told = small_unet(build), words(build)
    plain, wrapped = walk(unet, build, told), {}
    for module in unet.modules():
        if not module._parameters:
            continue
        own = {name: p.detach().clone() for name, p in module._parameters.items() if p is not None}

        def forward(*args: Any, layer: Any = module, own: Any = own, inner: Any = module.forward) -> Any:
            for name, tensor in own.items():
                layer._parameters[name].copy_(tensor)
            made = inner(*args)
            for name in own:
                layer._parameters[name].fill_(torch.nan)
            return made

        module.forward = wrapped[module] = forward
        for name in own:
            module._parameters[name].fill_(torch.nan)  # type: ignore[union-attr]
    assert torch.equal(walk(unet, build, told), plain)
    with accelerate_unet(unet, "reference", recorder=Again()) as fast:
        assert relative(walk(unet, build, told), plain) < 1e-5
    assert "attention: reference" in fast.told()
    assert "no CUDA graph: the weights come and go" in fast.told()
    assert all(module.forward is forward for module, forward in wrapped.items())
    assert torch.equal(walk(unet, build, told), plain)


@pytest.mark.parametrize("build", ["image", "video"])
def test_accelerate_keeps_offloading(build: str) -> None:
    accelerate = pytest.importorskip("accelerate")
    unet, told = small_unet(build), words(build)
    plain = walk(unet, build, told)
    accelerate.cpu_offload(unet, execution_device=torch.device("cpu"))
    assert unet.conv_in.weight.device.type == "meta"
    offloaded = unet.__dict__["forward"]
    with accelerate_unet(unet, "reference", recorder=Again(), keep=True) as fast:
        assert relative(walk(unet, build, told), plain) < 1e-5
        with pytest.raises(ValueError, match="accelerated already"):
            accelerate_unet(unet)
    assert "no CUDA graph: the weights come and go" in fast.told()
    assert unet.__dict__["forward"] is offloaded and unet.conv_in.weight.device.type == "meta"
    assert fast.plug is not None and fast.plug.theirs is None
    plug.forget(unet)
    assert torch.equal(walk(unet, build, told), plain)
    with accelerate_unet(unet, "compile", backend="eager"):
        pass
    assert unet.__dict__["forward"] is offloaded


# --- what a ControlNet adds -------------------------------------------------------------------------------------------------


def test_a_step_that_is_given_residuals_is_right_and_no_graph() -> None:
    """Some steps of a loop are helped by a ControlNet, the others are captured as ever."""
    unet, told = small_unet("image"), words("image")
    generator = torch.Generator().manual_seed(5)
    shapes = [(32, 8), (32, 8), (32, 4), (64, 4)]
    down = tuple(torch.randn((2, width, side, side), generator=generator) for width, side in shapes)
    added = {
        "down_block_additional_residuals": down,
        "mid_block_additional_residual": torch.randn((2, 64, 4, 4), generator=generator),
    }

    def loop() -> torch.Tensor:
        state = start("image")
        for index, timestep in enumerate(torch.linspace(900, 100, 9).long()):
            helped = added if index in (1, 2, 6) else {}
            state = state - 0.3 * unet(state, timestep, **told, **helped).sample
        return state

    plain = loop()
    with accelerate_unet(unet, "reference", recorder=Again()) as fast:
        assert relative(loop(), plain) < 1e-5
        assert fast.plug is not None and fast.plug.graphs is not None
        assert fast.plug.graphs.replays > 0, "the steps without are captured"
        assert "takes more" in fast.plug.graphs.refused
    assert relative(walk(unet, "image", {**told, **added}), walk(unet, "image", told)) > 0.05  # type: ignore[arg-type]


# --- what is not ours ---------------------------------------------------------------------------------------------------------


def test_blocks_that_are_left_to_diffusers_get_what_diffusers_gives_them() -> None:
    """Blocks that feed forward in chunks, and processors of others, do not know films."""

    class Another:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return self.inner(*args, **kwargs)

    told = words("video")
    for frames in (1, 3):
        chunked, foreign = small_unet("video"), small_unet("video")
        chunked.enable_forward_chunking(chunk_size=1, dim=1)
        temporal = foreign.down_blocks[0].temp_attentions[0].transformer_blocks[0].attn1
        temporal.processor = Another(temporal.processor)
        state = start("video", frames=frames)
        for unet in (chunked, foreign):
            plain = walk(unet, "video", told, 1, state)
            with accelerate_unet(unet, "auto"):
                assert relative(walk(unet, "video", told, 1, state), plain) < 1e-5
    before = [sorted(module.__dict__) for module in foreign.modules()]
    with pytest.raises(
        KernelError, match=r"kernels='sdpa' cannot compute down_blocks\.0\.temp.*its processor is Another"
    ):
        accelerate_unet(foreign, "sdpa")
    assert before == [sorted(module.__dict__) for module in foreign.modules()]
