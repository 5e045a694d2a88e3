"""Checkpoints, text, latents and sampling: what they give, and what they say to bad input."""

import json
import shutil
import struct
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from graph_engine.errors import AnyloomError, Cancelled, ModelError
from graph_engine.graph.outcome import Skip
from nodes.diffusion import (
    empty_latent,
    encode_inpaint,
    encode_text,
    load_checkpoint,
    mask_latent,
    sample,
    vae_decode,
    vae_encode,
)
from nodes.diffusion import tiny as made
from nodes.diffusion.checkpoint import reads
from nodes.diffusion.model.prompt import row, stretches
from nodes.diffusion.single_file import detect
from tests.diffusion_models import DiffusionContext, pipeline, save_single_file, single_file_state

torch.set_num_threads(1)
# diffusers hands torch tensors to numpy in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    return DiffusionContext(tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def sd(context):
    return load_checkpoint(context)


@pytest.fixture(scope="module")
def xl(context):
    pipeline("sdxl", context.models_dir).save_pretrained(context.models_dir / "diffusers" / "xl")
    return load_checkpoint(context, "xl")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The folder of a pipeline as it is saved."""
    folder = tmp_path_factory.mktemp("plain")
    pipeline("sd1", folder).save_pretrained(folder / "pipeline")
    return folder / "pipeline"


def problem(call, *arguments, **options):
    with pytest.raises(AnyloomError) as caught:
        call(*arguments, **options)
    found = caught.value.problem
    assert found.remedy
    return found


def test_importing_the_pack_loads_no_heavy_library():
    code = "import sys, nodes.diffusion; print([n for n in ('torch', 'diffusers', 'transformers', 'peft') if n in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


# --- loading --------------------------------------------------------------------------------------------------------


def test_the_tiny_checkpoint_is_made_once_and_again_when_damaged(tmp_path):
    folder = made.ensure(tmp_path)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    before, stamp = weights.read_bytes(), weights.stat().st_mtime_ns
    made.ensure(tmp_path)
    assert weights.stat().st_mtime_ns == stamp
    weights.write_bytes(before[:-40])
    made.ensure(tmp_path)
    assert weights.read_bytes() == before


def test_a_model_that_vanished_after_loading_is_made_again(tmp_path):
    context = DiffusionContext(tmp_path, tmp_path / "models")
    model, clip, _ = load_checkpoint(context)
    shutil.rmtree(tmp_path / "models")
    condition = encode_text(context, clip, "a boat")
    assert sample(context, model, condition, empty_latent(64, 64), steps=1)["samples"].shape == (1, 4, 8, 8)


def test_a_wrong_name_lists_what_is_there(context, sd, xl):
    (context.models_dir / "checkpoints").mkdir(exist_ok=True)
    save_file({"x": torch.zeros(1)}, context.models_dir / "checkpoints" / "found.safetensors")
    found = problem(load_checkpoint, context, "nothing-like-it")
    assert found.code == "model_missing"
    assert found.port == "name"
    assert "checkpoints/found.safetensors" in found.remedy
    assert "diffusers/xl" in found.remedy
    assert "tiny-sd" in found.remedy


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "checkpoints/../../secret"])
def test_a_name_cannot_leave_the_models_folder(context, name):
    assert problem(load_checkpoint, context, name).code == "bad_path"


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".bin"])
def test_a_pickle_is_refused_and_convert_named(context, suffix):
    path = context.models_dir / "checkpoints" / f"old{suffix}"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"\x80\x02}q\x00.")
    found = problem(load_checkpoint, context, f"old{suffix}")
    assert found.code == "pickle_refused"
    assert "anyloom convert" in found.remedy


def test_a_folder_of_pickles_is_refused(tmp_path):
    context = DiffusionContext(tmp_path, tmp_path)
    folder = made.ensure(tmp_path)
    shutil.copytree(folder, tmp_path / "old")
    weights = tmp_path / "old" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    assert problem(load_checkpoint, context, "old").code == "pickle_refused"


def write_single(context, name, base="sd1", change=None):
    path = context.models_dir / "checkpoints" / f"{name}.safetensors"
    state = single_file_state(pipeline(base, context.models_dir), base)
    path.parent.mkdir(exist_ok=True)
    save_file(change(state) if change else state, path)
    return path


def test_a_truncated_file_is_named_at_once(context):
    path = write_single(context, "cut")
    path.write_bytes(path.read_bytes()[:-1000])
    found = problem(load_checkpoint, context, "cut")
    assert found.code == "model_damaged"
    assert "cut off" in found.message


def test_a_file_that_is_no_safetensors_file(context):
    path = context.models_dir / "checkpoints" / "text.safetensors"
    path.parent.mkdir(exist_ok=True)
    path.write_text("<html>not found</html>" * 20)
    assert problem(load_checkpoint, context, "text").code == "model_format"


def test_a_damaged_header(context):
    path = context.models_dir / "checkpoints" / "header.safetensors"
    path.parent.mkdir(exist_ok=True)
    body = b'{"a": {"dtype": "F32", "shape": 7}}'
    path.write_bytes(struct.pack("<Q", len(body)) + body)
    assert problem(load_checkpoint, context, "header").code == "model_format"


def test_unknown_architectures_are_named(context, tmp_path):
    path = context.models_dir / "checkpoints" / "flux.safetensors"
    path.parent.mkdir(exist_ok=True)
    save_file({"double_blocks.0.img_attn.qkv.weight": torch.zeros(2, 2)}, path)
    found = problem(load_checkpoint, context, "flux")
    assert found.code == "unknown_architecture"
    assert "double_blocks" in found.message
    refiner = {
        "conditioner.embedders.0.model.ln_final.bias": (4,),
        "model.diffusion_model.label_emb.0.0.weight": (4, 4),
    }
    with pytest.raises(ModelError, match="refiner"):
        detect(refiner, "x")
    folder = context.models_dir / "diffusers" / "other"
    folder.mkdir(parents=True)
    (folder / "model_index.json").write_text(
        json.dumps({"_class_name": "FluxPipeline", "transformer": ["diffusers", "X"]})
    )
    found = problem(load_checkpoint, context, "other")
    assert found.code == "unknown_architecture"
    assert "FluxPipeline" in found.message


@pytest.mark.parametrize(
    ("file", "settings", "said"),
    [
        ("unet/config.json", {"in_channels": 8}, "4 channels beside the latent"),
        ("unet/config.json", {"class_embed_type": "projection"}, "embedding of a picture"),
        ("unet/config.json", {"num_class_embeds": 4}, "a class"),
        ("unet/config.json", {"addition_embed_type": "image"}, "more than CLIP says"),
        ("unet/config.json", {"encoder_hid_dim_type": "text_image_proj"}, "more than CLIP says"),
        ("scheduler/scheduler_config.json", {"_class_name": "EDMEulerScheduler"}, "noise of EDMEulerScheduler"),
        ("scheduler/scheduler_config.json", {"trained_betas": [0.1, 0.2]}, "noise levels of its own"),
        ("model_index.json", {"requires_aesthetics_score": True}, "SDXL refiner"),
    ],
)
def test_a_denoiser_that_would_draw_something_wrong_is_refused(tmp_path, plain, file, settings, said):
    """InstructPix2Pix, unCLIP, Kandinsky, Playground ...: folders of the same class, which words alone do not drive."""
    context = DiffusionContext(tmp_path, tmp_path / "models")
    path = shutil.copytree(plain, tmp_path / "models" / "diffusers" / "other") / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    found = problem(load_checkpoint, context, "other")
    assert found.code == "unknown_architecture"
    assert said in found.message


def test_a_missing_tensor_is_named_when_the_model_is_used(context, sd):
    key = "model.diffusion_model.middle_block.0.in_layers.2.bias"
    write_single(context, "lacking", change=lambda state: {k: v for k, v in state.items() if k != key})
    model, _, _ = load_checkpoint(context, "lacking")
    condition = [[torch.zeros(1, 77, 32), {}]]
    found = problem(sample, context, model, condition, empty_latent(32, 32), steps=1)
    assert found.code == "model_mismatch"
    assert "mid_block.resnets.0.conv1.bias" in found.message


def test_a_file_with_half_a_text_encoder_is_no_checkpoint(context):
    key = "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight"
    write_single(context, "half", change=lambda state: {k: v for k, v in state.items() if k != key})
    found = problem(load_checkpoint, context, "half")
    assert found.code == "unknown_architecture"
    assert "embeddings.position_embedding.weight" in found.message


def test_a_denoiser_alone_leaves_the_other_outputs_empty(context):
    pipe = pipeline("sdxl", context.models_dir)
    state = single_file_state(pipe, "sdxl")
    path = context.models_dir / "checkpoints" / "denoiser.safetensors"
    path.parent.mkdir(exist_ok=True)
    save_file({key: value for key, value in state.items() if key.startswith("model.")}, path)
    parts = load_checkpoint(context, "denoiser")
    assert parts.model.extras["architecture"] == "sdxl"
    assert isinstance(parts.clip, Skip)
    assert isinstance(parts.vae, Skip)


def test_the_prediction_of_a_file(context):
    pipe = pipeline("sd2", context.models_dir)
    save_single_file(context.models_dir / "checkpoints" / "two.safetensors", pipe, "sd2")
    assert load_checkpoint(context, "two").model.extras["schedule"]["prediction_type"] == "v_prediction"
    other = load_checkpoint(context, "two", prediction="epsilon")
    assert other.model.extras["schedule"]["prediction_type"] == "epsilon"
    state = load_file(context.models_dir / "checkpoints" / "two.safetensors")
    path = context.models_dir / "checkpoints" / "base.safetensors"
    save_file(state, path, {"modelspec.prediction_type": "epsilon"})
    assert load_checkpoint(context, "base").model.extras["schedule"]["prediction_type"] == "epsilon"


def test_parts_of_one_file_count_their_own_bytes(context):
    path = write_single(context, "whole")
    parts = load_checkpoint(context, "whole")
    total = sum(spec.weight_bytes for spec in parts)
    assert total < path.stat().st_size < total + 200_000
    assert parts.model.dtype == "float32"
    assert load_checkpoint(context, "whole", dtype="float16").clip.extras["encoders"][0]["dtype"] == "float16"


def test_the_autoencoder_of_sdxl_stays_in_full_precision(context, xl):
    model, _, vae = load_checkpoint(context, "xl", dtype="float16")
    assert (model.dtype, vae.dtype) == ("float16", "float32")


def test_the_content_key_names_what_a_name_may_mean():
    assert reads("tiny-sd") == []
    names = reads("dream")
    assert "checkpoints/dream.safetensors" in names
    assert "diffusers/dream/unet/diffusion_pytorch_model.safetensors" in names
    assert "clip_tokenizer/vocab.json" in names


# --- text -----------------------------------------------------------------------------------------------------------


def test_emphasis_is_read_and_plain_parentheses_are_text():
    assert stretches("a (red:1.5) boat (old)") == [("a ", 1.0), ("red", 1.5), (" boat (old)", 1.0)]
    assert stretches("") == []
    found = row("ab(cd:2)", lambda text: [ord(letter) for letter in text], 8, 1, 2, 0)
    assert found.ids == [1, 97, 98, 99, 100, 2, 0, 0]
    assert found.weights == [1, 1, 1, 2, 2, 1, 1, 1]
    assert row("abcdefgh", lambda text: [ord(letter) for letter in text], 6, 1, 2, 0).lost == 4


def test_emphasis_changes_the_condition_by_its_weight(context, sd):
    plain, strong, none = (encode_text(context, sd.clip, text)[0][0] for text in ("a boat", "a (boat:1.3)", ""))
    again = encode_text(context, sd.clip, "a (boat:1.0)")[0][0]
    torch.testing.assert_close(again, plain)
    wanted = none + 1.3 * (plain - none)
    # start, a, then the four letters of "boat"
    torch.testing.assert_close(strong[:, 2:6], wanted[:, 2:6], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(strong[:, :2], plain[:, :2])


def test_long_text_is_cut_and_the_log_says_so(sd, context, tmp_path):
    fresh = DiffusionContext(tmp_path, context.models_dir)
    [[rows, _]] = encode_text(fresh, sd.clip, "x " * 100)
    assert rows.shape == (1, 77, 768)
    assert fresh.logged == ["the text is 25 tokens too long for 75; its end was cut off."]
    torch.testing.assert_close(rows, encode_text(fresh, sd.clip, "x " * 75)[0][0])


def test_emphasis_takes_every_number_and_escaped_parentheses_are_text():
    assert stretches(r"a (red:.5) (blue:-1) \(old:1.2\) boat") == [
        ("a ", 1.0), ("red", 0.5), ("blue", -1.0), (" (old:1.2) boat", 1.0),
    ]  # fmt: skip
    assert stretches(r"(a boat \(old\):1.3)") == [("a boat (old)", 1.3)]


@pytest.mark.parametrize("base", ["sd", "xl"])
def test_long_text_goes_on_in_further_rows(base, context, request, tmp_path):
    parts = request.getfixturevalue(base)
    fresh = DiffusionContext(tmp_path, context.models_dir)

    def encoded(text, **options):
        [[rows, facts]] = encode_text(fresh, parts.clip, text, **options)
        return rows, facts.get("pooled_output")

    first, second = "x " * 75, "(y:1.4) " + "z " * 9
    rows, pooled = encoded(first + second, long_text="further rows")
    assert not fresh.logged
    assert rows.shape[1] == 154
    # Each stretch is read by itself, and the summary is that of the first.
    torch.testing.assert_close(rows[:, :77], encoded(first)[0])
    torch.testing.assert_close(rows[:, 77:], encoded(second)[0])
    if base == "xl":
        torch.testing.assert_close(pooled, encoded(first)[1])
    for short in ("", "a boat", first):
        torch.testing.assert_close(encoded(short, long_text="further rows")[0], encoded(short)[0])


def test_conditions_of_different_length_oppose_each_other(context, sd, tmp_path):
    """A short negative is the same negative beside a long text."""
    fresh = DiffusionContext(tmp_path, context.models_dir)
    model, clip, _ = sd
    long, short = (encode_text(fresh, clip, text, long_text="further rows") for text in ("x " * 100, "grey"))
    doubled = [[torch.cat([short[0][0], short[0][0]], dim=1), short[0][1]]]
    options = {"seed": 3, "steps": 2, "guidance": 5.0}
    sheet = empty_latent(32, 32)
    mine = sample(fresh, model, long, sheet, short, **options)["samples"]
    torch.testing.assert_close(mine, sample(fresh, model, long, sheet, doubled, **options)["samples"])
    other = sample(fresh, model, short, sheet, long, **options)["samples"]
    assert not torch.allclose(mine, other)
    alone = sample(fresh, model, short, sheet, seed=3, steps=2, guidance=1.0)["samples"]
    torch.testing.assert_close(sample(fresh, model, doubled, sheet, seed=3, steps=2, guidance=1.0)["samples"], alone)


def test_layers_can_be_left_out_but_not_all(context, xl):
    plain, earlier = (encode_text(context, xl.clip, "a boat", skip=skip)[0][0] for skip in (0, 1))
    assert not torch.allclose(plain, earlier)
    assert problem(encode_text, context, xl.clip, "a boat", skip=2).port == "skip"


def test_a_single_file_without_a_tokenizer_says_where_to_put_one(tmp_path):
    context = DiffusionContext(tmp_path, tmp_path / "models")
    save_single_file(tmp_path / "models" / "one.safetensors", pipeline("sd1", tmp_path), "sd1")
    _, clip, _ = load_checkpoint(context, "one")
    found = problem(encode_text, context, clip, "a boat")
    assert found.code == "model_missing"
    assert "vocab.json" in found.remedy
    assert str(tmp_path / "models" / "clip_tokenizer") in found.message


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    context = DiffusionContext(tmp_path, tmp_path)
    folder = made.ensure(tmp_path)
    shutil.copytree(folder, tmp_path / "other")
    vocabulary = json.loads((folder / "tokenizer" / "vocab.json").read_text())
    shifted = {entry: index + (10_000 if entry == "t</w>" else 0) for entry, index in vocabulary.items()}
    (tmp_path / "other" / "tokenizer" / "vocab.json").write_text(json.dumps(shifted))
    _, clip, _ = load_checkpoint(context, "other")
    assert problem(encode_text, context, clip, "a boat").code == "wrong_tokenizer"


# --- sampling -------------------------------------------------------------------------------------------------------


def test_drawing_reports_and_follows_text_and_seed(context, sd, tmp_path):
    fresh = DiffusionContext(tmp_path, context.models_dir)
    boat, hill = (encode_text(fresh, sd.clip, text) for text in ("a red boat", "a green hill"))

    def draw(condition, seed):
        return sample(fresh, sd.model, condition, empty_latent(64, 64), seed=seed, steps=4)["samples"]

    first = draw(boat, 1)
    assert fresh.progressed == [(1, 4, ""), (2, 4, ""), (3, 4, ""), (4, 4, "")]
    assert torch.equal(first, draw(boat, 1))
    assert not torch.allclose(first, draw(boat, 2))
    assert not torch.allclose(first, draw(hill, 1))


def test_cancel_ends_within_a_step(context, sd, tmp_path):
    fresh = DiffusionContext(tmp_path, context.models_dir)
    condition = encode_text(fresh, sd.clip, "a boat")
    fresh.stop_after = 3
    with pytest.raises(Cancelled):
        sample(fresh, sd.model, condition, empty_latent(64, 64), steps=50)
    assert len(fresh.progressed) <= 2


def test_conditions_that_do_not_fit_are_refused(context, sd, xl):
    sheet = empty_latent(64, 64)
    wide = encode_text(context, xl.clip, "a boat")
    found = problem(sample, context, sd.model, wide, sheet, steps=1)
    assert (found.code, found.port) == ("wrong_width", "positive")
    assert "1x77x80" in found.message and "768" in found.message
    right = encode_text(context, sd.clip, "a boat")
    assert problem(sample, context, sd.model, right, sheet, wide, steps=1).port == "negative"
    bare = [[wide[0][0], {}]]
    found = problem(sample, context, xl.model, bare, sheet, steps=1)
    assert found.code == "bad_condition"
    assert "summary" in found.message
    three = [[torch.zeros(3, 77, 768), {}]]
    assert problem(sample, context, sd.model, three, empty_latent(64, 64, 2), steps=1).code == "bad_condition"


def test_latents_that_do_not_fit_are_refused(context, sd):
    condition = encode_text(context, sd.clip, "a boat")
    for shape in ((1, 16, 8, 8), (1, 4, 2, 8, 8)):
        found = problem(sample, context, sd.model, condition, {"samples": torch.zeros(shape)}, steps=1)
        assert (found.code, found.port) == ("bad_latent", "latent")
        assert problem(vae_decode, context, {"samples": torch.zeros(shape)}, sd.vae).port == "latent"


def test_an_inpainting_model_wants_a_masked_picture(context):
    pipeline("sd1", context.models_dir, in_channels=9).save_pretrained(context.models_dir / "diffusers" / "nine")
    model, clip, _ = load_checkpoint(context, "nine")
    condition = encode_text(context, clip, "a boat")
    found = problem(sample, context, model, condition, empty_latent(64, 64), steps=1)
    assert "encode_inpaint" in found.remedy


def test_sdxl_hears_the_size_it_is_told(context, xl):
    def draw(**size):
        condition = encode_text(context, xl.clip, "a boat", **size)
        return sample(context, xl.model, condition, empty_latent(64, 64), steps=2, guidance=1.0)["samples"]

    assert torch.equal(draw(), draw(width=64, height=64))
    assert not torch.allclose(draw(), draw(width=512, height=64))


# --- pictures and latents -------------------------------------------------------------------------------------------


def test_sizes_and_masks_that_do_not_fit(context, sd):
    assert problem(empty_latent, 64, 60).code == "bad_size"
    assert empty_latent(64, 48, 3, vae=sd.vae)["samples"].shape == (3, 4, 6, 8)
    odd = torch.rand(1, 30, 32, 3)
    assert problem(vae_encode, context, odd, sd.vae).port == "image"
    picture = torch.rand(1, 32, 32, 3)
    assert problem(encode_inpaint, context, picture, torch.ones(1, 16, 16), sd.vae).port == "mask"
    assert problem(mask_latent, {"samples": torch.zeros(3, 4, 4, 4)}, torch.ones(2, 32, 32)).port == "mask"


def test_grey_pictures_and_pictures_with_alpha_are_encoded_as_colours(context, sd):
    grey = torch.rand(1, 32, 32, 1, generator=torch.Generator().manual_seed(1))
    rgb = grey.expand(-1, -1, -1, 3)
    wanted = vae_encode(context, rgb, sd.vae)["samples"]
    torch.testing.assert_close(vae_encode(context, grey, sd.vae)["samples"], wanted)
    alpha = torch.cat([rgb, torch.ones_like(grey)], dim=-1)
    torch.testing.assert_close(vae_encode(context, alpha, sd.vae)["samples"], wanted)


def test_tiles_give_the_picture_in_pieces(context, sd):
    latent = {"samples": torch.randn(1, 4, 24, 24, generator=torch.Generator().manual_seed(3))}
    whole, tiles = (vae_decode(context, latent, sd.vae, tiled=tiled) for tiled in (False, True))
    assert tiles.shape == whole.shape == (1, 192, 192, 3)
    # Seams aside it is the same picture: norms and attention of a tile see only the tile.
    assert not torch.equal(tiles, whole)
    assert torch.corrcoef(torch.stack([tiles.flatten(), whole.flatten()]))[0, 1] > 0.8


def test_an_output_that_is_missing_is_skipped(tmp_path):
    context = DiffusionContext(tmp_path, tmp_path)
    folder = made.ensure(tmp_path)
    shutil.copytree(folder, tmp_path / "bare")
    for place in ("vae", "text_encoder"):
        shutil.rmtree(tmp_path / "bare" / place)
    parts = load_checkpoint(context, "bare")
    assert isinstance(parts.clip, Skip)
    assert isinstance(parts.vae, Skip)
    assert parts.model.family == "diffusion.unet"


def test_an_unreadable_config_is_named(tmp_path):
    context = DiffusionContext(tmp_path, tmp_path)
    shutil.copytree(made.ensure(tmp_path), tmp_path / "torn")
    (tmp_path / "torn" / "unet" / "config.json").write_text("{")
    found = problem(load_checkpoint, context, "torn")
    assert found.code == "model_damaged"
    assert "unet/config.json" in found.message
