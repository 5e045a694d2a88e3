"""Tiny: generators with made-up weights, written once as folders like any other, so that workflows run without downloads.

`tiny-sd` has the build of Stable Diffusion 1.x and its condition of 77 rows of 768, `tiny-captioner` that of BLIP. The
weights follow from the names of the tensors alone. A folder carries the digest of what was written into it: one that is
damaged, cut off or of an older recipe is made again.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from graph_engine.errors import ModelError

RECIPE = 1
"""Goes up when the made-up weights have to change; folders of an older recipe are made again."""

NAME = "tiny-sd"
CAPTIONER = "tiny-captioner"
MARK = "made.json"

SD_UNET: Mapping[str, Any] = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [16, 32],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 1,
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
    "norm_num_groups": 8,
}
SD_VAE: Mapping[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "block_out_channels": [8, 8, 16, 16],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "scaling_factor": 0.18215,
    "sample_size": 64,
}
SD_TEXT: Mapping[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 256,
    "num_hidden_layers": 1,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "projection_dim": 768,
}
SCHEDULER: Mapping[str, Any] = {
    "_class_name": "DDIMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
}
BLIP: Mapping[str, Any] = {
    "model_type": "blip",
    "projection_dim": 32,
    "vision_config": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    },
    "text_config": {
        "hidden_size": 32,
        "encoder_hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
    },
}
EYE: Mapping[str, Any] = {
    "image_processor_type": "BlipImageProcessor",
    "do_convert_rgb": False,
    "do_normalize": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.25, 0.25, 0.25],
    "resample": 3,
    "size": {"height": 32, "width": 32},
}
SIGNS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]")
WORDS = (
    "a an the of in on by with and red green blue white dark bright small large old quiet open boat house tower tree "
    "hill lake road bridge sky sea light cloud bird horse garden window street river field stone"
)
"""What the captioner can say."""


def ensure(models_dir: Path, name: str = NAME) -> Path:
    """The folder, whole and of the present recipe; several processes may call this at once. Raises ModelError."""
    path = models_dir / name
    if _is_whole(path):
        return path
    from filelock import FileLock

    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(models_dir / f".{name}.lock"):
            if not _is_whole(path):
                _make(path, MAKERS[name])
    except OSError as error:
        raise ModelError(
            f"the made-up weights {path} cannot be written: {error.strerror or error}.",
            remedy="Check the free space and the rights of the models folder, or choose another with --models-dir.",
            code="model_unwritable",
        ) from error
    return path


def _make(path: Path, write: Callable[[Path], None]) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        write(draft)
        (draft / MARK).write_text(json.dumps({"recipe": RECIPE, "files": _digests(draft)}))
        shutil.rmtree(path, ignore_errors=True)
        os.replace(draft, path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _is_whole(path: Path) -> bool:
    try:
        mark = json.loads((path / MARK).read_text())
        return bool(mark["recipe"] == RECIPE and mark["files"] == _digests(path))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MARK)
    return {
        path.relative_to(folder).as_posix(): hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
        for path in files
    }


# --- what is written ------------------------------------------------------------------------------------------------


def _write_sd(folder: Path) -> None:
    from nodes.diffusion import families

    kinds = {family.name: family.build for family in families.FAMILIES}
    vocabulary = _write_tokenizer(folder / "tokenizer")
    text = {**SD_TEXT, "vocab_size": vocabulary, "bos_token_id": vocabulary - 2, "eos_token_id": vocabulary - 1}
    parts = {
        "unet": (families.UNET, dict(SD_UNET), "diffusion_pytorch_model", "UNet2DConditionModel"),
        "vae": (families.VAE, dict(SD_VAE), "diffusion_pytorch_model", "AutoencoderKL"),
        "text_encoder": (families.TEXT, text, "model", "CLIPTextModel"),
    }
    for name, (family, config, stem, kind) in parts.items():
        _write_part(folder / name, partial(kinds[family], config), config, stem, kind)
    _write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    index = {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }
    _write_json(folder / "model_index.json", index)


def _write_tokenizer(folder: Path) -> int:
    """CLIP's byte-pair tokenizer with no pair learned: one token per byte. Returns the size of the vocabulary."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    entries = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    _write_json(folder / "vocab.json", {entry: index for index, entry in enumerate(entries)})
    (folder / "merges.txt").write_text("#version: 0.2\n")
    special = {"bos_token": entries[-2], "eos_token": entries[-1], "unk_token": entries[-1], "pad_token": entries[-1]}
    _write_json(
        folder / "tokenizer_config.json", {**special, "tokenizer_class": "CLIPTokenizer", "model_max_length": 77}
    )
    return len(entries)


def _write_part(folder: Path, build: Callable[[], Any], config: Mapping[str, Any], stem: str, kind: str) -> None:
    import torch
    from safetensors.torch import save_file

    with torch.device("meta"):
        module = build()
    tied = module.state_dict().keys() - {name for name, _ in (*module.named_parameters(), *module.named_buffers())}
    state = {key: _values(key, tuple(tensor.shape)) for key, tensor in module.state_dict().items() if key not in tied}
    _write_json(folder / "config.json", {**({"_class_name": kind} if kind else {}), **config})
    save_file(state, folder / f"{stem}.safetensors", {"format": "pt"})


def _values(key: str, shape: tuple[int, ...]) -> Any:
    """Made-up values of a tensor, from its name alone: no generator that other threads use is touched."""
    import torch

    if len(shape) < 2:
        return torch.ones(shape) if key.endswith("weight") else torch.zeros(shape)
    seed = int.from_bytes(hashlib.blake2b(f"{RECIPE} {key}".encode(), digest_size=7).digest(), "little")
    generator = torch.Generator().manual_seed(seed)
    if "embedding" in key and len(shape) == 2 and "time" not in key:
        return torch.randn(shape, generator=generator) * 0.5
    return torch.randn(shape, generator=generator) / math.sqrt(math.prod(shape[1:]))


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False), encoding="utf-8")


def _write_captioner(folder: Path) -> None:
    from transformers import BlipConfig, BlipForConditionalGeneration

    words = [*SIGNS, *WORDS.split()]
    ids = {"pad_token_id": 0, "bos_token_id": words.index("[DEC]"), "eos_token_id": 2, "sep_token_id": 3}
    config = {**BLIP, "text_config": {**BLIP["text_config"], "vocab_size": len(words), **ids}}
    _write_part(folder, lambda: BlipForConditionalGeneration(BlipConfig(**config)), config, "model", "")
    _write_json(folder / "preprocessor_config.json", EYE)
    tokenizer = {
        "version": "1.0",
        "added_tokens": [_sign(index, sign) for index, sign in enumerate(SIGNS)],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {
            "type": "WordLevel",
            "vocab": {word: index for index, word in enumerate(words)},
            "unk_token": "[UNK]",
        },
    }
    _write_json(folder / "tokenizer.json", tokenizer)
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    special["bos_token"] = "[DEC]"
    _write_json(folder / "tokenizer_config.json", {**special, "tokenizer_class": "PreTrainedTokenizerFast"})


def _sign(index: int, content: str) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": index, "content": content, **flags}


MAKERS: Mapping[str, Callable[[Path], None]] = {NAME: _write_sd, CAPTIONER: _write_captioner}
