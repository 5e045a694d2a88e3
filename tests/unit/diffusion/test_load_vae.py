"""`diffusion.load_vae`: folders and files of every layout are the same autoencoder, and what is none is refused."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from graph_engine.errors import AnyloomError
from nodes.diffusion import load_checkpoint, load_vae, vae_decode, vae_encode
from nodes.diffusion.load import lease
from tests.diffusion_models import DiffusionContext, pipeline, save_single_file, single_file_state

torch.set_num_threads(1)
# diffusers hands torch tensors to numpy in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ORIGINAL = "first_stage_model."


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def context(folder, tmp_path_factory):
    return DiffusionContext(tmp_path_factory.mktemp("root"), folder)


@pytest.fixture
def fresh(context, tmp_path):
    return DiffusionContext(tmp_path, context.models_dir)


@pytest.fixture(scope="module")
def pipes(folder):
    """Two bases: folders of pipelines, folders of their autoencoders, and single files of both layouts."""
    found = {base: pipeline(base, folder, seed=seed) for base, seed in (("sd1", 0), ("sdxl", 1))}
    (folder / "vae").mkdir(exist_ok=True)
    for base, pipe in found.items():
        pipe.save_pretrained(folder / "diffusers" / base)
        pipe.vae.save_pretrained(folder / "vae" / f"{base}_folder")
        save_single_file(folder / "checkpoints" / f"{base}_whole.safetensors", pipe, base)
        own = {key: value for key, value in single_file_state(pipe, base).items() if key.startswith(ORIGINAL)}
        bare = {key.removeprefix(ORIGINAL): value for key, value in own.items()}
        # What training left in published files is no part of the autoencoder.
        bare |= {"loss.logvar": torch.zeros(1), "model_ema.decay": torch.zeros(1)}
        states = {"original": own, "bare": bare, "diffusers": pipe.vae.state_dict(), "old": _old(pipe.vae)}
        for layout, state in states.items():
            save_file(state, folder / "vae" / f"{base}_{layout}.safetensors")
    return found


def _old(vae):
    """As diffusers named and shaped the attention before its version 0.12."""
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = {}
    for key, value in vae.state_dict().items():
        for new, old in names.items():
            key = key.replace(f".attentions.0.{new}.", f".attentions.0.{old}.")
        state[key] = value.contiguous()
    return state


def problem(call, *arguments, **options):
    with pytest.raises(AnyloomError) as caught:
        call(*arguments, **options)
    assert caught.value.problem.remedy
    return caught.value.problem


LAYOUTS = ("folder", "original", "bare", "diffusers", "old", "whole")


@pytest.mark.parametrize("base", ["sd1", "sdxl"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_the_same_autoencoder(pipes, context, base, layout):
    vae = load_vae(context, f"{base}_{layout}")
    own = load_checkpoint(context, base).vae
    assert (vae.family, vae.dtype) == (own.family, own.dtype)
    assert vae.extras["architecture"] == own.extras["architecture"] == base
    mine, theirs = lease(context, vae), lease(context, own)
    assert all(torch.equal(mine.state_dict()[key], value) for key, value in theirs.state_dict().items())
    assert mine.state_dict().keys() == theirs.state_dict().keys()
    assert mine.config.scaling_factor == pipes[base].vae.config.scaling_factor
    picture = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(1))
    latent = vae_encode(context, picture, vae)
    with torch.no_grad():
        wanted = pipes[base].vae.encode(picture.permute(0, 3, 1, 2) * 2 - 1).latent_dist.mode()
    torch.testing.assert_close(latent["samples"], wanted * pipes[base].vae.config.scaling_factor)
    decoded = vae_decode(context, latent, vae)
    torch.testing.assert_close(decoded, vae_decode(context, latent, own))


def test_the_folder_of_a_pipeline_means_its_autoencoder(pipes, context):
    whole, part = load_vae(context, "sd1"), load_vae(context, "diffusers/sd1/vae")
    own = load_checkpoint(context, "sd1").vae
    assert lease(context, whole) is lease(context, part) is lease(context, own), "one in memory"
    assert load_vae(context, "sd1", dtype="float16").dtype == "float16"


def test_the_made_up_checkpoint_has_one_too(context):
    vae = load_vae(context)
    assert vae.extras["made"] == "tiny-sd"
    assert lease(context, vae) is lease(context, load_checkpoint(context).vae)
    shutil.rmtree(context.models_dir / "tiny-sd")
    context.models.clear()
    assert vae_decode(context, {"samples": torch.zeros(1, 4, 2, 2)}, vae).shape == (1, 16, 16, 3)


def test_what_a_file_is_for_is_told_or_read_or_guessed_aloud(pipes, fresh, folder):
    state = pipes["sd1"].vae.state_dict()
    for name in ("plain", "SDXL-vae"):
        save_file(state, folder / "vae" / f"{name}.safetensors")
    for name, remark in (("said_xl", "stable-diffusion-xl-v1-base/vae"), ("xl_said_1", "stable-diffusion-v1/vae")):
        save_file(state, folder / "vae" / f"{name}.safetensors", {"modelspec.architecture": remark})

    def found(name, **options):
        vae = load_vae(fresh, name, **options)
        return vae.extras["architecture"], vae.config["scaling_factor"], vae.dtype

    half = {"dtype": "float16"}
    assert found("said_xl", **half) == ("sdxl", 0.13025, "float32"), "it overflows in half precision"
    assert found("xl_said_1", **half) == ("sd1", 0.18215, "float16")
    assert found("plain", base="sdxl") == ("sdxl", 0.13025, "float32")
    assert found("sdxl_whole", base="sd2", **half) == ("sd2", 0.18215, "float16")
    assert fresh.logged == []
    assert found("plain") == ("sd1", 0.18215, "float32")
    assert found("SDXL-vae") == ("sdxl", 0.13025, "float32")
    assert [line.split(" ")[0] for line in fresh.logged] == ["plain.safetensors", "SDXL-vae.safetensors"]
    assert all("`base`" in line for line in fresh.logged)


def test_a_file_without_the_convolutions_around_the_latent_is_built_without(pipes, context, folder):
    from diffusers import AutoencoderKL

    with torch.random.fork_rng():
        torch.manual_seed(3)
        kind = {"use_quant_conv": False, "use_post_quant_conv": False, "mid_block_add_attention": False}
        vae = AutoencoderKL(**{**dict(pipes["sd1"].vae.config), **kind}).eval()
    save_file(vae.state_dict(), folder / "vae" / "lean.safetensors")
    latent = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        wanted = (vae.decode(latent / 0.18215).sample / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    torch.testing.assert_close(vae_decode(context, {"samples": latent}, load_vae(context, "lean")), wanted)


def test_a_file_that_is_written_over_is_another_autoencoder(pipes, context, folder):
    path = folder / "vae" / "changing.safetensors"
    save_file(pipes["sd1"].vae.state_dict(), path)
    before = load_vae(context, "changing")
    changed = {key: value + 1 for key, value in pipes["sd1"].vae.state_dict().items()}
    save_file(changed, path)
    assert load_vae(context, "changing").key != before.key
    weight = lease(context, before).state_dict()["decoder.conv_in.bias"]
    assert torch.equal(weight, changed["decoder.conv_in.bias"]), "an older spec is read from the file as it is"


def test_the_content_key_names_what_a_name_may_mean():
    reads = load_vae.node_type.reads
    assert reads({"name": "tiny-sd"}) == reads({"name": "../x"}) == reads({"name": "/x"}) == reads({"name": " "}) == []
    names = reads({"name": "better"})
    for file in (
        "vae/better.safetensors",
        "vae/better/config.json",
        "vae/better/diffusion_pytorch_model.fp16.safetensors",
        "vae/better/*-of-*.safetensors",
        "checkpoints/better.safetensors",
        "diffusers/better/vae/diffusion_pytorch_model.safetensors",
        "diffusers/better/model_index.json",
    ):
        assert file in names


def test_shards_are_one_autoencoder(pipes, context, folder):
    pipes["sd1"].vae.save_pretrained(folder / "vae" / "shards", max_shard_size="200KB")
    vae = load_vae(context, "shards")
    assert len(vae.files) > 1
    state = lease(context, vae).state_dict()
    assert all(torch.equal(state[key], value) for key, value in pipes["sd1"].vae.state_dict().items())


# --- what is no such autoencoder ------------------------------------------------------------------------------------


def test_a_wrong_name_lists_what_is_there(pipes, context):
    found = problem(load_vae, context, "nothing")
    assert (found.code, found.port) == ("model_missing", "name")
    assert "vae/sd1_bare.safetensors" in found.remedy and "vae/sd1_folder" in found.remedy
    assert problem(load_vae, context, "../vae").code == "bad_path"


def test_an_empty_models_folder_says_where_to_put_one(tmp_path):
    context = DiffusionContext(tmp_path, tmp_path / "models")
    assert problem(load_vae, context, "better").remedy == f"Put a VAE into {tmp_path / 'models' / 'vae'}."


def test_a_pickle_is_refused_and_convert_named(context, folder):
    (folder / "vae").mkdir(exist_ok=True)
    (folder / "vae" / "old.vae.pt").write_bytes(b"\x80\x02}q\x00.")
    found = problem(load_vae, context, "old.vae.pt")
    assert (found.code, found.port) == ("pickle_refused", "name")
    assert "anyloom convert" in found.remedy


def test_files_of_something_else_are_refused(pipes, context, folder):
    states = {
        "lora": ({"lora_unet_x.alpha": torch.zeros(1)}, "lora_unet_x"),
        "taesd": ({"decoder.1.weight": torch.zeros(1), "encoder.0.weight": torch.zeros(1)}, "lacks"),
        "half": (
            {key: value for key, value in pipes["sd1"].vae.state_dict().items() if not key.startswith("encoder.")},
            "encoder.conv_in.weight",
        ),
        "wide": (
            {**pipes["sd1"].vae.state_dict(), "decoder.conv_in.weight": torch.zeros(64, 16, 3, 3)},
            "16 channels",
        ),
    }
    for name, (state, said) in states.items():
        save_file(state, folder / "vae" / f"{name}.safetensors")
        found = problem(load_vae, context, name)
        assert (found.code, found.port) == ("unknown_architecture", "name")
        assert said in found.message


def test_a_folder_of_another_model_is_refused_by_its_name(pipes, context, folder):
    for name, change, said in (
        ("tiny", {"_class_name": "AutoencoderTiny"}, "holds AutoencoderTiny,"),
        ("words", {"_class_name": None, "model_type": "clip"}, "holds clip,"),
        ("nameless", {"_class_name": None}, "does not say its name"),
    ):
        path = shutil.copytree(folder / "vae" / "sd1_folder", folder / "vae" / name) / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        found = problem(load_vae, context, name)
        assert (found.code, found.port) == ("unknown_architecture", "name")
        assert said in found.message


def test_damaged_files_are_named(pipes, context, folder):
    path = shutil.copy(folder / "vae" / "sd1_bare.safetensors", folder / "vae" / "cut.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    assert problem(load_vae, context, "cut").code == "model_damaged"
    state = pipes["sd1"].vae.state_dict()
    del state["decoder.mid_block.resnets.0.conv1.bias"]
    save_file(state, folder / "vae" / "lacking.safetensors")
    found = problem(vae_decode, context, {"samples": torch.zeros(1, 4, 2, 2)}, load_vae(context, "lacking"))
    assert found.code == "model_mismatch"
    assert "decoder.mid_block.resnets.0.conv1.bias" in found.message


# --- as part of a decoder of NExT-GPT -------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["sd1_whole", "sd1"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_decoder_takes_the_autoencoder_that_is_linked(pipes, context, folder, model, layout):
    """Also where the checkpoint's file, or that of the autoencoder, holds both parts."""
    from nodes.diffusion import as_decoder, decoder_parts

    unet, vae = load_checkpoint(context, model).model, load_vae(context, f"sdxl_{layout}")
    decoder = as_decoder(unet, vae)
    found = lease(context, decoder).state_dict()
    apart = {f"unet.{key}": value for key, value in pipes["sd1"].unet.state_dict().items()}
    apart |= {f"vae.{key}": value for key, value in pipes["sdxl"].vae.state_dict().items()}
    assert all(torch.equal(found[key], value) for key, value in apart.items())
    again = decoder_parts(context, decoder)
    assert all(
        torch.equal(apart[f"unet.{key}"], value) for key, value in lease(context, again.model).state_dict().items()
    )
    assert all(torch.equal(apart[f"vae.{key}"], value) for key, value in lease(context, again.vae).state_dict().items())
