"""A language model's folder as Hugging Face lays it out: config.json, safetensors with or without an index, tokenizer.

Only read here, as JSON and as headers. Nothing of a folder is ever executed: an architecture that needs code of its own
is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from graph_engine.errors import ModelError
from graph_engine.models.spec import DTYPE_BYTES, WeightFile

CONFIG, INDEX, WHOLE = "config.json", "model.safetensors.index.json", "model.safetensors"
TOKENIZER = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json")
FILES = (CONFIG, "generation_config.json", INDEX, WHOLE, *TOKENIZER, "chat_template.jinja")
"""Everything but the shards that an index names."""


def folder_in(models_dir: Path, name: str) -> Path:
    """The folder of this name under the models folder. Raises ModelError for a name that leads elsewhere."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or "\x00" in name:
        raise ModelError(
            f"{name!r} names no folder under the models folder.",
            remedy=f"Give a path relative to {models_dir}, such as vicuna-7b-v1.5.",
            code="bad_folder",
        )
    folder = models_dir / name
    if not folder.is_dir():
        raise ModelError(
            f"there is no folder {folder}.",
            remedy="Put the model's files there, or start with --models-dir where they lie.",
            code="model_missing",
        )
    return folder


def read_json(path: Path) -> dict[str, Any]:
    """Raises ModelError for a file that is absent or holds no JSON object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"{path.parent} has no {path.name}.",
            remedy="Fetch the whole repository of the model; the file says how it is built.",
            code="model_missing",
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}.", remedy="Fetch it again.", code="model_damaged") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} holds no JSON object.", remedy="Fetch it again.", code="model_damaged")
    return found


def weight_files(folder: Path) -> tuple[WeightFile, ...]:
    """The safetensors files of a model. Raises ModelError that names every one that is missing."""
    if (folder / INDEX).is_file():
        named = read_json(folder / INDEX).get("weight_map")
        if not isinstance(named, dict) or not named:
            raise ModelError(f"{folder / INDEX} maps no weights.", remedy="Fetch it again.", code="model_damaged")
        shards = sorted({str(name) for name in named.values()})
        foreign = [name for name in shards if Path(name).name != name]
        if foreign:
            raise ModelError(
                f"{folder / INDEX} names the file {foreign[0]!r}, which lies elsewhere.",
                remedy="Fetch the repository of the model again.",
                code="model_damaged",
            )
        missing = [name for name in shards if not (folder / name).is_file()]
        if missing:
            raise ModelError(
                f"{folder} lacks {len(missing)} of {len(shards)} weight files: {', '.join(missing)}.",
                remedy="Fetch the rest of the repository.",
                code="model_missing",
            )
        return tuple(WeightFile.of(folder / name) for name in shards)
    if (folder / WHOLE).is_file():
        return (WeightFile.of(folder / WHOLE),)
    old = sorted(path.name for path in folder.glob("*.bin"))
    raise ModelError(
        f"{folder} has no {WHOLE} and no {INDEX}" + (f", only {', '.join(old[:3])}." if old else "."),
        remedy="Convert the .bin files with `anyloom convert`." if old else "Fetch the weights of the model.",
        code="model_missing",
    )


@dataclass(frozen=True)
class CausalFolder:
    """A causal language model's folder, found good.

    model_type   of transformers
    options      for its configuration class; `vocab_size` is as in the weights
    dtype        of the files; one of `DTYPE_BYTES`
    stop_ids     tokens that end an answer, by config.json and generation_config.json
    """

    path: Path
    model_type: str
    options: Mapping[str, Any]
    dtype: str
    stop_ids: tuple[int, ...]


def read_causal(folder: Path) -> CausalFolder:
    """Raises ModelError for a folder that holds no causal language model that transformers itself can build."""
    from nodes.nextgpt.model.language_weights import settings_of

    config = read_json(folder / CONFIG)
    kind = config.get("model_type")
    _check_architecture(folder, config)
    if "quantization_config" in config:
        method = dict(config["quantization_config"] or {}).get("quant_method", "some method")
        raise ModelError(
            f"the weights in {folder} are quantised already ({method}).",
            remedy="Take the repository with full weights and choose weights int8 or int4 here.",
            code="unsupported_architecture",
        )
    options = json.loads(json.dumps(settings_of(config)))
    dtype = str(config.get("dtype") or config.get("torch_dtype") or "float32").removeprefix("torch.")
    return CausalFolder(
        folder,
        str(kind),
        {**options, "vocab_size": _vocabulary_size(folder, str(kind), options)},
        dtype if dtype in DTYPE_BYTES else "float32",
        _stop_ids(folder, config),
    )


def _check_architecture(folder: Path, config: Mapping[str, Any]) -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL,
    )
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED,
    )

    kind, named = config.get("model_type"), list(config.get("architectures") or [])
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        own = "auto_map" in config
        raise ModelError(
            f"{folder / CONFIG} is of the architecture {kind or 'nothing'!r}, which transformers does not know"
            + (" without running code from the folder, and that is never done here." if own else "."),
            remedy="Take a model whose architecture is part of transformers, or a newer transformers.",
            code="needs_remote_code" if own else "unknown_architecture",
        )
    listed = CAUSAL.get(kind, ())
    classes = {listed} if isinstance(listed, str) else set(listed)
    speaks = bool(classes & set(named)) if named else kind not in MASKED or bool(config.get("is_decoder"))
    if not classes or not speaks:
        raise ModelError(
            f"{folder} holds {', '.join(named) or kind}, which is no causal language model: it cannot continue a text.",
            remedy="Choose a model whose config.json names an architecture that ends in ForCausalLM or LMHeadModel.",
            code="no_causal_model",
        )


def _vocabulary_size(folder: Path, kind: str, options: Mapping[str, Any]) -> int:
    """As the configuration class understands its options; also checks them, and that the network takes embeddings."""
    import inspect

    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    try:
        config = AutoConfig.for_model(kind, **options)
        network: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
        taken = inspect.signature(network.forward).parameters
        size = int(config.get_text_config().vocab_size)
    except Exception as error:  # transformers checks options with exceptions of many kinds
        raise ModelError(
            f"{folder / CONFIG} does not describe a {kind} model: {error}.",
            remedy="Fetch the file again.",
            code="model_damaged",
        ) from error
    lacking = [name for name in ("inputs_embeds", "past_key_values") if name not in taken]
    if lacking:
        raise ModelError(
            f"models of the architecture {kind} take no {' and no '.join(lacking)}, so media cannot be put into their "
            "prompt.",
            remedy="Choose a transformer with attention: Llama, Qwen, Mistral, GPT-NeoX, Gemma, Phi ...",
            code="unsupported_architecture",
        )
    return size


def _stop_ids(folder: Path, config: Mapping[str, Any]) -> tuple[int, ...]:
    path = folder / "generation_config.json"
    found = read_json(path).get("eos_token_id") if path.is_file() else None
    found = config.get("eos_token_id") if found is None else found
    listed = found if isinstance(found, list) else [found]
    return tuple(dict.fromkeys(token for token in listed if isinstance(token, int)))
