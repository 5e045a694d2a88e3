"""ControlNet file: a folder of diffusers or a single file to the spec of a ControlNet.

Of a single file nothing says the sizes: they follow from the names and shapes of its tensors, in diffusers' layout or in the
original one, which is renamed first (`model/ldm.py`).
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from graph_engine.errors import ModelError
from graph_engine.models.spec import ModelSpec
from nodes.diffusion import families, folder
from nodes.diffusion.architecture import ARCHITECTURES, HEAD_WIDTH
from nodes.diffusion.found import candidates, find
from nodes.diffusion.header import Header, read_header, weight_file
from nodes.diffusion.single_file import Shapes

PLACES = ("controlnet",)
KIND = "ControlNetModel"
POOLED = 1280
"""Width of the summary of a text, of every published SDXL."""
_SHUFFLED = re.compile(r"shuffle([._-]?fp(16|32))?\.safetensors$")
"""Files whose ControlNet says one thing of the whole picture, which no tensor tells."""
_OTHERS = {
    "lora_controlnet": "a control-LoRA",
    "task_embedding": "a union of several ControlNets",
    "difference": "only the difference to a checkpoint",
}
"""Keys of what is spoken of as a ControlNet and is built otherwise."""


def load(name: str, models_dir: Path, dtype: str = "") -> ModelSpec:
    """The spec of a ControlNet; nothing is loaded. dtype: without one as it is stored.

    Raises NodeError or ModelError for what is absent, damaged, a pickle, or no ControlNet of SD 1.x, 2.x or SDXL.
    """
    path = find(name, models_dir, PLACES, _is_one, "ControlNet")
    if path.is_dir():
        kind = folder.read_json(path / "config.json").get("_class_name", KIND)
        if kind != KIND:
            raise _unknown(path, f"it is a {kind}")
        spec = folder.part(path, families.CONTROLNET, dtype, name=path.name)
    else:
        header = read_header(path)
        shapes = _named(header.shapes, path)
        config = config_of(shapes, path)
        spec = ModelSpec(
            families.CONTROLNET,
            config,
            (weight_file(path, _bytes(header)),),
            dtype or header.dtype,
            {"name": path.name},
        )
    _only_pictures(spec.config, path)
    return spec


def reads(name: str) -> list[str]:
    """Files under the models folder that `load(name)` may rest on; most of them do not exist."""
    files: list[str] = []
    for path in candidates(name, PLACES):
        files += [path, f"{path}/config.json", f"{glob.escape(path)}/*-of-*.safetensors"]
        for stem in folder.STEMS:
            for variant in folder.VARIANTS:
                files += [f"{path}/{stem}{variant}.safetensors", f"{path}/{stem}.safetensors.index{variant}.json"]
    return files


def config_of(shapes: Shapes, path: Path) -> dict[str, Any]:
    """Arguments of diffusers' ControlNetModel for one with these tensors, in diffusers' names."""
    try:
        return _config(shapes, path.name)
    except (KeyError, IndexError) as error:
        raise ModelError(
            f"{path.name} looks like a ControlNet but lacks {error}.",
            remedy="The file is incomplete or of a variant that is not known here; give the diffusers folder instead.",
            code="unknown_architecture",
        ) from error


def _config(shapes: Shapes, name: str) -> dict[str, Any]:
    levels = range(1 + _last(shapes, r"down_blocks\.(\d+)\."))
    channels = [shapes[f"down_blocks.{level}.resnets.0.conv1.weight"][0] for level in levels]
    depths = [_depth(shapes, f"down_blocks.{level}.") for level in levels]
    middle = _depth(shapes, "mid_block.")
    attended = next((f"down_blocks.{level}." for level in levels if depths[level]), "mid_block." if middle else "")
    linear = bool(attended) and len(shapes[f"{attended}attentions.0.proj_in.weight"]) == 2
    hint = 1 + _last(shapes, r"controlnet_cond_embedding\.blocks\.(\d+)\.")
    stages = [shapes["controlnet_cond_embedding.conv_in.weight"][0]]
    stages += [shapes[f"controlnet_cond_embedding.blocks.{block}.weight"][0] for block in range(1, hint, 2)]
    heads = [max(1, width // HEAD_WIDTH) for width in channels] if linear else ARCHITECTURES["sd1"].heads
    config = {
        "in_channels": shapes["conv_in.weight"][1],
        "conditioning_channels": shapes["controlnet_cond_embedding.conv_in.weight"][1],
        "conditioning_embedding_out_channels": stages,
        "block_out_channels": channels,
        "down_block_types": ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths],
        "mid_block_type": "UNetMidBlock2DCrossAttn" if middle else "UNetMidBlock2D",
        "layers_per_block": 1 + _last(shapes, r"down_blocks\.0\.resnets\.(\d+)\."),
        # A level without attention has no depth of its own; the last entry also counts for the middle.
        "transformer_layers_per_block": [depth or 1 for depth in depths[:-1]] + [middle or 1],
        "attention_head_dim": heads,
        "use_linear_projection": linear,
        "global_pool_conditions": bool(_SHUFFLED.search(name.lower())),
    }
    if attended:
        width = shapes[f"{attended}attentions.0.transformer_blocks.0.attn2.to_k.weight"][1]
        config["cross_attention_dim"] = width
    if "add_embedding.linear_1.weight" in shapes:
        width = shapes["add_embedding.linear_1.weight"][1]
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": (width - POOLED) // 6,
            "projection_class_embeddings_input_dim": width,
        }
    return config


def _named(shapes: Shapes, path: Path) -> dict[str, Any]:
    from nodes.diffusion.model.ldm import CONTROL, controlnet_state

    bare = {key.removeprefix(CONTROL).split(".")[0] for key in shapes}
    for key, what in _OTHERS.items():
        if key in bare:
            raise _unknown(path, f"it is {what}")
    try:
        found = controlnet_state(shapes)
    except ValueError as error:
        raise _unknown(path, str(error)) from error
    if "controlnet_cond_embedding.conv_in.weight" not in found:
        raise _unknown(path, f"its keys begin with {', '.join(sorted(bare)[:6]) or 'nothing'}")
    return found


def _bytes(header: Header) -> int:
    """Of the ControlNet, in a file that may hold a whole checkpoint beside it."""
    from nodes.diffusion.model.ldm import CONTROL

    own = [size for key, size in header.bytes.items() if key.startswith(CONTROL)]
    return sum(own or header.bytes.values())


def _only_pictures(config: Mapping[str, Any], path: Path) -> None:
    """Raises ModelError for one that wants to be told more than a picture of three colours and words."""
    pixels = config.get("conditioning_channels", 3)
    if pixels != 3:
        raise _unknown(path, f"it follows pictures of {pixels} channels, not of three colours")
    if config.get("class_embed_type") or config.get("num_class_embeds") or config.get("encoder_hid_dim_type"):
        raise _unknown(path, "it is told more than a picture and words")
    if config.get("addition_embed_type") not in (None, "text_time"):
        raise _unknown(path, "it is told more of the words than CLIP says")
    if config.get("controlnet_conditioning_channel_order", "rgb") not in ("rgb", "bgr"):
        raise _unknown(path, f"its colours are in the order {config['controlnet_conditioning_channel_order']}")


def _unknown(path: Path, why: str) -> ModelError:
    return ModelError(
        f"{path} is no ControlNet that is known here: {why}.",
        remedy="Known are ControlNets of SD 1.x, 2.x and SDXL: folders and .safetensors files of diffusers, and files in "
        "the original layout.",
        code="unknown_architecture",
    )


def _is_one(path: Path) -> bool:
    return (path.is_file() and path.suffix == ".safetensors") or folder.is_model(path)


def _depth(keys: Iterable[str], block: str) -> int:
    """Transformer layers of a block; 0 where nothing attends."""
    return 1 + _last(keys, rf"{re.escape(block)}attentions\.0\.transformer_blocks\.(\d+)\.")


def _last(keys: Iterable[str], pattern: str) -> int:
    """The highest number that the pattern finds at the beginning of a key; -1 for none."""
    found = [int(match[1]) for key in keys if (match := re.match(pattern, key))]
    return max(found, default=-1)
