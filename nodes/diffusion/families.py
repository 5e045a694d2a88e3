"""The model families of this pack, for `graph_engine.models`. Sizes come from a folder's own config.json or from shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graph_engine.models.catalog import Family

UNET = "diffusion.unet"
VAE = "diffusion.vae"
TEXT = "diffusion.text_encoder"
SECOND_TEXT = "diffusion.text_encoder_2"
CLIP = "diffusion.clip"
DECODER = "diffusion.image_decoder"
PART = "diffusion.part"
"""Any model of diffusers or transformers, built and filled by its library from its own folder (see `bundle.py`)."""


def architecture(unet: Mapping[str, Any]) -> str:
    """The row of `architecture.py` that a denoiser of diffusers belongs to."""
    if unet.get("addition_embed_type") == "text_time":
        return "sdxl"
    return "sd2" if unet.get("use_linear_projection") else "sd1"


def _unet(config: Mapping[str, Any]) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel.from_config(dict(config))


def _unet_state(state: Mapping[str, Any]) -> dict[str, Any]:
    from nodes.diffusion.model.ldm import unet_state

    return unet_state(state)


def _vae(config: Mapping[str, Any]) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL.from_config(dict(config))


def _vae_state(state: Mapping[str, Any]) -> dict[str, Any]:
    from nodes.diffusion.model.ldm import vae_state

    return vae_state(state)


def _text(config: Mapping[str, Any]) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(CLIPTextConfig(**config))


def _text_state(state: Mapping[str, Any]) -> dict[str, Any]:
    from nodes.diffusion.model.ldm import text_state

    return text_state(state)


def _second_text(config: Mapping[str, Any]) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    return CLIPTextModelWithProjection(CLIPTextConfig(**config))


def _second_text_state(state: Mapping[str, Any]) -> dict[str, Any]:
    from nodes.diffusion.model.ldm import second_text_state

    return second_text_state(state)


def _positions(module: Any) -> None:
    """CLIP counts its positions in a buffer that no file holds."""
    import torch

    embeddings = getattr(module, "text_model", module).embeddings
    table = embeddings.position_embedding.weight
    embeddings.position_ids = torch.arange(table.shape[0], device=table.device)[None]


def _decoder(config: Mapping[str, Any]) -> Any:
    """Denoiser and autoencoder under one roof, as NExT-GPT's decode nodes drive them."""
    from nodes.nextgpt.model.diffusion_config import DiffusionConfig
    from nodes.nextgpt.model.image_decoder import ImageDecoder

    return ImageDecoder(DiffusionConfig.from_json(config))


def _decoder_state(state: Mapping[str, Any]) -> dict[str, Any]:
    from nodes.diffusion.model.ldm import decoder_state

    return decoder_state(state)


def _load_part(spec: Any, device: str) -> Any:
    from nodes.diffusion.bundle import load_part

    return load_part(spec, device)


FAMILIES: tuple[Family, ...] = (
    Family(UNET, _unet, rename=_unet_state),
    Family(VAE, _vae, rename=_vae_state),
    Family(TEXT, _text, _positions, _text_state),
    Family(SECOND_TEXT, _second_text, _positions, _second_text_state),
    Family(DECODER, _decoder, rename=_decoder_state),
    Family(PART, dict, load=_load_part),
)
