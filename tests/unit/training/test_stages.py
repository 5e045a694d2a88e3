"""Every stage on the tiny presets, a few steps each: it learns what it should, and leaves what it should."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from graph_engine.errors import ModelError, RequestError
from nodes.nextgpt.model.lora import check, settings_of
from nodes.nextgpt.training.ledger import parameters
from nodes.nextgpt.training.lines import IGNORED, lines, turns_of
from nodes.nextgpt.training.loop import train
from nodes.nextgpt.training.optimiser import optimiser
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import Plan
from nodes.nextgpt.training.publish import publish
from nodes.nextgpt.training.senses import Senses
from nodes.nextgpt.training.stages import open_stage
from nodes.nextgpt.training.stages.autoencoder import fold_scale
from nodes.nextgpt.training.stages.seeing import TABLES, Seeing, labels_of, owners
from nodes.nextgpt.training.world.clip import Clip
from nodes.nextgpt.training.world.scene import Scene, Thing
from nodes.nextgpt.training.world.talk import Said, Talker
from nodes.nextgpt.training.world.terms import SHAPES
from nodes.nextgpt.words import words_of

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

STAGES = [
    ("autoencoder", "image", {"image_decoder"}),
    ("autoencoder", "video", {"video_decoder"}),
    ("autoencoder", "audio", {"audio_decoder"}),
    ("vocoder", "all", {"audio_decoder"}),
    ("binding", "all", {"encoder"}),
    ("seeing", "all", {"encoder"}),
    ("wording", "all", {"language_model"}),
    ("denoiser", "image", {"image_decoder", "image_text_encoder"}),
    ("denoiser", "video", {"video_decoder", "video_text_encoder"}),
    ("denoiser", "audio", {"audio_decoder", "audio_text_encoder"}),
    ("encoding_side", "all", {"input_projector", "language_model"}),
    ("decoding_side", "all", {"image_projector", "video_projector", "audio_projector", "language_model"}),
    ("decoding_side", "image", {"image_projector", "language_model"}),
    (
        "instruction",
        "all",
        {"input_projector", "image_projector", "video_projector", "audio_projector", "language_model"},
    ),
    ("reconstruction", "image", {"image_projector", "input_projector", "language_model"}),
    ("reconstruction", "video", {"video_projector", "input_projector", "language_model"}),
    ("reconstruction", "audio", {"audio_projector", "input_projector", "language_model"}),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """All stages one after the other in one folder, as a recipe has them; reports and the parts they leave."""
    folder = tmp_path_factory.mktemp("tiny")
    parts, reports, left = Parts("tiny-v1.5", folder, folder / "models"), {}, {}
    for stage, modality, saved in STAGES:
        plan = Plan(preset="tiny-v1.5", stage=stage, modality=modality, steps=2, batch=6, rank=2, alpha=4.0)
        name = f"{stage}_{modality}"
        reports[name] = train(plan, parts, name)
        left[name] = {Path(file).stem for file in reports[name].files if Path(file).parent.name == "weights"}
        assert left[name] == saved
    return parts, reports


@pytest.mark.parametrize("name", [f"{stage}_{modality}" for stage, modality, _ in STAGES])
def test_a_stage_runs_and_accounts_for_what_it_trains(trained, name):
    report = trained[1][name]
    assert report.status == "finished"
    assert all(0 < loss < 1e3 for loss in report.losses)
    account = report.ledger
    assert 0 < account.trained == sum(account.by_part.values()) <= account.total
    sides = name.startswith(("encoding", "decoding", "instruction", "reconstruction"))
    # What aligns trains little of the whole, as in the paper; rows of signals are counted here, there they are not.
    assert account.share < (0.15 if sides else 1.01)
    assert bool(account.embeddings) == sides


def test_the_adapter_of_stage_3_is_one_of_peft_and_folded_into_the_model(trained):
    parts, reports = trained
    folder = parts.folder / "instruction_all" / "adapter"
    from safetensors import safe_open

    from nodes.nextgpt.model.language import LanguageConfig

    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        shapes = {k.removeprefix("base_model.model."): file.get_slice(k).get_shape() for k in file.keys()}  # noqa: SIM118
    settings = settings_of(json.loads((folder / "adapter_config.json").read_text()))
    check(LanguageConfig.from_json(parts.preset.parts["language_model"].config()), settings, shapes)
    assert not any("lora" in key for key in parts.get("language_model").state_dict())
    assert reports["instruction_all"].ledger.by_part["language_model"] > 0


def test_what_was_trained_becomes_the_presets_weights(trained, tmp_path):
    parts = trained[0]
    (path,) = publish(parts, tmp_path, ["language_model"])
    assert all(tensor.dtype == torch.float16 for tensor in load_file(path).values())
    with pytest.raises(ModelError, match="1 parts were not trained"):
        publish(parts, tmp_path / "all")
    assert not (tmp_path / "all").exists()


def test_patches_are_told_which_thing_they_show(tmp_path):
    stage = Seeing(Plan(preset="mini", stage="seeing"), Parts("mini", tmp_path, tmp_path, anew=True))
    star = Thing("star", "red", "large", "top left")
    ring = Thing("ring", "blue", "small", "bottom right")
    scene, clip = Scene((star, ring), "white"), Clip("moon", "green", "grows", "black")
    owner = owners([scene], stage.covered([scene], 64))
    cells = owner[0].reshape(8, 8)
    assert (cells[:4, :4] == 0).sum() > 4
    assert (cells[4:, 4:] == 1).sum() >= 4
    assert (cells[4:, :4] == -1).all()
    assert (cells[:4, 4:] == -1).all()
    shapes = labels_of([scene], "shape", owner)
    assert set(shapes[owner == 0].tolist()) == {TABLES["shape"].index("star")}
    assert set(shapes[owner == -1].tolist()) == {len(TABLES["shape"])}
    shown = stage.covered([clip], 64)
    assert 1 <= shown.sum() < 32
    assert set(labels_of([clip], "motion", owners([clip], shown))[shown].tolist()) == {TABLES["motion"].index("grows")}


def test_ears_learn_alone(tmp_path):
    """So that a projector that reads the eyes stays true to them."""
    stage = Seeing(Plan(preset="mini", stage="seeing", modality="audio"), Parts("mini", tmp_path, tmp_path, anew=True))
    loss, told = stage.loss(random.Random(0), 8)
    loss.backward()
    learned = {name.split(".")[1] for name, p in stage.encoder.named_parameters() if p.grad is not None}
    assert learned == {"audio"}
    assert {"audio_note", "binding"} <= set(told)
    assert not any(name.startswith(("image", "video")) for name in told)


def test_a_denoiser_is_not_told_where_as_often_as_its_plan_says(tmp_path):
    for placeless, expected in ((0.0, 0.3), (0.5, 0.65)):
        plan = Plan(preset="tiny", stage="denoiser", modality="image", placeless=placeless)
        stage, draw = open_stage(plan, Parts("tiny", tmp_path, tmp_path)), random.Random(3)
        asked = [stage._asked(Talker(draw), draw) for _ in range(300)]
        free = [(medium, mention) for medium, mention in asked if "place" not in mention]
        assert expected - 0.08 < len(free) / 300 < expected + 0.08
        assert {len(medium.things) for medium, _ in free} == {1, 2}
        assert all(len(medium.things) == 1 or ("relation" in mention and medium.relation) for medium, mention in free)


def test_a_language_model_learns_the_language(tmp_path):
    plan = Plan(preset="tiny", stage="wording", steps=25, batch=6, learning_rate=5e-3, schedule="constant")
    report = train(plan, Parts("tiny", tmp_path, tmp_path), "words")
    assert report.losses[-1] < 0.75 * report.losses[0]


def test_the_condition_learns_from_the_frozen_denoiser(tmp_path):
    """RecA's acceptance: gradients reach the projector through denoiser, and its rows stay apart."""
    plan = Plan(preset="tiny", stage="reconstruction", modality="image", steps=1, batch=4, rank=2, words_weight=0.0)
    stage = open_stage(plan, Parts("tiny", tmp_path, tmp_path))
    loss, _ = stage.loss(random.Random(0), 4)
    loss.backward()
    projector = stage.modules["image_projector"]
    assert projector.query_embs.grad.abs().max() > 0
    assert projector.query_embs[0].std(0).min() > 0.01
    assert stage.modules["input_projector"].weight.grad.abs().max() > 0
    assert all(p.grad is None for p in stage.modules["image_decoder"].parameters())
    assert all(p.grad is None for p in stage.modules["encoder"].parameters())


def test_a_stage_may_begin_a_part_anew(tmp_path):
    """Whatever lies there; and what is random follows from the seed."""
    found = []
    for anew in ("", "image_projector", "image_projector"):
        parts = Parts("tiny", tmp_path / str(len(found)), tmp_path)
        with torch.no_grad():
            parts.get("image_projector").query_embs.fill_(7.0)
        plan = Plan(preset="tiny", stage="decoding_side", modality="image", steps=1, batch=2, anew=anew, warmup=0.0)
        train(plan, parts, "one")
        found.append(parts.get("image_projector").query_embs.detach().clone())
    assert (found[0] - 7).abs().max() < 0.1
    assert (found[1] - 7).abs().min() > 1
    assert torch.equal(found[1], found[2])
    with pytest.raises(ModelError, match="no depth projector"):
        Parts("tiny", tmp_path, tmp_path).renew("depth_projector")


def test_half_of_the_clips_move_as_a_plan_wants_it(tmp_path):
    plan = Plan(preset="tiny", stage="denoiser", modality="video", motions="grows,shrinks")
    stage = open_stage(plan, Parts("tiny", tmp_path, tmp_path))
    draw = random.Random(2)
    clips = [stage._asked(Talker(draw), draw)[0] for _ in range(400)]
    favoured = sum(clip.motion in ("grows", "shrinks") for clip in clips) / 400
    assert abs(favoured - (0.5 + 0.5 * 2 / 8)) < 0.08
    turning = open_stage(replace(plan, motions="turns"), Parts("tiny", tmp_path, tmp_path))
    clips = [turning._asked(Talker(draw), draw)[0] for _ in range(400)]
    assert {clip.shape for clip in clips if clip.motion == "turns"} == set(SHAPES) - {"circle", "ring"}
    with pytest.raises(RequestError, match="dances"):
        Plan(preset="tiny", stage="denoiser", modality="video", motions="dances")


def test_a_dropped_condition_is_that_of_no_words(tmp_path):
    plan = Plan(preset="tiny", stage="reconstruction", modality="image", batch=2, condition_drop=1.0, rank=0)
    stage = open_stage(plan, Parts("tiny", tmp_path, tmp_path))
    media = [Talker(random.Random(0)).scene()]
    losses = []
    for filling in (0.0, 5.0):
        torch.manual_seed(1)
        condition = torch.full((1, 77, 768), filling)
        losses.append(float(stage.outputs.denoise("image", media, condition)))
    assert losses[0] == losses[1]


def test_noise_levels_count_as_the_plan_says(tmp_path):
    """Min-SNR weights all but leave out the noisiest steps of velocities; a plan that asks for these switches them off."""
    parts = Parts("mini", tmp_path, tmp_path, anew=True)
    media = [Talker(random.Random(3)).scene() for _ in range(8)]
    losses = []
    for gamma in (5.0, 0.0):
        plan = Plan(preset="mini", stage="reconstruction", modality="image", rank=0, condition_drop=0.0, noisiest=1.0)
        stage = open_stage(replace(plan, snr_gamma=gamma), parts)
        torch.manual_seed(1)
        condition = stage.outputs.captioners["image"].targets([""] * len(media))
        losses.append(float(stage.outputs.denoise("image", media, condition)))
    weighted, even = losses
    assert even > 0.1
    assert weighted < 0.1 * even


def test_signals_are_found_behind_features(tmp_path):
    """Positions are of the expanded sequence; the original counted before features were put in."""
    words = words_of({"tokenizer": "mini", "spelling": "current", "template": "current"}, tmp_path)
    scene = Talker(random.Random(0)).scene(1)
    said = (Said("user", (scene, "Make it move up.")), Said("assistant", ("so", scene)))
    block = torch.zeros(8, 16)
    batch = lines([turns_of(said, [block]), turns_of(said, [block])], words)
    run = words.vocabulary.run("image")
    for found in batch.runs:
        stretch = slice(found.start, found.start + len(run))
        assert tuple(batch.ids[found.row, stretch].tolist()) == run
        assert tuple(batch.labels[found.row, stretch].tolist()) == run
    assert [found.medium for found in batch.runs] == [0, 1]
    assert len(batch.feature_places) == 16
    assert (batch.labels[0, batch.feature_places[:8]] == IGNORED).all()
    spoken = batch.labels[0][batch.labels[0] != IGNORED].tolist()
    assert words.tokenizer.decode(spoken, words.vocabulary) == " so<image_00><image_01><image_02><image_03>"
    assert spoken[-1] == words.tokenizer.eos_id


def test_latents_are_brought_to_unit_deviation_without_changing_pictures(tmp_path):
    parts = Parts("tiny", tmp_path, tmp_path)
    vae = parts.get("image_decoder").vae
    target = Senses(parts).decoder_target("image", [Talker(random.Random(1)).scene() for _ in range(8)])
    with torch.no_grad():
        latent = vae.encode(target).latent_dist.mode()
        shown, logarithm = vae.decode(latent).sample, vae.encode(target).latent_dist.logvar
        deviation = latent.std((0, 2, 3))
        fold_scale(vae, latent.mean((0, 2, 3)), deviation)
        folded = vae.encode(target).latent_dist
        assert torch.allclose(folded.mode().mean((0, 2, 3)), torch.zeros(4), atol=1e-4)
        assert torch.allclose(folded.mode().std((0, 2, 3)), torch.ones(4), atol=1e-4)
        assert torch.allclose(folded.logvar, logarithm - 2 * deviation.log()[None, :, None, None], atol=1e-4)
        assert torch.allclose(vae.decode(folded.mode()).sample, shown, atol=1e-4)


def test_features_are_what_the_encode_nodes_give(tmp_path):
    """Encoded once and many at a time, a medium of the world has the rows that a workflow would compute."""
    from nodes.nextgpt.model.preprocess import preprocess
    from nodes.nextgpt.training.media import as_value

    parts = Parts("tiny", tmp_path, tmp_path)
    talker, encoder = Talker(random.Random(2)), parts.get("encoder")
    media = [talker.scene(), talker.sound(), talker.clip()]
    for medium, rows in zip(media, Senses(parts).features(media), strict=True):
        name = {"Scene": "image", "Sound": "audio", "Clip": "video"}[type(medium).__name__]
        tensor = preprocess(name, as_value(medium), encoder.config)
        with torch.no_grad():
            theirs = encoder.encode("audio" if name == "audio" else "vision", tensor, kind="global")[0]
        # A picture is drawn at the encoder's size here and enlarged from 64 pixels there.
        assert torch.nn.functional.cosine_similarity(rows, theirs).min() > (0.999 if name == "audio" else 0.97)


def test_frozen_features_of_a_pool_are_made_once(tmp_path, monkeypatch):
    plan = Plan(preset="tiny", stage="encoding_side", steps=3, batch=4, pool=2)
    parts = Parts("tiny", tmp_path, tmp_path)
    encoder, calls = parts.get("encoder"), []
    real = encoder.encode
    monkeypatch.setattr(encoder, "encode", lambda *a, **k: calls.append(1) or real(*a, **k))
    train(plan, parts, "one")
    assert 1 <= len(calls) <= 2


def test_a_part_that_a_preset_lacks_is_named(tmp_path):
    with pytest.raises(ModelError, match="no depth decoder"):
        Parts("tiny", tmp_path, tmp_path).get("depth_decoder")


def test_each_part_learns_at_its_own_rate(tmp_path):
    plan = Plan(preset="tiny", stage="instruction", rank=2, projector_rate=0.1, learning_rate=1e-3, denoise_weight=0.0)
    stage = open_stage(plan, Parts("tiny", tmp_path, tmp_path))
    weights = {name: tensor for name, tensor in parameters(stage.modules) if tensor.requires_grad}
    names = {id(tensor): name for name, tensor in weights.items()}
    scales = {
        names[id(tensor)].partition(".")[0]: group["scale"]
        for group in optimiser(plan, stage, weights).param_groups
        for tensor in group["params"]
    }
    projectors = ("input_projector", "image_projector", "video_projector", "audio_projector")
    assert scales == {"language_model": 1.0, **dict.fromkeys(projectors, 0.1)}


@pytest.mark.parametrize("stage", ["encoding_side", "instruction", "reconstruction"])
def test_the_input_projector_learns_as_it_is_used(stage, tmp_path):
    """Its groups are drawn in training mode, and what comes out is then something else than in use."""
    parts = Parts("tiny-v1.5", tmp_path, tmp_path)
    opened = open_stage(
        Plan(preset="tiny-v1.5", stage=stage, modality="image" if stage == "reconstruction" else "all"), parts
    )
    patches = torch.randn(2, 12, opened.projector.config.in_dim)
    assert torch.equal(opened.projector(patches), opened.projector(patches))
    assert all(parameter.requires_grad for parameter in opened.projector.parameters())
    opened.projector.train()
    assert not torch.equal(opened.projector(patches), opened.projector(patches))
