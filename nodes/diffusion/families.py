"""The model families of this pack, for `graph_engine.models`. Sizes come from a folder's own config.json or from shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graph_engine.models.catalog import Family
from graph_engine.models.spec import ModelSpec
from nodes.nextgpt.graphs import GRAPHS
from nodes.nextgpt.kernels import layout

UNET = "diffusion.unet"
VAE = "diffusion.vae"
TEXT = "diffusion.text_encoder"
SECOND_TEXT = "diffusion.text_encoder_2"
CLIP = "diffusion.clip"
CONTROLNET = "diffusion.controlnet"
DECODER = "diffusion.image_decoder"
PART = "diffusion.part"
"""Any model of diffusers, by its own settings (see `part.py`)."""
MOTION = "diffusion.motion_unet"
T5 = "diffusion.t5_encoder"
LIBRARY = "diffusion.library_part"
"""A model that transformers builds and fills, from its own folder."""


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


def _controlnet(config: Mapping[str, Any]) -> Any:
    from diffusers import ControlNetModel

    return ControlNetModel.from_config(dict(config))


def _controlnet_state(state: Mapping[str, Any]) -> dict[str, Any]:
    from nodes.diffusion.model.ldm import controlnet_state

    return controlnet_state(state)


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


def _part(config: Mapping[str, Any]) -> Any:
    from nodes.diffusion.part import build_part

    return build_part(config)


def _part_state(state: Mapping[str, Any], spec: ModelSpec) -> dict[str, Any]:
    from nodes.diffusion.part import part_state

    return part_state(state, spec)


def _motion(config: Mapping[str, Any]) -> Any:
    from nodes.diffusion.part import build_motion

    return build_motion(config)


def _motion_state(state: Mapping[str, Any], spec: ModelSpec) -> dict[str, Any]:
    from nodes.diffusion.part import motion_state

    return motion_state(state, spec)


def _t5(config: Mapping[str, Any]) -> Any:
    from nodes.diffusion.part import build_t5

    return build_t5(config)


def _t5_state(module: Any, state: Mapping[str, Any]) -> dict[str, Any]:
    from nodes.diffusion.part import t5_state

    return t5_state(module, state)


def _library(config: Mapping[str, Any]) -> Any:
    from nodes.diffusion.part import build_library

    return build_library(config)


def _load_library(spec: ModelSpec, device: str) -> Any:
    from nodes.diffusion.part import load_library

    return load_library(spec, device)


FAMILIES: tuple[Family, ...] = (
    Family(UNET, _unet, rename=_unet_state, layout=layout, beside=GRAPHS),
    Family(CONTROLNET, _controlnet, rename=_controlnet_state),
    Family(VAE, _vae, rename=_vae_state),
    Family(TEXT, _text, _positions, _text_state),
    Family(SECOND_TEXT, _second_text, _positions, _second_text_state),
    Family(DECODER, _decoder, rename=_decoder_state, layout=layout, beside=GRAPHS),
    Family(PART, _part, fold=_part_state),
    Family(MOTION, _motion, fold=_motion_state),
    Family(T5, _t5, fit=_t5_state),
    Family(LIBRARY, _library, load=_load_library),
)
