"""Small models in the vendors' layouts: what people would have on disk, with our tiny sizes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from nodes.nextgpt import preset as presets
from nodes.nextgpt.families import FAMILIES

FAMILY = {family.name: family for family in FAMILIES}
BASE, GROWN = 1947, 1985
"""Tokens of the tiny language model before and after the 38 of NExT-GPT."""


def module(family: str, config: Mapping[str, Any], seed: int = 0) -> Any:
    """A random module of a family; equal seeds give equal weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FAMILY[family].build(config).eval()


def state(family: str, config: Mapping[str, Any], seed: int = 0) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in module(family, config, seed).state_dict().items()}


def save(path: Path, tensors: Mapping[str, Tensor]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous().clone() for key, value in tensors.items()}, path)
    return path


def beneath(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def old_attention(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The names that diffusers had for the attention of an autoencoder before 0.17."""
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {}
    for key, value in tensors.items():
        for new, before in old.items():
            key = key.replace(f".mid_block.attentions.0.{new}.", f".mid_block.attentions.0.{before}.")
        renamed[key] = value
    return renamed


def shards(folder: Path, tensors: Mapping[str, Tensor], count: int = 2) -> None:
    """A sharded folder of transformers."""
    keys = sorted(tensors)
    names = [f"model-{n + 1:05}-of-{count:05}.safetensors" for n in range(count)]
    mapped = {key: names[n % count] for n, key in enumerate(keys)}
    for name in names:
        save(folder / name, {key: tensors[key] for key in keys if mapped[key] == name})
    index = {"metadata": {"total_size": 0}, "weight_map": mapped}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def small_preset(name: str = "nextgpt-7b-tiva-v0") -> presets.Preset:
    """The published preset `name` with the sizes of `tiny` and float32, so that it loads here; without what is optional."""
    tiny, real = presets.PRESETS["tiny"], presets.PRESETS[name]
    parts = {
        part: presets.Part(row.family, tiny.parts[part].config, row.folder, "float32", row.extras)
        for part, row in real.parts.items()
        if part in tiny.parts and part not in presets.OPTIONAL
    }
    return presets.Preset(name, parts)


def config_of(part: str) -> dict[str, Any]:
    return dict(presets.PRESETS["tiny"].parts[part].config())


def legacy_delta(rank: int = 32, peft: bool = True) -> dict[str, Tensor]:
    """What `pytorch_model.pt` holds: projectors, grown embeddings and, after the third stage, LoRA on q, k, v, o."""
    delta = {
        f"llama_proj.{key}": value
        for key, value in state("nextgpt.input_projector", config_of("input_projector")).items()
    }
    for modality, mark in {"image": "", "video": "_video", "audio": "_audio"}.items():
        part = f"{modality}_projector"
        for key, value in state(f"nextgpt.output_projector.{modality}", config_of(part), 3).items():
            head, dot, rest = key.partition(".")
            head = {"in_fc": "fc", "out_fc": "model"}.get(head, head)
            delta[f"gen_text_hidden_fcs{mark}.0.{head}{dot}{rest}"] = value
    wrap = "llama_model.base_model.model." if peft else "llama_model."
    generator = torch.Generator().manual_seed(7)
    for key in ("model.embed_tokens.weight", "lm_head.weight"):
        delta[f"{wrap}{key}"] = torch.randn(GROWN, 64, generator=generator)
    if peft:
        for layer in range(2):
            for name in "qkvo":
                place = f"{wrap}model.layers.{layer}.self_attn.{name}_proj"
                delta[f"{place}.lora_A.default.weight"] = torch.randn(rank, 64, generator=generator) / 8
                delta[f"{place}.lora_B.default.weight"] = torch.randn(64, rank, generator=generator) / 8
    return delta


def base_language() -> dict[str, Tensor]:
    """A Vicuna of the tiny size, under transformers' names, with the rotary tables of old files."""
    config = config_of("language_model")
    config = {**config, "options": {**config["options"], "vocab_size": BASE}}
    tensors = beneath(state("nextgpt.language_model", config), "causal.")
    return {**tensors, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}


def everything(root: Path) -> None:
    """The whole of the 2023 preset: ImageBind and delta converted, Vicuna in shards, decoders as diffusers has them."""
    save(root / "imagebind_huge" / "imagebind_huge.safetensors", state("nextgpt.encoder", config_of("encoder")))
    shards(root / "vicuna-7b-v0", base_language())
    save(root / "nextgpt-7b-tiva-v0" / "pytorch_model.safetensors", legacy_delta())
    for modality, folder in {
        "image": "stable-diffusion-v1-5",
        "video": "zeroscope_v2_576w",
        "audio": "audioldm-l-full",
    }.items():
        tensors = state(f"nextgpt.{modality}_decoder", config_of(f"{modality}_decoder"), 5)
        decoder(root / folder, tensors)


def decoder(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    save(folder / "unet" / "diffusion_pytorch_model.safetensors", beneath(tensors, "unet."))
    save(folder / "vae" / "diffusion_pytorch_model.safetensors", old_attention(beneath(tensors, "vae.")))
    if vocoder := beneath(tensors, "vocoder."):
        save(folder / "vocoder" / "model.safetensors", vocoder)


# --- full sizes, without their weights ----------------------------------------------------------------------------------


def outline(family: str, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state of a model on the meta device."""
    with torch.device("meta"):
        return dict(FAMILY[family].build(config).state_dict())


def hollow(path: Path, tensors: Mapping[str, Tensor], dtype: str = "F16") -> Path:
    """A safetensors file of the right size with a right header, and a hole where the weights would be."""
    width = {"F16": 2, "F32": 4}[dtype]
    entries, offset = {}, 0
    for key, tensor in tensors.items():
        end = offset + tensor.numel() * width
        entries[key] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    header = json.dumps(entries).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + offset)
    return path


def full_delta() -> dict[str, Tensor]:
    """The 2023 delta in full size, on the meta device."""
    preset = presets.PRESETS["nextgpt-7b-tiva-v0"]
    delta = {
        f"llama_proj.{k}": v
        for k, v in outline("nextgpt.input_projector", preset.parts["input_projector"].config()).items()
    }
    for modality, mark in {"image": "", "video": "_video", "audio": "_audio"}.items():
        part = preset.parts[f"{modality}_projector"]
        for key, value in outline(part.family, part.config()).items():
            head, dot, rest = key.partition(".")
            head = {"in_fc": "fc", "out_fc": "model"}.get(head, head)
            delta[f"gen_text_hidden_fcs{mark}.0.{head}{dot}{rest}"] = value
    wrap = "llama_model.base_model.model."
    with torch.device("meta"):
        delta |= {f"{wrap}{key}": torch.empty(32_038, 4096) for key in ("model.embed_tokens.weight", "lm_head.weight")}
        for layer in range(32):
            for name in "qkvo":
                place = f"{wrap}model.layers.{layer}.self_attn.{name}_proj"
                delta[f"{place}.lora_A.default.weight"] = torch.empty(32, 4096)
                delta[f"{place}.lora_B.default.weight"] = torch.empty(4096, 32)
    return delta


def full_preset(root: Path) -> None:
    """The whole of `nextgpt-7b-tiva-v0` as the vendors have it, 30 GB that take no room."""
    preset = presets.PRESETS["nextgpt-7b-tiva-v0"]
    imagebind = outline("nextgpt.encoder", preset.parts["encoder"].config())
    imagebind["modality_preprocessors.text.mask"] = torch.empty(77, 77, device="meta")
    hollow(root / "imagebind_huge" / "imagebind_huge.safetensors", imagebind, "F32")
    config = dict(preset.parts["language_model"].config())
    vicuna = outline("nextgpt.language_model", {**config, "options": {**config["options"], "vocab_size": 32_000}})
    bare, mapped = beneath(vicuna, "causal."), {}
    for number, keys in enumerate((sorted(bare)[::2], sorted(bare)[1::2]), 1):
        name = f"model-0000{number}-of-00002.safetensors"
        hollow(root / "vicuna-7b-v0" / name, {key: bare[key] for key in keys})
        mapped |= dict.fromkeys(keys, name)
    (root / "vicuna-7b-v0" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": mapped}))
    hollow(root / "nextgpt-7b-tiva-v0" / "pytorch_model.safetensors", full_delta())
    for modality, folder in {
        "image": "stable-diffusion-v1-5",
        "video": "zeroscope_v2_576w",
        "audio": "audioldm-l-full",
    }.items():
        part = preset.parts[f"{modality}_decoder"]
        tensors = outline(part.family, part.config())
        for piece in ("unet", "vae", "vocoder"):
            name = "model" if piece == "vocoder" else "diffusion_pytorch_model"
            held = beneath(tensors, f"{piece}.")
            if held:
                held = old_attention(held) if piece == "vae" else held
                hollow(root / folder / piece / f"{name}.safetensors", held, "F32")
    for name, part in preset.parts.items():  # parts that other pages of the table add, as our own files
        if name in presets.OPTIONAL:
            hollow(root / part.folder / f"{name}.safetensors", outline(part.family, part.config()), "F32")
    for folder in {part.extras["tokenizer"] for part in preset.parts.values() if "tokenizer" in part.extras}:
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / "tokenizer.json").write_text("{}")
