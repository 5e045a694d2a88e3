"""The sides, one number at a time: adapters, distances, gradients, and what is kept of media."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from nodes.nextgpt.training.ledger import parameters
from nodes.nextgpt.training.lines import lines, turns_of
from nodes.nextgpt.training.loop import train
from nodes.nextgpt.training.optimiser import optimiser
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import Plan
from nodes.nextgpt.training.senses import Senses
from nodes.nextgpt.training.stages import open_stage
from nodes.nextgpt.training.stages.decoding_side import caption_distance
from nodes.nextgpt.training.world.talk import Talker

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_an_adapter_is_folded_as_it_was_trained(tmp_path):
    """W becomes W + BA alpha / r, of each layer by its own adapter."""
    plan = Plan(preset="tiny", stage="instruction", rank=2, alpha=6.0, denoise_weight=0.0)
    stage = open_stage(plan, Parts("tiny", tmp_path, tmp_path))
    layer, name = stage.speech.model.causal.model.layers[0].self_attn, "model.layers.0.self_attn.q_proj"
    with torch.no_grad():
        torch.nn.init.normal_(layer.q_proj.lora_B["trained"].weight, generator=torch.Generator().manual_seed(1))
    before = layer.q_proj.get_base_layer().weight.detach().clone()
    stage.finish()
    (down,) = [t for key, t in stage.adapted.tensors.items() if key.endswith(f"{name}.lora_A.weight")]
    (up,) = [t for key, t in stage.adapted.tensors.items() if key.endswith(f"{name}.lora_B.weight")]
    assert (up @ down).abs().max() > 0.1
    torch.testing.assert_close(layer.q_proj.weight - before, 6.0 / 2 * up @ down, rtol=1e-4, atol=1e-5)


def test_the_distance_of_captions_is_the_mean_length_of_rows():
    condition = torch.tensor([[[3.0, 4.0], [1.0, 1.0]], [[0.0, 0.0], [2.0, 1.0]]])
    wanted = torch.tensor([[[0.0, 0.0], [1.0, 2.0]], [[0.0, 7.0], [2.0, 4.0]]])
    assert float(caption_distance(condition, wanted)) == pytest.approx((5 + 1 + 7 + 3) / 4)


@pytest.mark.parametrize(("kind", "modality"), [("encoding_side", "all"), ("decoding_side", "image")])
def test_activations_that_are_computed_again_give_the_same_gradients(kind, modality, tmp_path):
    found = []
    for checkpointing in (False, True):
        plan = Plan(preset="tiny", stage=kind, modality=modality, checkpointing=checkpointing)
        parts, calls = Parts("tiny", tmp_path, tmp_path), []
        stage = open_stage(plan, parts)
        watched = {"language model": stage.speech.model.causal.model.layers[0].mlp}
        if kind == "decoding_side":
            watched["denoiser"] = parts.get("image_decoder").unet.up_blocks[-1].resnets[0]
        for name, layer in watched.items():
            layer.register_forward_pre_hook(lambda *_, name=name, calls=calls: calls.append(name))
        torch.manual_seed(3)
        loss, _ = stage.loss(random.Random(3), 3)
        before = len(calls)
        loss.backward()
        assert set(calls[before:]) == (set(watched) if checkpointing else set())
        gradients = {name: t.grad for name, t in parameters(stage.modules) if t.grad is not None}
        found.append((loss.detach(), gradients))
    (loss, gradients), (again, others) = found
    torch.testing.assert_close(again, loss)
    assert gradients.keys() == others.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(others[name], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("kind", "modality"), [("instruction", "all"), ("reconstruction", "image")])
def test_a_stage_with_an_adapter_goes_on_where_it_stopped(kind, modality, tmp_path):
    plan = Plan(preset="tiny", stage=kind, modality=modality, steps=3, batch=2, rank=2, learning_rate=1e-2)
    whole = train(plan, Parts("tiny", tmp_path / "a", tmp_path), "one")
    assert train(plan, Parts("tiny", tmp_path / "b", tmp_path), "one", steps=1).status == "stopped"
    rest = train(plan, Parts("tiny", tmp_path / "b", tmp_path), "one", resume=True)
    assert rest.losses == whole.losses
    for path in (tmp_path / "a" / "weights").iterdir():
        ours, theirs = load_file(tmp_path / "b" / "weights" / path.name), load_file(path)
        assert all(torch.equal(ours[key], tensor) for key, tensor in theirs.items())


def test_a_projector_alone_learns_to_make_a_medium_again(tmp_path):
    """RecA's acceptance: one batch, with one noise, over and over; everything but the output projector is frozen."""
    plan = Plan(preset="tiny", stage="reconstruction", modality="image", rank=0, projector_rate=0.0, embeddings="none")
    plan = replace(plan, learning_rate=1e-2, condition_drop=0.0)
    stage = open_stage(plan, Parts("tiny", tmp_path, tmp_path))
    weights = {name: tensor for name, tensor in parameters(stage.modules) if tensor.requires_grad}
    assert {name.partition(".")[0] for name in weights} == {"image_projector"}
    moving, losses = optimiser(plan, stage, weights), []
    for _ in range(60):
        moving.zero_grad()
        torch.manual_seed(0)
        loss, _ = stage.loss(random.Random(0), 2)
        loss.backward()
        moving.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.95 * sum(losses[:5])


def test_what_is_kept_of_files_is_made_again_by_other_weights(tmp_path, monkeypatch):
    from PIL import Image

    from nodes.nextgpt.training.media_file import MediaFile

    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.png")
    media = [MediaFile("image", tmp_path / "a.png")]
    parts = Parts("tiny", tmp_path, tmp_path)
    encoder, vae, calls = parts.get("encoder"), parts.get("image_decoder").vae, []
    for name, module in (("encoder", encoder), ("vae", vae)):
        real = module.encode
        monkeypatch.setattr(module, "encode", lambda *a, real=real, name=name, **k: calls.append(name) or real(*a, **k))

    def seen():
        """By who has just opened the folder; and who was asked for it."""
        calls.clear()
        senses = Senses(parts, keep=True)
        return senses.features(media)[0], senses.latents("image", media)[0], list(calls)

    features, latents, asked = seen()
    assert asked == ["encoder", "vae"]
    again, same, asked = seen()
    assert not asked
    assert torch.equal(again, features) and torch.equal(same, latents)
    with torch.no_grad():
        next(encoder.parameters()).add_(0.5)
    again, same, asked = seen()
    assert asked == ["encoder"]
    assert not torch.equal(again, features) and torch.equal(same, latents)
    with torch.no_grad():
        next(vae.parameters()).add_(0.5)
    _, other, asked = seen()
    assert asked == ["vae"]
    assert not torch.equal(other, latents)


def test_what_has_no_caption_teaches_no_condition(tmp_path):
    """Of a record without words only the others count; imitated, the condition of no words would be asked for."""
    plan = Plan(preset="tiny", stage="decoding_side", modality="image", batch=2, denoise_weight=0.0)
    stage = open_stage(plan, Parts("tiny", tmp_path, tmp_path))
    draw = random.Random(1)
    talks = [Talker(draw).talk("make image", "en") for _ in range(2)]
    batch = lines([turns_of(talk.turns, []) for talk in talks], stage.speech.words)
    states = stage.speech.read(batch, None)

    def far(*captions):
        told = [replace(talk, captions=(text,)) for talk, text in zip(talks, captions, strict=True)]
        with torch.no_grad():
            return stage.outputs.losses(told, batch, states).get("caption")

    (first,), (second,) = (talk.captions for talk in talks)
    assert float(far(first, "")) != float(far(" ", second))
    assert float(far(first, "") + far(" ", second)) == pytest.approx(2 * float(far(first, second)))
    assert far("", "") is None
