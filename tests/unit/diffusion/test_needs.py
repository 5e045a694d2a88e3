"""What the nodes of other generators say that they use: the models under their own keys, and bytes that follow the size."""

from __future__ import annotations

from typing import Any

import torch

from graph_engine.memory.reservations import models_of, stated_bytes
from graph_engine.models.spec import ModelSpec
from nodes.diffusion.caption import caption
from nodes.diffusion.film import generate_video
from nodes.diffusion.latent import vae_decode, vae_encode
from nodes.diffusion.sample import sample
from nodes.diffusion.text import encode_text

UNET = ModelSpec("diffusion.unet", {"block_out_channels": [320, 640], "sample_size": 64}, (), "float16", {"name": "x"})
VAE = ModelSpec("diffusion.vae", {"block_out_channels": [128, 256], "sample_size": 512}, (), "float16", {"name": "x"})


def type_of(function: Any) -> Any:
    return function.node_type


def latent(count: int, side: int) -> dict[str, Any]:
    return {"samples": torch.zeros(count, 4, side, side), "modality": "image"}


def test_a_model_is_the_one_that_is_leased_without_what_only_nodes_want_to_know() -> None:
    (found,) = models_of(type_of(sample), {}, {"model": UNET})
    assert found.extras == {} and (found.family, found.config) == (UNET.family, UNET.config)
    assert found.key != UNET.key
    parts = {"unet/": UNET.to_dict(), "vae/": VAE.to_dict()}
    bundle = ModelSpec("diffusion.pipeline", {"kind": "x"}, (), "float16", {"parts": parts})
    assert [spec.family for spec in models_of(type_of(caption), {}, {"model": bundle})] == [UNET.family, VAE.family]
    clip = ModelSpec("diffusion.clip", {}, (), "float16", {"encoders": [UNET.to_dict()]})
    assert [spec.extras for spec in models_of(type_of(encode_text), {}, {"clip": clip})] == [{}]
    assert models_of(type_of(sample), {}, {"model": None}) == [], "it will refuse that itself"


def test_bytes_follow_the_size_of_what_has_arrived() -> None:
    known = stated_bytes(type_of(sample), {"model": UNET, "guidance": 7.5, "latent": latent(1, 64)})
    assert known == stated_bytes(type_of(sample), {"model": UNET, "guidance": 7.5}), "else what it was trained for"
    assert 130e6 < known < 160e6, "as counted for SD 1.5 at 512 x 512"
    assert stated_bytes(type_of(sample), {"model": UNET, "guidance": 7.5, "latent": latent(2, 128)}) == 8 * known
    assert 2 * stated_bytes(type_of(sample), {"model": UNET, "guidance": 1.0}) == known
    decoded = stated_bytes(type_of(vae_decode), {"vae": VAE, "latent": latent(1, 64)})
    assert 400e6 < decoded < 450e6
    picture = torch.zeros(1, 512, 512, 3)
    assert stated_bytes(type_of(vae_encode), {"vae": VAE, "image": picture}) == decoded
    film = {"frames": 16, "width": 512, "height": 512, "model": UNET}
    assert stated_bytes(type_of(generate_video), film) > 8 * decoded * 0.9


def test_what_nobody_knows_yet_is_nothing() -> None:
    for function in (sample, vae_decode, generate_video):
        assert stated_bytes(type_of(function), {}) == 0
