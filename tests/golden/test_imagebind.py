"""ImageBind against outputs of the original code (see data/README.md)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from nodes.nextgpt.model.imagebind import TEXT_MASK_KEY, ImageBind, published_state
from nodes.nextgpt.model.imagebind_config import ImageBindConfig
from tests.golden import parity

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("error")

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return {key: value.float() for key, value in load_file(DATA / parity.WEIGHTS).items()}


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(DATA / parity.IO)


@pytest.fixture(scope="module")
def encoder() -> ImageBind:
    return parity.load_encoder(DATA)


@pytest.fixture(scope="module")
def checks() -> parity.Checks:
    return parity.imagebind_checks(DATA)


@pytest.mark.parametrize("flavour", ["legacy", "patch"])
@pytest.mark.parametrize("name", ["vision", "video", "text", "audio", "depth", "thermal", "imu"])
def test_encode_equals_the_original(checks: parity.Checks, name: str, flavour: str) -> None:
    assert checks[f"imagebind {flavour}.{name}"]() < parity.TOLERANCE


def test_nothing_stays_on_meta(encoder: ImageBind) -> None:
    tensors = [*encoder.parameters(), *encoder.buffers()]
    assert len(tensors) == len(encoder.state_dict())  # so every tensor comes from the file
    assert not any(tensor.is_meta for tensor in tensors)


def test_the_golden_sizes_are_those_of_tiny(encoder: ImageBind) -> None:
    assert encoder.config == ImageBindConfig.tiny()


def test_the_stored_mask_is_accepted_and_ignored(weights: dict[str, Tensor], golden: dict[str, Tensor]) -> None:
    config = ImageBindConfig.tiny(["text"])
    mask = torch.full((77, 77), float("-inf")).triu(1)
    stored = published_state(weights, ["text"])
    with_mask, without = ImageBind(config), ImageBind(config)
    with_mask.load_state_dict({**stored, TEXT_MASK_KEY: mask}, strict=True)
    without.load_state_dict(stored, strict=True)
    ids = golden["input.text"]
    torch.testing.assert_close(with_mask.encode("text", ids), without.encode("text", ids), rtol=0, atol=0)


def test_a_selection_of_trunks_loads_from_the_whole_file(weights: dict[str, Tensor], golden: dict[str, Tensor]) -> None:
    whole = {**weights, TEXT_MASK_KEY: torch.zeros(77, 77)}
    encoder = ImageBind(ImageBindConfig.tiny(["vision", "audio"])).eval()
    encoder.load_state_dict(published_state(whole, ["vision", "audio"]), strict=True)
    assert TEXT_MASK_KEY in whole  # a pure function
    with torch.no_grad():
        ours = encoder.encode("audio", golden["input.audio"].float())
    assert parity.relative_error(ours[:, 0], golden["output.legacy.audio"]) < parity.TOLERANCE


def test_a_foreign_entry_is_reported(weights: dict[str, Tensor]) -> None:
    encoder = ImageBind(ImageBindConfig.tiny())
    with pytest.raises(RuntimeError, match="llama_proj"):
        encoder.load_state_dict({**published_state(weights), "llama_proj.weight": torch.zeros(1)}, strict=True)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 5e-3), (torch.bfloat16, 4e-2)])
def test_half_precision_is_close(
    weights: dict[str, Tensor], golden: dict[str, Tensor], dtype: torch.dtype, tolerance: float
) -> None:
    encoder = ImageBind(ImageBindConfig.tiny(["vision", "text"])).to(dtype).eval()
    encoder.load_state_dict(published_state(weights, ["vision", "text"]))
    with torch.no_grad():
        image = encoder.encode("vision", golden["input.vision"].float(), kind="patch")
        text = encoder.encode("text", golden["input.text"], scale=True)
    assert image.dtype == text.dtype == dtype
    assert parity.relative_error(image.float(), golden["output.patch.vision"]) < tolerance
    assert parity.relative_error(text[:, 0].float(), golden["output.legacy.text"]) < tolerance
