"""Models that come in pieces although they fit, as on an accelerator; and copies of streamed ones with adapters put in."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from small_models import family_of, saved, spec_of

from graph_engine.errors import ModelError
from graph_engine.memory.absent import Absent
from graph_engine.memory.mover import HostMover
from graph_engine.memory.offload import Streamed
from graph_engine.memory.outline import Outline
from graph_engine.memory.pool import ModelPool
from graph_engine.models.catalog import Catalog
from graph_engine.models.load import materialise
from graph_engine.models.spec import ModelSpec, WeightFile
from nodes.nextgpt.families import FAMILIES, LANGUAGE_MODEL, LORA
from nodes.nextgpt.model.generation import GenerateOptions, generate
from nodes.nextgpt.model.language import LanguageConfig, LanguageModel

CATALOG = Catalog(FAMILIES)


def in_pieces(budget: int = 10**9) -> ModelPool:
    return ModelPool(CATALOG, {"cpu": budget}, lambda outline: HostMover())


@pytest.fixture
def language(tmp_path: Path) -> ModelSpec:
    config = LanguageConfig.tiny(64, layers=3)
    path = tmp_path / "language.safetensors"
    save_file({key: tensor.clone() for key, tensor in LanguageModel.random(config, 1).state_dict().items()}, path)
    return ModelSpec(LANGUAGE_MODEL, config.to_json(), (WeightFile.of(path),))


def said(module: Any) -> tuple[Any, torch.Tensor]:
    options = GenerateOptions(max_new_tokens=5, greedy=True)
    with torch.no_grad():
        found = generate(module, module.embed([1, 5, 9])[None], options)
    return found.ids, found.hidden


def test_a_model_that_fits_computes_while_it_comes_and_then_is_as_any_other(language: ModelSpec) -> None:
    pool = in_pieces()
    expected = said(materialise(language, CATALOG[LANGUAGE_MODEL], "cpu"))
    module = pool.lease(language, "cpu")
    assert any(isinstance(parameter, Absent) for parameter in module.parameters())
    for _ in range(2):
        ids, hidden = said(module)
        assert ids == expected[0] and torch.equal(hidden, expected[1])
    assert not any(isinstance(parameter, Absent) for parameter in module.parameters())
    hooks = [
        hook
        for layer in module.modules()
        for hook in (*layer._forward_hooks.values(), *layer._forward_pre_hooks.values())
    ]
    assert not any("offload" in getattr(hook, "__module__", "") for hook in hooks), hooks
    pool.close()


def adapter_of(folder: Path, spec: ModelSpec) -> tuple[ModelSpec, dict[str, Any]]:
    from nodes.nextgpt.model.lora import _inject

    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
    with torch.device("meta"):
        shapes = _inject(LanguageModel(LanguageConfig.from_json(spec.config)), settings, "probe")
    generator = torch.Generator().manual_seed(4)
    tensors = {
        f"base_model.model.{key}": torch.randn(*shape, generator=generator) * 0.2 for key, shape in shapes.items()
    }
    save_file(tensors, folder / "adapter.safetensors")
    file = WeightFile.of(folder / "adapter.safetensors")
    return ModelSpec(LORA, {"shapes": shapes, "settings": settings}, (file,)), settings


@pytest.mark.parametrize("share", [2.0, 0.8], ids=["all of it fits", "streamed"])
def test_adapters_on_a_model_that_is_not_there_yet(tmp_path: Path, language: ModelSpec, share: float) -> None:
    """The copy that holds the adapters borrows each layer's weights while the layer is called."""
    from nodes.nextgpt.model.lora import Adapter, attached

    lora, settings = adapter_of(tmp_path, language)
    weights = materialise(lora, CATALOG[LORA], "cpu").tensors()
    whole = materialise(language, CATALOG[LANGUAGE_MODEL], "cpu")
    expected = said(attached(whole, [Adapter(settings, weights, 1.5)]))
    assert not torch.equal(expected[1], said(whole)[1]), "the adapter changes something"
    outline = Outline(language, CATALOG[LANGUAGE_MODEL], "cpu")
    pool = in_pieces(10**9 if share > 1 else max(int(outline.bytes * share), outline.least_room))
    module = pool.lease(language, "cpu")
    apart = in_pieces()
    tensors = apart.lease(lora, "cpu").tensors()
    assert all(torch.equal(tensors[key], weights[key]) for key in weights), "read without a call"
    patched = attached(module, [Adapter(settings, tensors, 1.5)])
    for _ in range(3):
        ids, hidden = said(patched)
        assert ids == expected[0] and torch.equal(hidden, expected[1])
        ids, hidden = said(module)
        assert torch.equal(hidden, said(whole)[1]), "and the model itself is as it was"
    pool.close()


def test_a_copy_of_a_chain_borrows_layer_by_layer(tmp_path: Path) -> None:
    def build() -> torch.nn.Module:
        return torch.nn.Sequential(*(torch.nn.Linear(16, 16) for _ in range(8)))

    torch.manual_seed(1)
    outline = Outline(spec_of(saved(tmp_path, build())), family_of(build), "cpu", least_bytes=1)
    streamed = Streamed(outline, HostMover(), 3 * outline.blocks[0].bytes)
    tensors = [*streamed.module.parameters(), *streamed.module.buffers()]
    twin = copy.deepcopy(streamed.module, {id(tensor): tensor for tensor in tensors})
    with torch.no_grad(), warnings.catch_warnings():
        for _ in range(3):
            assert torch.equal(twin(torch.eye(16)), streamed.module(torch.eye(16)))
            assert sum(isinstance(p, Absent) for p in twin.parameters()) >= 2 * 5, "it keeps nothing"
    streamed.close()


def test_what_is_streamed_still_refuses_to_be_read_without_a_call(tmp_path: Path) -> None:
    def build() -> torch.nn.Module:
        return torch.nn.Sequential(*(torch.nn.Linear(16, 16) for _ in range(8)))

    outline = Outline(spec_of(saved(tmp_path, build())), family_of(build), "cpu", least_bytes=1)
    streamed = Streamed(outline, HostMover(), 4 * outline.blocks[0].bytes)
    read = refused = 0
    for parameter in list(streamed.module.parameters()):
        try:
            assert parameter.sum() is not None and parameter.data_ptr() != 0
            read += 1
        except ModelError as error:
            refused += error.problem.code == "weights_absent"
    assert (read, refused) == (4, 12), "two blocks stay, two slots are the ring"
    absent = next(p for p in reversed([*streamed.module.parameters()]) if isinstance(p, Absent) and p.bring(p) is None)
    with pytest.raises(ModelError, match="used \\(by a kernel\\)"):
        absent.data_ptr()
    streamed.close()
