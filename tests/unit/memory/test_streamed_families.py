"""The models of NExT-GPT in small, larger than their room: the same results as in one piece, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from graph_engine.errors import OutOfMemory
from graph_engine.memory.outline import Outline
from graph_engine.memory.pool import ModelPool
from graph_engine.models.catalog import Catalog
from graph_engine.models.spec import ModelSpec
from nodes.nextgpt.checkpoint import specs_of
from nodes.nextgpt.families import FAMILIES
from nodes.nextgpt.preset import PRESETS

CATALOG = Catalog(FAMILIES)
PARTS = [("tiny", part) for part in PRESETS["tiny"].parts if part != "input_projector"]
"""Its linear input projector is one layer, which cannot be taken apart; that of v1.5 is more."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        yield
    torch.set_num_threads(before)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7))


def use(part: str, spec: ModelSpec, module: Any) -> list[torch.Tensor]:
    """What the stage does with the module."""
    if part == "encoder":
        return _encode(module)
    if part == "language_model":
        return _speak(module)
    if part == "input_projector":
        return [module(noise(2, 3, 32))]
    if part.endswith("_projector"):
        return [module(noise(1, 4, 64), noise(1, 4, 64))]
    if part.endswith("_text_encoder"):
        return [module([1, 5, 9, 2])]
    return _decode("video_decoder" if part == "video_upscaler" else part, module)


def _encode(module: Any) -> list[torch.Tensor]:
    found = []
    for modality in module.config.modalities:
        stem = module.modality_preprocessors[modality]
        shape = (2, 1, *stem.item_shape) if modality == "vision" else (2, *stem.item_shape)
        item = torch.arange(2 * stem.item_shape[0]).reshape(shape) % 50 if modality == "text" else noise(*shape)
        found.append(module.encode(modality, item, kind="global", scale=True))
    return found


def _speak(module: Any) -> list[torch.Tensor]:
    from nodes.nextgpt.model.generation import GenerateOptions, generate

    prompt = module.embed([1, 5, 9, 200])[None]
    said = generate(module, prompt, GenerateOptions(max_new_tokens=12, greedy=True))
    return [torch.tensor(said.ids), said.hidden, said.embeds]


def _decode(part: str, module: Any) -> list[torch.Tensor]:
    from importlib import import_module

    hand = import_module(f"nodes.nextgpt.model.{part}")
    latent = hand.sample(module, noise(1, *module.config.condition), steps=3, guidance=2.0, seed=1)
    return [latent, hand.decode(module, latent)]


@pytest.mark.parametrize(("preset", "part"), [*PARTS, ("tiny-v1.5", "input_projector")])
def test_a_model_in_two_thirds_of_its_room_gives_the_same(preset: str, part: str, folder: Path) -> None:
    (spec,) = specs_of(preset, [part], folder)
    outline = Outline(spec, CATALOG[spec.family], "cpu")
    room = max(outline.least_room, outline.bytes * 2 // 3)
    assert room < outline.bytes
    whole = ModelPool(CATALOG, {"cpu": 10**9}).lease(spec, "cpu")
    pool = ModelPool(CATALOG, {"cpu": room})
    streamed = pool.lease(spec, "cpu")
    for _ in range(2):
        for ours, expected in zip(use(part, spec, streamed), use(part, spec, whole), strict=True):
            assert torch.equal(ours, expected)
    (device,) = pool.stats()
    (model,) = device["models"]
    assert device["used_bytes"] <= room
    assert 0 < model["streamed_bytes"] == outline.bytes - model["kept_bytes"]
    with pytest.raises(OutOfMemory, match=f"{outline.least_room:,} have to be there at once"):
        ModelPool(CATALOG, {"cpu": outline.least_room - 1}).lease(spec, "cpu")
    pool.release(spec, "cpu")
    assert pool.clear() == 1
    assert pool.stats()[0]["used_bytes"] == 0
