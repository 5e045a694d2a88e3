"""Single file: what a checkpoint in the original layout is made of, worked out from the names and shapes of its tensors.

Nothing is asked of the network and no published configuration is needed: sizes follow from shapes, the rest is a row of
`architecture.py`. The weights themselves are renamed by diffusers' own conversion (`model/ldm.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from graph_engine.errors import ModelError
from nodes.diffusion.architecture import ARCHITECTURES, HEAD_WIDTH, Architecture

Shapes = Mapping[str, tuple[int, ...]]

UNET = "model.diffusion_model."
VAE = "first_stage_model."
CLIP_1 = "cond_stage_model.transformer.text_model."
CLIP_1_OLD = "cond_stage_model.transformer."
"""As the first fine-tuned models of 2022 have it, and what was merged of them."""
OPEN_CLIP_2 = "cond_stage_model.model."
CLIP_XL = "conditioner.embedders.0.transformer.text_model."
OPEN_CLIP_XL = "conditioner.embedders.1.model."
REFINER = "conditioner.embedders.0.model."
OF_UNET, OF_VAE = "only-unet:", "only-vae:"
"""Before the keys of files of which a decoder takes one part, whatever else they hold (`bridge.py`)."""


@dataclass(frozen=True)
class Parts:
    """Constructor arguments of each part that the file holds; None where it holds none.

    prefixes  key prefix of each part, `texts` being the text encoders in order
    """

    architecture: Architecture
    unet: dict[str, Any] | None
    vae: dict[str, Any] | None
    texts: tuple[dict[str, Any], ...]
    text_prefixes: tuple[str, ...]


def detect(shapes: Shapes, name: str) -> Parts:
    """Raises ModelError for a file that is no checkpoint of Stable Diffusion 1.x, 2.x or SDXL."""
    architecture = architecture_of(shapes, name)
    has_unet, has_vae = f"{UNET}input_blocks.0.0.weight" in shapes, f"{VAE}decoder.conv_in.weight" in shapes
    try:
        prefixes, texts = _texts(shapes, architecture)
        pooled = texts[-1]["projection_dim"] if len(texts) > 1 else 1280
        return Parts(
            architecture,
            unet_config(under(shapes, UNET), architecture, pooled) if has_unet else None,
            vae_config(under(shapes, VAE), architecture) if has_vae else None,
            texts,
            prefixes,
        )
    except (KeyError, IndexError) as error:
        raise ModelError(
            f"{name} looks like {architecture.title} but lacks {error}.",
            remedy="The file is incomplete or of a variant that is not known here; give the diffusers folder instead.",
            code="unknown_architecture",
        ) from error


def architecture_of(shapes: Shapes, name: str) -> Architecture:
    """Raises ModelError for a file that tells none."""
    context = shapes.get(f"{UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", (0, 0))[1]
    refined = _any(shapes, REFINER)
    if _any(shapes, OPEN_CLIP_XL) or (f"{UNET}label_emb.0.0.weight" in shapes and not refined):
        return ARCHITECTURES["sdxl"]
    if _any(shapes, CLIP_1) or _is_old(shapes) or context == 768:
        return ARCHITECTURES["sd1"]
    if _any(shapes, OPEN_CLIP_2) or context == 1024:
        return ARCHITECTURES["sd2"]
    what = "it is an SDXL refiner" if refined else f"its keys begin with {beginnings(shapes)}"
    raise ModelError(
        f"{name} is no checkpoint that is known here: {what}.",
        remedy="Known are Stable Diffusion 1.x, 2.x and SDXL in the original layout, and diffusers folders of them.",
        code="unknown_architecture",
    )


def unet_config(shapes: Shapes, architecture: Architecture, pooled: int) -> dict[str, Any]:
    """Arguments of diffusers' UNet2DConditionModel for a denoiser with these tensors."""
    channels: list[int] = []
    depths: list[int] = []
    count = 1 + _last(shapes, r"input_blocks\.(\d+)\.")
    layers = 0
    for block in range(1, count):
        if f"input_blocks.{block}.0.op.weight" in shapes:
            layers = 0
            continue
        if layers == 0:
            channels.append(shapes[f"input_blocks.{block}.0.out_layers.3.weight"][0])
            depths.append(1 + _last(shapes, rf"input_blocks\.{block}\.1\.transformer_blocks\.(\d+)\."))
        layers += 1
    middle = 1 + _last(shapes, r"middle_block\.1\.transformer_blocks\.(\d+)\.")
    first = next(index for index, depth in enumerate(depths) if depth)
    attended = f"input_blocks.{1 + first * (layers + 1)}.1."
    attends = [depth > 0 for depth in depths]
    # A level without attention has no depth of its own; the last entry also counts for the middle.
    depths = [depth or 1 for depth in depths[:-1]] + [middle]
    per_level: int | list[int] = depths[0] if len(set(depths)) == 1 else depths
    config = {
        "in_channels": shapes["input_blocks.0.0.weight"][1],
        "out_channels": shapes["out.2.weight"][0],
        "block_out_channels": channels,
        "down_block_types": ["CrossAttnDownBlock2D" if yes else "DownBlock2D" for yes in attends],
        "up_block_types": ["CrossAttnUpBlock2D" if yes else "UpBlock2D" for yes in reversed(attends)],
        "layers_per_block": layers,
        "transformer_layers_per_block": per_level,
        "cross_attention_dim": shapes[f"{attended}transformer_blocks.0.attn2.to_k.weight"][1],
        "attention_head_dim": architecture.heads or [max(1, width // HEAD_WIDTH) for width in channels],
        "use_linear_projection": len(shapes[f"{attended}proj_in.weight"]) == 2,
        "sample_size": architecture.size // 8,
    }
    if "label_emb.0.0.weight" in shapes:
        width = shapes["label_emb.0.0.weight"][1]
        config |= {
            "addition_embed_type": "text_time",
            # The pooled text and the embeddings of six numbers (sizes and crop) lie side by side.
            "addition_time_embed_dim": (width - pooled) // 6,
            "projection_class_embeddings_input_dim": width,
        }
    return config


def vae_config(shapes: Shapes, architecture: Architecture) -> dict[str, Any]:
    """Arguments of diffusers' AutoencoderKL for an autoencoder with these tensors, in the original layout or in diffusers'."""
    levels, blocks, attention = "down", "block", "mid.attn_1"
    if _any(shapes, "encoder.down_blocks."):
        levels, blocks, attention = "down_blocks", "resnets", "mid_block.attentions.0"
    count = 1 + _last(shapes, rf"encoder\.{levels}\.(\d+)\.")
    config = {
        "in_channels": shapes["encoder.conv_in.weight"][1],
        "out_channels": shapes["decoder.conv_out.weight"][0],
        "latent_channels": shapes["decoder.conv_in.weight"][1],
        "block_out_channels": [
            shapes[f"encoder.{levels}.{level}.{blocks}.0.conv1.weight"][0] for level in range(max(1, count))
        ],
        "down_block_types": ["DownEncoderBlock2D"] * count,
        "up_block_types": ["UpDecoderBlock2D"] * count,
        "layers_per_block": 1 + _last(shapes, rf"encoder\.{levels}\.0\.{blocks}\.(\d+)\."),
        "scaling_factor": architecture.scaling,
        "force_upcast": architecture.upcast,
        "sample_size": architecture.size,
    }
    if "quant_conv.weight" not in shapes:
        config["use_quant_conv"] = False
    if "post_quant_conv.weight" not in shapes:
        config["use_post_quant_conv"] = False
    if not _any(shapes, f"encoder.{attention}."):
        config["mid_block_add_attention"] = False
    return config


def _texts(shapes: Shapes, architecture: Architecture) -> tuple[tuple[str, ...], tuple[dict[str, Any], ...]]:
    if architecture.name == "sdxl":
        if not (_any(shapes, CLIP_XL) and _any(shapes, OPEN_CLIP_XL)):
            return (), ()
        return (CLIP_XL, OPEN_CLIP_XL), (_clip(under(shapes, CLIP_XL)), _open_clip(under(shapes, OPEN_CLIP_XL)))
    prefix = OPEN_CLIP_2
    if architecture.name == "sd1":
        prefix = CLIP_1_OLD if _is_old(shapes) else CLIP_1
    if not _any(shapes, prefix):
        return (), ()
    if architecture.name == "sd1":
        return (prefix,), (_clip(under(shapes, prefix)),)
    config = _open_clip(under(shapes, prefix))
    # SD 2 was trained on the states before the last layer, which the files hold all the same.
    return (prefix,), ({**config, "num_hidden_layers": config["num_hidden_layers"] - 1},)


def _is_old(shapes: Shapes) -> bool:
    return f"{CLIP_1_OLD}embeddings.token_embedding.weight" in shapes


def _clip(shapes: Shapes) -> dict[str, Any]:
    vocabulary, width = shapes["embeddings.token_embedding.weight"]
    return {
        **_text(vocabulary, width),
        "intermediate_size": shapes["encoder.layers.0.mlp.fc1.weight"][0],
        "num_hidden_layers": 1 + _last(shapes, r"encoder\.layers\.(\d+)\."),
        "max_position_embeddings": shapes["embeddings.position_embedding.weight"][0],
        "hidden_act": "quick_gelu",
        "projection_dim": width,
    }


def _open_clip(shapes: Shapes) -> dict[str, Any]:
    vocabulary, width = shapes["token_embedding.weight"]
    return {
        **_text(vocabulary, width),
        "intermediate_size": shapes["transformer.resblocks.0.mlp.c_fc.weight"][0],
        "num_hidden_layers": 1 + _last(shapes, r"transformer\.resblocks\.(\d+)\."),
        "max_position_embeddings": shapes["positional_embedding"][0],
        "hidden_act": "gelu",
        "projection_dim": shapes.get("text_projection", (width, width))[1],
    }


def _text(vocabulary: int, width: int) -> dict[str, Any]:
    """CLIP's vocabulary ends with the signs for the beginning and the end of a text."""
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_attention_heads": max(1, width // HEAD_WIDTH),
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
    }


def under(shapes: Shapes, prefix: str) -> dict[str, tuple[int, ...]]:
    """What lies under a prefix, without it."""
    return {key.removeprefix(prefix): shape for key, shape in shapes.items() if key.startswith(prefix)}


def _any(keys: Iterable[str], prefix: str) -> bool:
    return any(key.startswith(prefix) for key in keys)


def _last(keys: Iterable[str], pattern: str) -> int:
    """The highest number that the pattern finds at the beginning of a key; -1 for none."""
    found = [int(match[1]) for key in keys if (match := re.match(pattern, key))]
    return max(found, default=-1)


def beginnings(shapes: Shapes) -> str:
    """What the keys begin with, for messages."""
    return ", ".join(sorted({key.split(".")[0] for key in shapes})[:6]) or "nothing"
