"""What nodes say that they take beside their models, against what fake tensors of the true sizes count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from graph_engine.models.spec import ModelSpec
from nodes.nextgpt import working
from nodes.nextgpt.families import FAMILIES, trunk_family
from nodes.nextgpt.model.diffusion_config import DiffusionConfig
from nodes.nextgpt.model.language import LanguageConfig
from nodes.nextgpt.preset import PRESETS
from tests.live_bytes import peak_bytes

HALF = torch.float16
BUILD = {family.name: family.build for family in FAMILIES}
SD, ZEROSCOPE, SOUND = DiffusionConfig.sd15(), DiffusionConfig.zeroscope_576w(), DiffusionConfig.audioldm_l()
PARTS = PRESETS["nextgpt-7b-tiva-v0"].parts


def spec(config: Any, family: str = "x") -> ModelSpec:
    return ModelSpec(family, config if isinstance(config, dict) else config.to_json(), dtype="float16")


def half(*shape: int) -> torch.Tensor:
    return torch.empty(*shape, dtype=HALF)


def decoder(config: DiffusionConfig) -> Callable[[], Any]:
    return lambda: BUILD[f"nextgpt.{config.modality}_decoder"](config.to_json())


def close(counted: int, stated: int) -> None:
    """Never too little, and not much too much."""
    assert counted <= stated <= 1.35 * counted, f"counted {counted:,}, stated {stated:,}"


def test_denoising() -> None:
    counted = peak_bytes(
        decoder(SD),
        lambda m: m.unet(half(2, 4, 64, 64), 1, encoder_hidden_states=half(2, 77, 768)).sample,
        HALF,
    )
    close(counted, working.denoising({"decoder": spec(SD), "width": 512, "height": 0}))
    assert working.denoising({"decoder": spec(SD), "width": 1024}) == 2 * working.denoising({"decoder": spec(SD)})
    assert working.denoising({"decoder": spec(SD), "guidance": 1.0}) * 2 == working.denoising({"decoder": spec(SD)})


def test_denoising_of_a_film() -> None:
    counted = peak_bytes(
        decoder(ZEROSCOPE),
        lambda m: m.unet(half(2, 4, 8, 40, 72), 1, encoder_hidden_states=half(2, 77, 1024)).sample,
        HALF,
    )
    close(counted, working.denoising({"decoder": spec(ZEROSCOPE), "frames": 8}))


def test_denoising_of_a_sound() -> None:
    counted = peak_bytes(
        decoder(SOUND),
        lambda m: m.unet(half(2, 8, 250, 16), 1, encoder_hidden_states=None, class_labels=half(2, 512)).sample,
        HALF,
    )
    close(counted, working.denoising({"decoder": spec(SOUND), "seconds": 10.0}))


def test_decoding_and_encoding_pictures() -> None:
    counted = peak_bytes(decoder(SD), lambda m: m.vae.decode(half(1, 4, 64, 64)).sample, HALF)
    close(counted, working.decoding({"decoder": spec(SD)}))
    counted = peak_bytes(decoder(SD), lambda m: m.vae.encode(half(1, 3, 512, 512)).latent_dist.mean, HALF)
    close(counted, working.encoding({"decoder": spec(SD)}))


def test_a_film_is_decoded_a_few_frames_at_a_time() -> None:
    few, many = (working.decoding({"decoder": spec(ZEROSCOPE), "frames": frames}) for frames in (4, 48))
    assert many - few == 44 * 320 * 576 * 12, "only the finished frames grow"


def test_reading_a_film() -> None:
    encoder = PARTS["encoder"].config()
    counted = peak_bytes(
        lambda: BUILD[trunk_family("vision")]({**encoder, "modalities": ["vision"]}),
        lambda m: m.encode("vision", half(1, 15, 3, 2, 224, 224), kind="global", scale=False, apart=1),
        HALF,
    )
    close(counted, working.reading("video")({"encoder": spec(encoder)}))


def test_speaking() -> None:
    """A prompt of 700 tokens: one pass over it, and the cache as long as the answer makes it."""
    config = LanguageConfig.tiny(1024, layers=4)
    counted = peak_bytes(
        lambda: BUILD["nextgpt.language_model"](config.to_json()),
        lambda m: m.causal(inputs_embeds=half(1, 700, 1024), use_cache=True, **m.last_logits_only).past_key_values,
        HALF,
    )
    text = "x" * 2 * (700 - 64 - 16)
    conversation = [{"role": "user", "parts": [{"type": "text", "text": text}]}]
    values = {"model": spec(config), "conversation": conversation, "max_new_tokens": 1}
    close(counted, working.speaking(values))
    grown = working.speaking({**values, "max_new_tokens": 101}) - working.speaking(values)
    assert grown == 100 * (4 * 2 * 1024 * 2 + 8 * 1024), "keys and values of four layers, and states that are kept"


@pytest.mark.parametrize("function", [working.denoising, working.decoding, working.speaking, working.reading("image")])
def test_what_has_not_arrived_is_not_guessed(function: Callable[[Any], int]) -> None:
    with pytest.raises(KeyError):
        function({"steps": 3})
