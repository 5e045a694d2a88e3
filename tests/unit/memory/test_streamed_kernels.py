"""Kernels on denoisers that are larger than their room: the same, and nothing is kept of weights that come and go."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from movers_on_host import cuda_mover_on_host

from custom_kernels.layout import FORMATS
from custom_kernels.plug import accelerate_unet
from graph_engine.memory.absent import Absent
from graph_engine.memory.mover import HostMover
from graph_engine.memory.outline import Outline
from graph_engine.memory.pool import ModelPool
from graph_engine.memory.slabs import Slabs
from graph_engine.models.catalog import Catalog
from nodes.nextgpt.checkpoint import specs_of
from nodes.nextgpt.families import FAMILIES
from nodes.nextgpt.modality import SPOKEN
from nodes.nextgpt.model.decode_step import GrowingReader, _is_resident, reader
from tests.kernels.small_unets import Again

torch.set_num_threads(1)
CATALOG = Catalog(FAMILIES)


@pytest.mark.law("P12")
@pytest.mark.parametrize("modality", SPOKEN)
@torch.no_grad()
def test_a_streamed_denoiser_computes_with_the_kernels(modality: str, tmp_path: Path) -> None:
    (spec,) = specs_of("tiny", [f"{modality}_decoder"], tmp_path)
    outline = Outline(spec, CATALOG[spec.family], "cpu")
    pool = ModelPool(CATALOG, {"cpu": max(outline.least_room, outline.bytes * 2 // 3)})
    module = pool.lease(spec, "cpu")
    hand = SPOKEN[modality].implementation()
    condition = torch.randn(1, *module.config.condition, generator=torch.Generator().manual_seed(7))
    options = {"frames": 2} if modality == "video" else {}

    def draw() -> torch.Tensor:
        return hand.sample(module, condition, steps=3, guidance=2.0, seed=1, **options)

    plain = draw()
    with accelerate_unet(module.unet, "reference", recorder=Again()) as fast:
        found = draw()
    assert (found - plain).norm() / plain.norm() < 1e-4
    assert "no CUDA graph: the weights come and go" in fast.told()
    assert torch.equal(draw(), plain)
    assert pool.stats()[0]["models"][0]["streamed_bytes"] > 0
    pool.release(spec, "cpu")
    assert pool.clear() == 1


@pytest.mark.parametrize("modality", SPOKEN)
@torch.no_grad()
def test_a_denoiser_that_came_in_pieces_and_stays_has_graphs_in_its_first_run(modality: str, tmp_path: Path) -> None:
    """As every model comes to an accelerator. Its autoencoder's encoder is never called; that must not keep it waiting."""
    (spec,) = specs_of("tiny", [f"{modality}_decoder"], tmp_path)
    pool = ModelPool(CATALOG, {"cpu": 10**9}, lambda outline: HostMover())
    module = pool.lease(spec, "cpu")
    hand = SPOKEN[modality].implementation()
    condition = torch.randn(1, *module.config.condition, generator=torch.Generator().manual_seed(7))
    options = {"frames": 2} if modality == "video" else {}
    whole = ModelPool(CATALOG, {"cpu": 10**9}).lease(spec, "cpu")
    plain = hand.sample(whole, condition, steps=6, guidance=2.0, seed=1, **options)
    with accelerate_unet(module.unet, "reference", recorder=Again()) as fast:
        found = hand.sample(module, condition, steps=6, guidance=2.0, seed=1, **options)
        assert fast.plug is not None
        assert fast.plug.resident
    assert (found - plain).norm() / plain.norm() < 1e-4
    # One step finds out what is called, one has all of it stay, one is seen for the first time.
    assert "CUDA graph: 3 of 6 steps" in fast.told()
    pool.release(spec, "cpu")
    assert pool.clear() == 1


@pytest.mark.parametrize("modality", SPOKEN)
@torch.no_grad()
def test_what_comes_to_a_device_lies_as_the_kernels_want_it(
    modality: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that no convolution is there twice. On the host weights lie as their files have them."""
    (spec,) = specs_of("tiny", [f"{modality}_decoder"], tmp_path)
    pool = ModelPool(CATALOG, {"cpu": 10**9})
    whole = pool.lease(spec, "cpu")
    outline = Outline(spec, CATALOG[spec.family], "meta")
    mover = cuda_mover_on_host(monkeypatch, Slabs(10**9))
    sources = [tensor.source for tensor in outline.module.parameters() if isinstance(tensor, Absent)]
    brought = dict(zip([source.key for source in sources], mover.ready(mover.fetch(sources)), strict=True))
    mover.close()
    forms = {
        f"unet.{name}.weight": FORMATS[type(module)]
        for name, module in whole.unet.named_modules()
        if type(module) in FORMATS
    }
    turned = 0
    for name, weight in whole.named_parameters():
        assert weight.is_contiguous()
        assert torch.equal(brought[name], weight), name
        assert brought[name].is_contiguous(memory_format=forms.get(name, torch.contiguous_format)), name
        turned += not brought[name].is_contiguous()
    assert turned > 10
    for name, weight in whole.unet.named_parameters():
        weight.data = brought[f"unet.{name}"]
    with accelerate_unet(whole.unet, "reference") as fast:
        assert fast.plug is not None and fast.plug.resident
        assert not fast.plug.layout.bytes
    pool.release(spec, "cpu")


def test_a_streamed_language_model_keeps_the_cache_that_grows(tmp_path: Path) -> None:
    (spec,) = specs_of("tiny", ["language_model"], tmp_path)
    outline = Outline(spec, CATALOG[spec.family], "cpu")
    streamed = ModelPool(CATALOG, {"cpu": max(outline.least_room, outline.bytes * 2 // 3)}).lease(spec, "cpu")
    whole = ModelPool(CATALOG, {"cpu": 10**9}).lease(spec, "cpu")
    assert not _is_resident(streamed)
    assert _is_resident(whole)
    assert isinstance(reader(streamed, 20), GrowingReader)
