"""Muon, mixed precision, and what a denoiser begins with and looks at."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nodes.nextgpt.training.cost import Orders
from nodes.nextgpt.training.denoising import denoising_loss
from nodes.nextgpt.training.ledger import parameters
from nodes.nextgpt.training.loop import train
from nodes.nextgpt.training.optimiser import Muon, optimiser, orthogonal
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import Plan
from nodes.nextgpt.training.precision import is_bfloat16_fast, precision
from nodes.nextgpt.training.stages import denoiser, open_stage
from nodes.nextgpt.training.world.scene import Scene, Thing
from nodes.nextgpt.training.world.terms import PLACES

torch.set_num_threads(1)

PLAN = Plan(preset="tiny", stage="wording", steps=10, batch=4, learning_rate=4e-3, optimiser="muon", weight_decay=0.01)


@pytest.mark.parametrize("shape", [(24, 40), (40, 24)])
def test_a_step_of_muon_has_the_directions_of_its_gradient_and_equal_lengths(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    left, lengths, right = torch.linalg.svd(matrix, full_matrices=False)
    assert lengths.max() / lengths.min() > 5
    found = left.T @ orthogonal(matrix[None])[0] @ right.T
    assert found.diagonal().min() > 0.6 and found.diagonal().max() < 1.3
    assert (found - torch.diag(found.diagonal())).abs().max() < 0.1


def test_muon_moves_hidden_matrices_and_adamw_the_rest(tmp_path):
    stage = open_stage(PLAN, Parts("tiny", tmp_path, tmp_path))
    weights = {name: tensor for name, tensor in parameters(stage.modules) if tensor.requires_grad}
    names = {id(tensor): name for name, tensor in weights.items()}
    by_kind = {True: set(), False: set()}
    for group in optimiser(PLAN, stage, weights).param_groups:
        by_kind[group["muon"]] |= {names[id(tensor)] for tensor in group["params"]}
    assert len(by_kind[True]) + len(by_kind[False]) == len(weights)
    assert all(weights[name].ndim == 2 and "_proj" in name for name in by_kind[True])
    assert any("q_proj" in name for name in by_kind[True])
    assert any("embed" in name for name in by_kind[False])
    assert any("lm_head" in name for name in by_kind[False])
    assert any("norm" in name for name in by_kind[False])


def test_each_weight_moves_along_its_own_gradient_however_it_lies():
    """Those of one shape and of its transpose are moved together: none may get another's direction, or its own turned over."""
    noise = torch.Generator().manual_seed(2)
    shapes = [(24, 40), (40, 24), (24, 40), (40, 6, 2, 2), (24, 24), (24, 10, 4)]
    weights = [nn.Parameter(torch.randn(shape, generator=noise)) for shape in shapes]
    before = [weight.detach().clone() for weight in weights]
    for weight in weights:
        weight.grad = torch.randn(weight.shape, generator=noise)
    Muon([{"params": weights, "muon": True}], lr=0.01, weight_decay=0.5).step()
    for weight, old in zip(weights, before, strict=True):
        left, _, right = torch.linalg.svd(weight.grad.flatten(1), full_matrices=False)
        moved = (weight.detach() - old * (1 - 0.01 * 0.5)).flatten(1)
        expected = -0.01 * 0.2 * max(moved.shape) ** 0.5 * (left @ right)
        assert F.cosine_similarity(moved.flatten(), expected.flatten(), dim=0) > 0.97
        assert 0.8 < moved.norm() / expected.norm() < 1.1


def test_weights_of_one_shape_and_its_transpose_are_moved_by_as_many_calls_as_one():
    def calls(count):
        weights = [nn.Parameter(torch.randn((6, 10) if index % 2 else (10, 6))) for index in range(count)]
        muon = Muon([{"params": weights, "muon": True}], lr=0.01)
        for _ in range(2):  # the first step makes the momenta, too
            for weight in weights:
                weight.grad = torch.randn_like(weight)
            with Orders() as orders:
                muon.step()
        return orders.count

    # A copy of a matrix that was laid down is all that each costs of its own.
    assert calls(1) < 40
    assert calls(12) <= calls(1) + 12


def test_resumed_training_with_muon_gives_the_same_losses(tmp_path):
    whole = train(PLAN, Parts("tiny", tmp_path / "a", tmp_path), "words")
    train(PLAN, Parts("tiny", tmp_path / "b", tmp_path), "words", steps=1)
    rest = train(PLAN, Parts("tiny", tmp_path / "b", tmp_path), "words", resume=True)
    assert rest.losses == whole.losses
    assert whole.losses[-1] < whole.losses[0]


def test_a_processor_without_bfloat16_computes_in_float32(monkeypatch):
    monkeypatch.setattr("nodes.nextgpt.training.precision.is_bfloat16_fast", lambda device: False)
    with precision("cpu", "bfloat16"):
        assert F.linear(torch.randn(5, 8), torch.ones(3, 8)).dtype == torch.float32


@pytest.mark.parametrize(
    ("machine", "library", "own", "tiles", "fast"),
    [
        ("x86_64", True, True, False, True),  # Cooper Lake, Zen 4
        ("x86_64", True, True, True, True),  # Sapphire Rapids
        ("x86_64", True, False, False, False),  # Ice Lake: oneDNN says yes and converts
        ("AMD64", True, False, False, False),
        ("x86_64", False, False, False, False),  # AVX2
        ("aarch64", True, False, False, True),
    ],
)
def test_bfloat16_counts_as_fast_where_the_processor_has_it(monkeypatch, machine, library, own, tiles, fast):
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: library)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: own)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)
    assert is_bfloat16_fast("cpu") is fast
    assert is_bfloat16_fast("cuda")


def test_attention_stays_in_float32_on_a_cpu(monkeypatch):
    monkeypatch.setattr("nodes.nextgpt.training.precision.is_bfloat16_fast", lambda device: True)
    query = torch.randn(1, 2, 5, 8)
    with precision("cpu", "bfloat16"):
        assert F.linear(query, torch.ones(3, 8)).dtype == torch.bfloat16
        found = F.scaled_dot_product_attention(query, query, query)
        low = F.scaled_dot_product_attention(query.bfloat16(), query, value=query)
    assert torch.equal(found, F.scaled_dot_product_attention(query, query, query))
    assert low.dtype == torch.bfloat16
    with precision("cpu", "float32"):
        assert F.linear(query, torch.ones(3, 8)).dtype == torch.float32


def test_a_denoiser_of_films_begins_with_what_pictures_know(tmp_path):
    parts = Parts("tiny", tmp_path, tmp_path)
    plan = Plan(preset="tiny", stage="denoiser", modality="video", begin="image_decoder")
    known = parts.get("image_decoder").unet.state_dict()
    fresh = {name: tensor.clone() for name, tensor in parts.get("video_decoder").unet.state_dict().items()}
    begun = open_stage(plan, parts).decoder.unet.state_dict()
    shared = {name for name in begun if name in known and known[name].shape == begun[name].shape}
    assert "conv_in.weight" in shared and len(shared) > 20
    assert all(torch.equal(begun[name], known[name]) for name in shared)
    assert all(torch.equal(begun[name], fresh[name]) for name in begun.keys() - shared)


def test_a_denoiser_can_be_trained_under_a_text_encoder_that_stays(tmp_path):
    parts = Parts("tiny", tmp_path, tmp_path)
    before = {name: tensor.clone() for name, tensor in parts.get("image_text_encoder").state_dict().items()}
    drawn = {name: tensor.clone() for name, tensor in parts.get("image_decoder").unet.state_dict().items()}
    plan = Plan(preset="tiny", stage="denoiser", modality="image", steps=2, batch=2, train_text_encoder=False)
    report = train(plan, parts, "denoiser")
    assert set(report.ledger.by_part) == {"image_decoder"}
    after, unet = parts.get("image_text_encoder").state_dict(), parts.get("image_decoder").unet.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert any(not torch.equal(unet[name], tensor) for name, tensor in drawn.items())


def test_cells_in_which_things_are_count_more(tmp_path):
    parts = Parts("tiny", tmp_path, tmp_path)
    stage = open_stage(Plan(preset="tiny", stage="denoiser", modality="image"), parts)
    scene = Scene((Thing("square", "red", "large", "top left"),), "white")
    importance = stage._importance([scene], torch.zeros(1, 4, 8, 8))
    assert importance.mean() == pytest.approx(1)
    assert importance[0, 0, 1, 1] == importance.max() > 3 * importance.min()
    clean, condition = torch.zeros(1, 4, 8, 8), torch.zeros(1, 77, parts.get("image_decoder").config.condition[1])

    def loss(weight):
        torch.manual_seed(0)
        with torch.no_grad():
            return float(denoising_loss(stage.decoder, "image", clean, condition, gamma=0.0, importance=weight))

    assert loss(2 * importance) == pytest.approx(2 * loss(importance))
    assert loss(importance) != loss(None)


def test_what_counts_more_is_expected_more_and_without_a_focus_nothing_does(tmp_path, monkeypatch):
    """Nine scenes with a thing in one place each: of a cell, the best guess of who sees none of them is a ninth, but a third
    where the thing's cells count more. With a focus of 0 the loss gets no importance at all."""
    parts = Parts("tiny", tmp_path, tmp_path)
    plan = Plan(preset="tiny", stage="denoiser", modality="image")
    stage = open_stage(plan, parts)
    scenes = [Scene((Thing("square", "red", "large", place),), "white") for place in PLACES]
    weight = stage._importance(scenes, torch.zeros(9, 4, 8, 8))[:, 0, 1, 1]
    there = torch.tensor([place == "top left" for place in PLACES]).float()
    assert float((weight * there).sum() / weight.sum()) > 0.3
    given = []
    monkeypatch.setattr(
        denoiser, "denoising_loss", lambda *_, **named: given.append(named["importance"]) or torch.zeros(())
    )
    for focus in (4.0, 0.0):
        open_stage(replace(plan, focus=focus), parts).loss(random.Random(1), 2)
    assert given[0] is not None
    assert given[1] is None


def test_cells_of_a_spectrogram_in_which_something_is_heard_count_more(tmp_path):
    from nodes.nextgpt.training.world.sound import Sound

    stage = open_stage(Plan(preset="tiny", stage="denoiser", modality="audio"), Parts("tiny", tmp_path, tmp_path))
    sound = Sound("C", "low", "flute", "once", "steady", "loud")
    mel = stage.senses.decoder_target("audio", [sound])
    cells = (mel.shape[2] // 4, mel.shape[3] // 4)
    importance = stage._importance([sound], torch.zeros(1, 8, *cells))
    assert importance.mean() == pytest.approx(1)
    loudest = int(mel[0, 0].mean(0).argmax()) // 4
    assert importance[0, 0, 5, loudest] > 3 * importance[0, 0, 5, -1]


def test_an_autoencoder_that_begins_with_another_keeps_its_weights(tmp_path):
    parts = Parts("tiny", tmp_path, tmp_path)
    plan = Plan(preset="tiny", stage="autoencoder", modality="video", begin="image_decoder")
    stage = open_stage(plan, parts)
    known = parts.get("image_decoder").vae.state_dict()
    assert all(torch.equal(tensor, known[name]) for name, tensor in stage.vae.state_dict().items())
    first = stage.loss(random.Random(1), 2)[0]
    other = open_stage(replace(plan, begin=""), Parts("tiny", tmp_path, tmp_path)).loss(random.Random(1), 2)[0]
    assert torch.isfinite(first) and torch.isfinite(other)
