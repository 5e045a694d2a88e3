"""Language models of other makers than ours: tied embeddings, experts, grouped heads. Streamed, they say the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from graph_engine.memory.outline import Outline
from graph_engine.memory.pool import ModelPool
from graph_engine.models.catalog import Catalog
from graph_engine.models.spec import ModelSpec, WeightFile
from nodes.nextgpt.families import FAMILIES, LANGUAGE_MODEL
from nodes.nextgpt.model.generation import GenerateOptions, generate
from nodes.nextgpt.model.language import LanguageConfig, LanguageModel

CATALOG = Catalog(FAMILIES)
SMALL = {
    "vocab_size": 500, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.3,
}  # fmt: skip
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "tied": ("llama", {**SMALL, "tie_word_embeddings": True}),
    "gpt2": ("gpt2", {"vocab_size": 500, "n_embd": 64, "n_layer": 4, "n_head": 4, "n_positions": 128,
                      "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.3}),
    "qwen3": ("qwen3", {**SMALL, "head_dim": 16, "tie_word_embeddings": True}),
    "experts": ("mixtral", {**SMALL, "num_local_experts": 4}),
}  # fmt: skip


@pytest.mark.parametrize("name", list(MODELS))
def test_a_streamed_language_model_says_the_same(tmp_path: Path, name: str) -> None:
    config = LanguageConfig(*MODELS[name])
    path = tmp_path / "weights.safetensors"
    save_file({key: tensor.clone() for key, tensor in LanguageModel.random(config, 1).state_dict().items()}, path)
    spec = ModelSpec(LANGUAGE_MODEL, config.to_json(), (WeightFile.of(path),))
    outline = Outline(spec, CATALOG[LANGUAGE_MODEL], "cpu")
    room = max(outline.least_room, outline.bytes * 3 // 4)
    assert room < outline.bytes
    said = []
    for budget in (10**9, room):
        pool = ModelPool(CATALOG, {"cpu": budget})
        module = pool.lease(spec, "cpu")
        with torch.no_grad():
            said.append(generate(module, module.embed([1, 5, 9])[None], GenerateOptions(max_new_tokens=6, greedy=True)))
    (model,) = pool.stats()[0]["models"]
    assert model["streamed_bytes"] > 0
    assert said[0].ids == said[1].ids
    assert torch.equal(said[0].hidden, said[1].hidden)
