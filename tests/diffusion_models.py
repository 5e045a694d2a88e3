"""Small random picture generators, as diffusers saves them and as single files of the original layout; for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from graph_engine.models.load import materialise
from nodes.diffusion import tiny
from nodes.diffusion.families import FAMILIES
from tests.contexts import FolderContext

FAMILY = {family.name: family for family in FAMILIES}
WIDTH, SECOND_WIDTH = 32, 48
"""Of the text encoders; an SDXL condition has both side by side."""


class DiffusionContext(FolderContext):
    """Loads what it is asked for, once, and counts."""

    def __init__(self, root: Path, models_dir: Path) -> None:
        super().__init__(root)
        self._models_dir = models_dir

    def model(self, spec: Any, again: int | None = None) -> Any:
        if spec.key not in self.models:
            self.models[spec.key] = materialise(spec, FAMILY[spec.family], "cpu")
        return self.models[spec.key]

    @property
    def models_dir(self) -> Path:
        return self._models_dir


def unet_config(base: str, in_channels: int = 4) -> dict[str, Any]:
    config: dict[str, Any] = {
        "sample_size": 8,
        "in_channels": in_channels,
        "out_channels": 4,
        "block_out_channels": (32, 64),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "attention_head_dim": 8,
        "cross_attention_dim": WIDTH,
    }
    if base == "sd2":
        config |= {"attention_head_dim": (1, 1), "use_linear_projection": True}
    if base == "sdxl":
        config |= {
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2),
            "attention_head_dim": (1, 1),
            "use_linear_projection": True,
            "cross_attention_dim": WIDTH + SECOND_WIDTH,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": SECOND_WIDTH + 6 * 8,
        }
    return config


def text_config(width: int, vocabulary: int, act: str) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": 40,
        "num_hidden_layers": 3,
        "num_attention_heads": 1,
        "max_position_embeddings": 77,
        "hidden_act": act,
        "projection_dim": width,
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
    }


def pipeline(base: str, folder: Path, *, in_channels: int = 4, prediction: str = "epsilon", seed: int = 0) -> Any:
    """A pipeline of diffusers with random weights; its tokenizer's files go into `folder`."""
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    size = tiny._write_tokenizer(folder / "tokenizer_source")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer_source")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(**unet_config(base, in_channels))
        vae = AutoencoderKL(
            down_block_types=["DownEncoderBlock2D"] * 4,
            up_block_types=["UpDecoderBlock2D"] * 4,
            block_out_channels=[32, 32, 32, 64],
            latent_channels=4,
            layers_per_block=1,
            sample_size=32,
            scaling_factor=0.13025 if base == "sdxl" else 0.18215,
            force_upcast=base == "sdxl",
        )
        text = CLIPTextModel(CLIPTextConfig(**text_config(WIDTH, size, "gelu" if base == "sd2" else "quick_gelu")))
        second = CLIPTextModelWithProjection(CLIPTextConfig(**text_config(SECOND_WIDTH, size, "gelu")))
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction,
    )
    parts = {"unet": unet.eval(), "vae": vae.eval(), "text_encoder": text.eval(), "tokenizer": tokenizer}
    if base == "sdxl":
        found = StableDiffusionXLPipeline(
            **parts, text_encoder_2=second.eval(), tokenizer_2=tokenizer, scheduler=scheduler, add_watermarker=False
        )
    else:
        found = StableDiffusionPipeline(
            **parts, scheduler=scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    found.set_progress_bar_config(disable=True)
    return found


def controlnet(base: str, seed: int = 1, **options: Any) -> Any:
    """A ControlNet of diffusers with random weights, for `unet_config(base)`; a new one of theirs says nothing but zeros."""
    from diffusers import ControlNetModel, UNet2DConditionModel

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(**{**unet_config(base), **options})
        found = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 8, 16, 16))
        for layer in (
            *found.controlnet_down_blocks,
            found.controlnet_mid_block,
            found.controlnet_cond_embedding.conv_out,
        ):
            torch.nn.init.normal_(layer.weight, std=0.1)
            torch.nn.init.normal_(layer.bias, std=0.05)
    return found.eval()


# --- the original layout --------------------------------------------------------------------------------------------


def single_file_state(pipe: Any, base: str) -> dict[str, torch.Tensor]:
    """The same weights under the names of the original implementation: our own inverse, not diffusers' conversion."""
    state = {f"model.diffusion_model.{key}": value for key, value in _ldm_unet(pipe.unet).items()}
    state |= {f"first_stage_model.{key}": value for key, value in _ldm_vae(pipe.vae).items()}
    if base == "sd1":
        prefix = "cond_stage_model.transformer.text_model."
        state |= {prefix + key: value for key, value in pipe.text_encoder.state_dict().items()}
    elif base == "sd2":
        layers = _open_clip(pipe.text_encoder.state_dict())
        # The layer that is stored and not used.
        last = pipe.text_encoder.config.num_hidden_layers
        extra = {
            key.replace(f"resblocks.{last - 1}.", f"resblocks.{last}."): torch.zeros_like(value)
            for key, value in layers.items()
            if f"resblocks.{last - 1}." in key
        }
        extra["text_projection"] = layers["positional_embedding"].new_zeros(
            layers["positional_embedding"].shape[1], layers["positional_embedding"].shape[1]
        )
        extra["logit_scale"] = torch.zeros(())
        state |= {f"cond_stage_model.model.{key}": value for key, value in {**layers, **extra}.items()}
    else:
        prefix = "conditioner.embedders.0.transformer.text_model."
        state |= {prefix + key: value for key, value in pipe.text_encoder.state_dict().items()}
        second = pipe.text_encoder_2.state_dict()
        named = _open_clip({key.removeprefix("text_model."): value for key, value in second.items()})
        named["text_projection"] = second["text_projection.weight"].T
        state |= {f"conditioner.embedders.1.model.{key}": value for key, value in named.items()}
    return {key: value.detach().clone().contiguous() for key, value in state.items()}


def save_single_file(path: Path, pipe: Any, base: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(single_file_state(pipe, base), path)
    return path


def ldm_controlnet(net: Any) -> dict[str, torch.Tensor]:
    """A ControlNet under the names of the original implementation, without a beginning in common."""
    places = _down_places(net.config.block_out_channels, net.config.layers_per_block)
    hints = {"conv_in": 0, "conv_out": 14, **{f"blocks.{block}": 2 * block + 2 for block in range(6)}}
    places |= {f"controlnet_cond_embedding.{name}": f"input_hint_block.{number}" for name, number in hints.items()}
    places |= {
        f"controlnet_down_blocks.{index}": f"zero_convs.{index}.0" for index in range(len(net.controlnet_down_blocks))
    }
    places["controlnet_mid_block"] = "middle_block_out.0"
    return {_moved(key, places, _INNER): value for key, value in net.state_dict().items()}


_INNER = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def _down_places(channels: Any, layers: int) -> dict[str, str]:
    """Blocks are counted through: after the first convolution, each resnet (with its attention) and each resampler."""
    levels = len(channels)
    places = {"conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0"}
    places |= {"time_embedding.linear_2": "time_embed.2"}
    places |= {"add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2"}
    number = 1
    for level in range(levels):
        for layer in range(layers):
            places[f"down_blocks.{level}.resnets.{layer}"] = f"input_blocks.{number}.0"
            places[f"down_blocks.{level}.attentions.{layer}"] = f"input_blocks.{number}.1"
            number += 1
        if level < levels - 1:
            places[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{number}.0.op"
            number += 1
    for index, name in enumerate(("resnets.0", "attentions.0", "resnets.1")):
        places[f"mid_block.{name}"] = f"middle_block.{index}"
    return places


def _ldm_unet(unet: Any) -> dict[str, torch.Tensor]:
    levels, layers = len(unet.config.block_out_channels), unet.config.layers_per_block
    places = _down_places(unet.config.block_out_channels, layers)
    places |= {"conv_norm_out": "out.0", "conv_out": "out.2"}
    for level in range(levels):
        attends = "CrossAttn" in unet.config.up_block_types[level]
        for layer in range(layers + 1):
            number = level * (layers + 1) + layer
            places[f"up_blocks.{level}.resnets.{layer}"] = f"output_blocks.{number}.0"
            places[f"up_blocks.{level}.attentions.{layer}"] = f"output_blocks.{number}.1"
            if layer == layers:
                places[f"up_blocks.{level}.upsamplers.0.conv"] = f"output_blocks.{number}.{2 if attends else 1}.conv"
    return {_moved(key, places, _INNER): value for key, value in unet.state_dict().items()}


def _moved(key: str, places: dict[str, str], inner: dict[str, str]) -> str:
    place = max((place for place in places if key.startswith(f"{place}.")), key=len)
    rest = key.removeprefix(f"{place}.")
    head, _, tail = rest.partition(".")
    if ".resnets." in f".{place}":
        rest = f"{inner[head]}.{tail}"
    return f"{places[place]}.{rest}"


def _ldm_vae(vae: Any) -> dict[str, torch.Tensor]:
    levels = len(vae.config.block_out_channels)
    found = {}
    for key, value in vae.state_dict().items():
        parts = key.split(".")
        if "down_blocks" in key:
            kind = {"resnets": "block", "downsamplers": "downsample"}[parts[3]]
            rest = parts[4:] if kind == "block" else parts[5:]
            parts = ["encoder", "down", parts[2], kind, *rest]
        elif "up_blocks" in key:
            kind = {"resnets": "block", "upsamplers": "upsample"}[parts[3]]
            rest = parts[4:] if kind == "block" else parts[5:]
            parts = ["decoder", "up", str(levels - 1 - int(parts[2])), kind, *rest]
        elif "mid_block.resnets" in key:
            parts = [parts[0], "mid", f"block_{int(parts[3]) + 1}", *parts[4:]]
        elif "mid_block.attentions" in key:
            names = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out": "proj_out"}
            parts = [parts[0], "mid", "attn_1", names[parts[4]], parts[-1]]
            value = value[:, :, None, None] if value.ndim == 2 else value
        elif "conv_norm_out" in key:
            parts[1] = "norm_out"
        name = ".".join(parts).replace("conv_shortcut", "nin_shortcut")
        found[name.replace("downsample.0.conv", "downsample.conv").replace("upsample.0.conv", "upsample.conv")] = value
    return found


def _open_clip(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """CLIP's text tower in OpenCLIP's names; query, key and value are one matrix there."""
    found = {
        "token_embedding.weight": state["embeddings.token_embedding.weight"],
        "positional_embedding": state["embeddings.position_embedding.weight"],
        "ln_final.weight": state["final_layer_norm.weight"],
        "ln_final.bias": state["final_layer_norm.bias"],
    }
    layers = {int(key.split(".")[2]) for key in state if key.startswith("encoder.layers.")}
    names = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    names["self_attn.out_proj"] = "attn.out_proj"
    for layer in layers:
        here, there = f"encoder.layers.{layer}.", f"transformer.resblocks.{layer}."
        for kind in ("weight", "bias"):
            parts = [state[f"{here}self_attn.{name}_proj.{kind}"] for name in "qkv"]
            found[f"{there}attn.in_proj_{kind}"] = torch.cat(parts)
            found |= {f"{there}{new}.{kind}": state[f"{here}{old}.{kind}"] for old, new in names.items()}
    return found
