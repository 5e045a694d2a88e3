"""The preset `mini`: the classes of the full model, small enough, and joined by the widths they need."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from graph_engine.errors import ModelError
from nodes.nextgpt import mini
from nodes.nextgpt.checkpoint import specs_of
from nodes.nextgpt.families import FAMILIES
from nodes.nextgpt.preset import PRESETS
from nodes.nextgpt.words import words_of

torch.set_num_threads(1)
BUILD = {family.name: family.build for family in FAMILIES}
PARTS = PRESETS["mini"].parts


@pytest.fixture(scope="module")
def modules():
    with torch.device("meta"):
        return {name: BUILD[part.family](dict(part.config())) for name, part in PARTS.items()}


def test_it_has_the_classes_of_the_full_preset(modules):
    full = PRESETS["nextgpt-v1.5-7b"].parts
    assert set(full) - set(PARTS) == {"video_upscaler"}
    for name, part in PARTS.items():
        assert part.family == full[name].family
        with torch.device("meta"):
            assert type(modules[name]) is type(BUILD[full[name].family](dict(full[name].config()))), name


def test_all_weights_together_are_below_40_mb_in_half_precision(modules):
    tensors = [tensor for module in modules.values() for tensor in module.state_dict().values()]
    headers = sum(200 + 120 * len(module.state_dict()) for module in modules.values())
    assert 2 * sum(tensor.numel() for tensor in tensors) + headers < 40_000_000


def test_the_weights_that_ship_are_of_all_parts_and_together_below_40_mb():
    from nodes.nextgpt.locate import SHIPPED

    files = {path.stem: path.stat().st_size for path in (SHIPPED / "mini").iterdir()}
    assert set(files) == set(PARTS)
    assert sum(files.values()) <= 40_000_000


def test_its_words_and_signals_fit_its_language_model(modules, tmp_path):
    words = words_of(PARTS["language_model"].extras, tmp_path)
    assert words.vocabulary.size == modules["language_model"].vocab_size == mini.vocabulary() + 36
    assert words.vocabulary.wrap is None
    assert [len(run) for run in words.vocabulary.tokens.values()] == [4, 24, 8]


def test_conditions_fit_projectors_text_encoders_and_decoders(modules):
    for modality in ("image", "video", "audio"):
        config = modules[f"{modality}_projector"].config
        rows, width = config.queries, config.out_dim
        assert (rows, width) == modules[f"{modality}_text_encoder"].config.condition
        expected = (width,) if modality == "audio" else (rows, width)
        assert modules[f"{modality}_decoder"].config.condition == expected
    assert modules["input_projector"].config.in_dim == modules["encoder"].config.out_dim
    assert modules["input_projector"].config.out_dim == modules["language_model"].hidden_size


def test_its_vocoder_makes_frames_of_20_ms(modules):
    """What the notes of the world are multiples of (training/world/terms.py)."""
    assert modules["audio_decoder"].hop == 320


def test_it_has_no_upscaler_and_says_so(tmp_path):
    with pytest.raises(ModelError, match="no video upscaler"):
        specs_of("mini", ["video_upscaler"], tmp_path)


@pytest.fixture
def nothing_ships(tmp_path, monkeypatch):
    monkeypatch.setattr("nodes.nextgpt.locate.SHIPPED", tmp_path / "nothing")


def test_its_tokenizer_ships_and_its_weights_have_to_be_trained(tmp_path, nothing_ships):
    from nodes.nextgpt.inventory import inventory

    (told,) = inventory(["mini"], tmp_path)
    assert {part["part"] for part in told["parts"]} == set(PARTS)
    assert not told["complete"]
    assert all("anyloom train mini" in part["wants"][0]["fetch"] for part in told["parts"])


def test_without_weights_it_says_what_is_missing(tmp_path, nothing_ships):
    with pytest.raises(ModelError, match="mini") as caught:
        specs_of("mini", ["encoder"], tmp_path)
    assert caught.value.problem.code == "model_missing"


def test_weights_that_ship_are_found_and_those_of_the_models_folder_go_before_them(tmp_path, monkeypatch):
    from safetensors.torch import save_file

    from nodes.nextgpt import locate

    monkeypatch.setattr(locate, "SHIPPED", tmp_path / "weights")
    name = "input_projector.safetensors"
    for folder in (tmp_path / "weights" / "mini", tmp_path / "models" / "mini"):
        folder.mkdir(parents=True)
    save_file({"a": torch.zeros(1)}, tmp_path / "weights" / "mini" / name)
    (spec,) = specs_of("mini", ["input_projector"], tmp_path / "models")
    assert spec.files[0].path == str(tmp_path / "weights" / "mini" / name)
    assert str(tmp_path / "weights" / "mini" / name) in locate.watched("mini")
    save_file({"a": torch.ones(1)}, tmp_path / "models" / "mini" / name)
    (spec,) = specs_of("mini", ["input_projector"], tmp_path / "models")
    assert spec.files[0].path == str((tmp_path / "models" / "mini" / name).resolve())


def test_a_film_of_eight_channels_has_a_preview():
    from nodes.nextgpt.model.preview import preview_rgb

    latent = torch.zeros(1, 8, 8, 8, 8)
    latent[:, :, -1] = 4.0  # the last of four frames that are shown
    shown = preview_rgb(latent, "video")
    assert shown.shape == (16, 16, 3)
    assert shown[8:, 8:].min() == 255 > shown[:8, :8].max()


@pytest.mark.parametrize("modality", ["image", "video"])
def test_previews_have_its_colours(modality):
    """Nobody measured the colours of its latents: they are decoded, which takes it a part of a step."""
    from nodes.nextgpt.model.preview import Glance, decoding_of
    from nodes.nextgpt.training.parts import Parts
    from nodes.nextgpt.training.senses import Senses
    from nodes.nextgpt.training.world.talk import Talker

    parts = Parts("mini", Path("absent"), Path("absent"))
    talker = Talker(random.Random(3))
    medium = talker.scene() if modality == "image" else talker.clip()
    latent, target = Senses(parts).latents(modality, [medium]), Senses(parts).decoder_target(modality, [medium])[0]
    decoder = parts.get(f"{modality}_decoder")
    seen = Glance(latent, modality, decoding_of(decoder, modality)).picture()
    frames = target[None] if modality == "image" else target[[0, 2, 5, 7]]
    wanted = (frames.movedim(1, -1) / 2 + 0.5) * 255
    wanted = torch.cat([torch.cat(list(wanted[at : at + 2]), dim=1) for at in range(0, len(wanted), 2)])
    assert seen.shape == wanted.shape
    assert (seen.float() - wanted).abs().mean() < 12
    assert decoding_of(parts.get("audio_decoder"), "audio") is None


def test_it_is_trained_from_nothing_though_its_weights_are_there(tmp_path, monkeypatch):
    from nodes.nextgpt.training.parts import Parts
    from nodes.nextgpt.training.publish import publish

    made = Parts("mini", tmp_path / "made", tmp_path, seed=1, anew=True)
    made.save(["input_projector"], {})
    publish(made, tmp_path / "weights" / "mini", ["input_projector"])
    monkeypatch.setattr("nodes.nextgpt.locate.SHIPPED", tmp_path / "weights")

    def first(**more):
        return next(Parts("mini", tmp_path / "new", tmp_path, **more).get("input_projector").parameters())

    own = next(made.get("input_projector").parameters())
    assert torch.allclose(first(), own, atol=1e-3)
    assert torch.allclose(first(seed=1, anew=True), own)
    assert not torch.allclose(first(seed=2, anew=True), own, atol=1e-3)
