"""The widget `kernels`: on a CPU nothing changes, what was asked for is done and told, what cannot be done is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from custom_kernels import device, dispatch
from graph_engine.errors import Cancelled, NodeError
from nodes.diffusion.sample import sample as diffusion_sample
from nodes.nextgpt import kernels as kernels_module
from nodes.nextgpt.decode_audio import sample_audio
from nodes.nextgpt.decode_image import sample_image
from nodes.nextgpt.decode_video import sample_video
from nodes.nextgpt.kernels import with_kernels
from nodes.nextgpt.load import load_decoder
from nodes.nextgpt.modality import SPOKEN
from nodes.nextgpt.upscale_video import upscale_video
from tests.contexts import ModelsContext

torch.set_num_threads(1)
# diffusers hands torch tensors to numpy in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
NODES = {"image": sample_image, "video": sample_video, "audio": sample_audio}
SMALL: dict[str, dict[str, Any]] = {
    "image": {"width": 32, "height": 32},
    "video": {"width": 16, "height": 16, "frames": 2},
    "audio": {"seconds": 0.3},
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> ModelsContext:
    return ModelsContext(tmp_path_factory.mktemp("kernels"))


@pytest.fixture
def context(shared: ModelsContext) -> ModelsContext:
    shared.logged.clear()
    return shared


def made(context: ModelsContext, modality: str, **options: Any) -> torch.Tensor:
    decoder = load_decoder(context, "tiny", modality)
    shape = decoder.config["condition"]
    condition = torch.randn(
        (1, *(shape if len(shape) > 1 else (1, *shape))), generator=torch.Generator().manual_seed(3)
    )
    given = {"steps": 2, "guidance": 3.0, "seed": 4, **SMALL[modality], **options}
    return NODES[modality](context, [(condition, {})], decoder, **given)["samples"]


def plain(context: ModelsContext, modality: str) -> torch.Tensor:
    """By the decoder's own module alone."""
    decoder = load_decoder(context, "tiny", modality)
    shape = decoder.config["condition"]
    condition = torch.randn(
        (1, *(shape if len(shape) > 1 else (1, *shape))), generator=torch.Generator().manual_seed(3)
    )
    size = {"image": {"size": (32, 32)}, "video": {"size": (16, 16), "frames": 2}, "audio": {"seconds": 0.3}}[modality]
    module = context.model(decoder)
    samples = SPOKEN[modality].implementation().sample(module, condition, steps=2, guidance=3.0, seed=4, **size)
    return samples.float()


@pytest.mark.parametrize("modality", SPOKEN)
def test_on_a_cpu_auto_is_diffusers_to_the_bit_and_others_are_near(context: ModelsContext, modality: str) -> None:
    wanted = plain(context, modality)
    assert torch.equal(made(context, modality), wanted)
    assert context.logged == []
    for kernels, says in (("reference", "attention: reference"), ("sdpa", "attention: sdpa")):
        context.logged.clear()
        near = made(context, modality, kernels=kernels)
        assert (near - wanted).norm() / wanted.norm() < 1e-4
        [line] = context.logged
        assert line.startswith("Denoised with ") and says in line
    # Afterwards everything is as before.
    assert torch.equal(made(context, modality), wanted)


@pytest.fixture
def outside_tests(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As people have it: Triton's interpreter is off."""
    monkeypatch.setattr(device, "interpreting", lambda: False)
    dispatch.forget()
    yield
    monkeypatch.undo()
    dispatch.forget()


@pytest.mark.usefixtures("outside_tests")
@pytest.mark.parametrize(("kernels", "why"), [("triton", "CUDA device"), ("xformers", "xformers")])
def test_what_this_device_cannot_do_is_refused_with_a_remedy(context: ModelsContext, kernels: str, why: str) -> None:
    with pytest.raises(NodeError) as told:
        made(context, "image", kernels=kernels)
    error = told.value.problem
    assert (error.code, error.port) == ("kernels_unavailable", "kernels")
    assert why in error.message and "Set kernels to auto" in error.remedy
    assert torch.equal(made(context, "image"), plain(context, "image"))


def test_a_decoder_without_such_a_unet_takes_auto_only(context: ModelsContext) -> None:
    assert with_kernels(context, None, "auto", lambda: 5) == 5
    with pytest.raises(NodeError, match="no UNet of diffusers"):
        with_kernels(context, torch.nn.Linear(2, 2), "reference", lambda: 5)


def test_where_automatic_kernels_break_down_the_work_is_done_without(
    context: ModelsContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    unet = context.model(load_decoder(context, "tiny", "image")).unet
    monkeypatch.setattr(context, "device", "cuda:0")
    calls: list[bool] = []

    def breaks() -> str:
        calls.append("forward" in unet.__dict__)
        if calls[-1]:
            raise RuntimeError("no C compiler")
        return "drawn"

    assert with_kernels(context, unet, "auto", breaks) == "drawn"
    assert calls == [True, False]
    assert context.logged == ["The kernels failed (RuntimeError: no C compiler); denoising again without them."]
    # What others would meet as well is not tried again, nor what was asked for by name.
    for error in (Cancelled(), ValueError("no"), torch.OutOfMemoryError("full")):
        assert not kernels_module.is_kernels_fault(error)

    def stops() -> str:
        calls.append(True)
        raise RuntimeError("no C compiler")

    calls.clear()
    with pytest.raises(RuntimeError, match="no C compiler"):
        with_kernels(context, unet, "reference", stops)
    assert calls == [True]
    assert "forward" not in unet.__dict__


def test_every_node_that_denoises_has_the_widget() -> None:
    from nodes.nextgpt.decode_audio import decode_audio
    from nodes.nextgpt.decode_image import decode_image
    from nodes.nextgpt.decode_video import decode_video

    for function in (*NODES.values(), decode_image, decode_video, decode_audio, upscale_video, diffusion_sample):
        port = next(port for port in function.node_type.inputs if port.name == "kernels")
        assert port.default == "auto"
        assert port.widget is not None
        assert tuple(port.widget.options) == ("auto", "triton", "sdpa", "xformers", "reference")
