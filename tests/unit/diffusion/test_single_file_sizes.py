"""What is detected of a single file of published size, on the meta device: the published configuration and no other."""

from types import SimpleNamespace

import pytest
import torch

from nodes.diffusion.families import FAMILIES
from nodes.diffusion.single_file import detect
from nodes.nextgpt.model.diffusion_config import DiffusionConfig
from tests.diffusion_models import single_file_state

BUILD = {family.name: family.build for family in FAMILIES}
CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
OPEN_CLIP_H = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16}
OPEN_CLIP_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
SDXL = {
    "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "sample_size": 128,
}


def published(base):
    """(denoiser, autoencoder, text encoders) on the meta device, and the parameters that the denoiser is known to have."""
    sd = DiffusionConfig.sd2() if base == "sd2" else DiffusionConfig.sd15()
    unet = SDXL if base == "sdxl" else sd.unet
    texts = {
        "sd1": [{**CLIP_L, "hidden_act": "quick_gelu", "projection_dim": 768}],
        "sd2": [{**OPEN_CLIP_H, "hidden_act": "gelu", "projection_dim": 1024}],
        "sdxl": [
            {**CLIP_L, "hidden_act": "quick_gelu", "projection_dim": 768},
            {**OPEN_CLIP_G, "hidden_act": "gelu", "projection_dim": 1280},
        ],
    }[base]
    count = {"sd1": 859_520_964, "sd2": 865_910_724, "sdxl": 2_567_463_684}[base]
    return unet, sd.vae, texts, count


@pytest.mark.parametrize("base", ["sd1", "sd2", "sdxl"])
def test_published_sizes_are_found_from_shapes(base):
    unet, vae, texts, count = published(base)
    names = ("diffusion.text_encoder", "diffusion.text_encoder_2")
    with torch.device("meta"):
        towers = [BUILD[name]({**text, "vocab_size": 49_408}) for name, text in zip(names, texts, strict=False)]
        pipe = SimpleNamespace(
            unet=BUILD["diffusion.unet"](unet),
            vae=BUILD["diffusion.vae"](vae),
            text_encoder=towers[0],
            text_encoder_2=towers[-1],
        )
        shapes = {key: tuple(tensor.shape) for key, tensor in single_file_state(pipe, base).items()}
    assert sum(parameter.numel() for parameter in pipe.unet.parameters()) == count
    found = detect(shapes, "file")
    assert found.architecture.name == base
    for key, value in unet.items():
        assert found.unet.get(key, value) == value, key
    for key in ("block_out_channels", "layers_per_block", "latent_channels", "in_channels", "out_channels"):
        assert found.vae[key] == vae[key]
    assert found.vae["scaling_factor"] == (0.13025 if base == "sdxl" else 0.18215)
    for mine, theirs in zip(found.texts, texts, strict=True):
        assert {key: mine[key] for key in theirs} == theirs
        assert (mine["vocab_size"], mine["max_position_embeddings"], mine["eos_token_id"]) == (49_408, 77, 49_407)


def test_an_inpainting_checkpoint_has_nine_channels():
    unet, vae, texts, _ = published("sd1")
    with torch.device("meta"):
        pipe = SimpleNamespace(
            unet=BUILD["diffusion.unet"]({**unet, "in_channels": 9}),
            vae=BUILD["diffusion.vae"](vae),
            text_encoder=BUILD["diffusion.text_encoder"]({**texts[0], "vocab_size": 49_408}),
        )
        shapes = {key: tuple(tensor.shape) for key, tensor in single_file_state(pipe, "sd1").items()}
    found = detect(shapes, "file")
    assert (found.unet["in_channels"], found.unet["out_channels"]) == (9, 4)
