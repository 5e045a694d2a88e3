"""Folder: what `save_pretrained` writes. Each part has a subfolder with its config.json and its weights."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graph_engine.errors import ModelError
from graph_engine.models.spec import ModelSpec
from nodes.diffusion.header import read_header, weight_file

INDEX = "model_index.json"
STEMS = ("diffusion_pytorch_model", "model")
VARIANTS = ("", ".fp16", ".bf16")


def is_pipeline(path: Path) -> bool:
    """A folder that a diffusers pipeline was saved into."""
    return (path / INDEX).is_file()


def is_model(path: Path) -> bool:
    """A folder that a model of transformers was saved into."""
    return (path / "config.json").is_file()


def read_json(path: Path) -> dict[str, Any]:
    """Raises ModelError for a file that is absent or holds no JSON object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror or error}.",
            remedy="The folder is incomplete; fetch it again.",
            code="model_missing",
        ) from error
    except ValueError as error:
        raise ModelError(f"{path} is no JSON: {error}.", remedy="Fetch it again.", code="model_damaged") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} holds no settings.", remedy="Fetch it again.", code="model_damaged")
    return found


def settings(path: Path) -> dict[str, Any]:
    """A config.json without the remarks that begin with an underscore."""
    return {key: value for key, value in read_json(path).items() if not key.startswith("_")}


def weights(folder: Path) -> list[Path]:
    """The safetensors files of one part, shards in order. Raises ModelError that says what is there instead."""
    for stem in STEMS:
        for variant in VARIANTS:
            whole, index = folder / f"{stem}{variant}.safetensors", folder / f"{stem}.safetensors.index{variant}.json"
            if whole.is_file():
                return [whole]
            if index.is_file():
                return [folder / name for name in sorted(set(read_json(index)["weight_map"].values()))]
    pickles = [path for stem in STEMS for path in sorted(folder.glob(f"*{stem}*.bin"))]
    if pickles:
        raise ModelError(
            f"{folder} holds only {pickles[0].name}, a pickle, which can run code when it is opened.",
            remedy=f"Convert it once with `anyloom convert {pickles[0]}`.",
            code="pickle_refused",
        )
    raise ModelError(f"{folder} holds no weights.", remedy=f"Put {STEMS[0]}.safetensors there.", code="model_missing")


def part(folder: Path, family: str, dtype: str = "", **extras: Any) -> ModelSpec:
    """The spec of one part; without `dtype` in the one it is stored in."""
    config = settings(folder / "config.json")
    paths = weights(folder)
    dtype = dtype or read_header(paths[0]).dtype
    for path in paths[1:]:
        read_header(path)
    return ModelSpec(family, config, tuple(weight_file(path) for path in paths), dtype, extras)


def possible_files(folder: str) -> Iterator[str]:
    """Every file that a pipeline's folder may hold, for the content key; most of them do not exist. A pattern is for shards."""
    yield f"{folder}/{INDEX}"
    yield f"{folder}/scheduler/scheduler_config.json"
    for place in ("unet", "vae", "text_encoder", "text_encoder_2"):
        yield from part_files(f"{folder}/{place}")
    for place in ("tokenizer", "tokenizer_2"):
        for file in ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
            yield f"{folder}/{place}/{file}"


def part_files(folder: str) -> Iterator[str]:
    """The same of the folder of one part."""
    yield f"{folder}/config.json"
    yield f"{glob.escape(folder)}/*-of-*.safetensors"
    for stem in STEMS:
        for variant in VARIANTS:
            yield f"{folder}/{stem}{variant}.safetensors"
            yield f"{folder}/{stem}.safetensors.index{variant}.json"
