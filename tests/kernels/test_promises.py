"""What docs/performance.md says of those who are no UNet: who computes ImageBind's attention, what a preview costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nodes.nextgpt import denoise
from nodes.nextgpt.decode_audio import sample_audio
from nodes.nextgpt.decode_image import sample_image
from nodes.nextgpt.decode_video import sample_video
from nodes.nextgpt.load import load_decoder
from nodes.nextgpt.model.imagebind import ImageBind
from nodes.nextgpt.model.imagebind_config import ImageBindConfig
from tests.contexts import ModelsContext

torch.set_num_threads(1)


@torch.no_grad()
def test_all_attention_of_imagebind_goes_through_the_function_that_picks_a_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = ImageBind(ImageBindConfig.tiny()).eval()
    calls = 0
    attend = torch.nn.functional.scaled_dot_product_attention

    def counted(*args: Any, **kwargs: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return attend(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    for modality, shape in (("vision", (1, 3, 224, 224)), ("audio", (1, 1, 128, 204))):
        calls = 0
        model.encode(modality, torch.rand(shape))  # type: ignore[arg-type]
        assert calls == len(model.modality_trunks[modality].blocks) > 0


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(
    ("modality", "sample", "size"),
    [
        ("image", sample_image, {"width": 32, "height": 32}),
        ("video", sample_video, {"width": 16, "height": 16, "frames": 2}),
        ("audio", sample_audio, {"seconds": 0.3}),
    ],
)
def test_previews_do_without_the_autoencoder(
    modality: str, sample: Any, size: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ModelsContext(tmp_path)
    decoder = load_decoder(context, "tiny", modality)

    def never(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a preview was decoded")

    monkeypatch.setattr(denoise, "PREVIEW_EVERY_S", 0.0)
    for name in ("decode", "forward"):
        monkeypatch.setattr(context.model(decoder).vae, name, never)
    shape = decoder.config["condition"]
    condition = torch.zeros(1, *(shape if len(shape) > 1 else (1, *shape)))
    sample(context, [(condition, {})], decoder, steps=3, guidance=3.0, seed=4, **size)
    assert [(data[:4], kind) for data, kind in context.previews] == [(b"\x89PNG", "image/png")] * 2
