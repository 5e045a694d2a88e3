"""LoRA: files of diffusers, peft and kohya do what diffusers does with them, and the base never changes."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from graph_engine.errors import AnyloomError
from nodes.diffusion import apply_lora, empty_latent, encode_text, load_checkpoint, sample
from nodes.diffusion.load import lease
from nodes.diffusion.lora import patched_unet
from nodes.nextgpt.model.diffusion_config import TrainingSchedule
from nodes.nextgpt.model.sampling import make_scheduler
from tests.diffusion_models import DiffusionContext, pipeline

torch.set_num_threads(1)
# diffusers hands torch tensors to numpy in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BASES = ("sd1", "sdxl")
STRENGTH = 0.5


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    found = DiffusionContext(tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("models"))
    for base in BASES:
        pipe = pipeline(base, found.models_dir)
        pipe.save_pretrained(found.models_dir / "diffusers" / base)
        write_lora(pipe, found.models_dir / "loras", f"{base}.safetensors")
    return found


def write_lora(pipe, folder, name):
    """Random low-rank layers of rank 4 (denoiser, alpha 8 by the file's settings) and 2 (first text encoder)."""
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    with torch.random.fork_rng():
        torch.manual_seed(1)
        targets = ["to_q", "to_k", "to_v", "to_out.0"]
        pipe.unet.add_adapter(LoraConfig(r=4, lora_alpha=8, init_lora_weights=False, target_modules=targets))
        pipe.text_encoder.add_adapter(
            LoraConfig(
                r=2, lora_alpha=2, init_lora_weights=False, target_modules=["q_proj", "k_proj", "v_proj", "out_proj"]
            )
        )
    from diffusers.training_utils import _collate_lora_metadata

    type(pipe).save_lora_weights(
        folder,
        **_collate_lora_metadata({"unet": pipe.unet, "text_encoder": pipe.text_encoder}),
        unet_lora_layers=get_peft_model_state_dict(pipe.unet),
        text_encoder_lora_layers=get_peft_model_state_dict(pipe.text_encoder),
        weight_name=name,
    )


def draw(context, model, clip):
    return sample(
        context,
        model,
        encode_text(context, clip, "a boat"),
        empty_latent(32, 32),
        encode_text(context, clip, "grey"),
        seed=3,
        steps=2,
        guidance=5.0,
        scheduler="ddim",
    )["samples"]


@pytest.mark.parametrize("base", BASES)
def test_a_lora_does_what_it_does_in_diffusers(context, base):
    model, clip, _ = load_checkpoint(context, base)
    before = draw(context, model, clip)
    changed, words = apply_lora(context, model, base, clip, STRENGTH, STRENGTH)
    mine = draw(context, changed, words)
    pipe = pipeline(base, context.models_dir)
    pipe.load_lora_weights(context.models_dir / "loras", weight_name=f"{base}.safetensors", adapter_name="x")
    pipe.set_adapters(["x"], [STRENGTH])
    pipe.scheduler = make_scheduler("ddim", TrainingSchedule())
    theirs = pipe(
        "a boat",
        negative_prompt="grey",
        height=32,
        width=32,
        num_inference_steps=2,
        guidance_scale=5.0,
        generator=torch.Generator().manual_seed(3),
        output_type="latent",
    ).images
    assert (mine - theirs).abs().max() < 1e-4 * theirs.abs().max()
    assert (mine - before).abs().max() > 0.05
    assert torch.equal(draw(context, model, clip), before), "the base has changed"
    unchanged, same_words = apply_lora(context, model, base, clip, 0.0, 0.0)
    torch.testing.assert_close(draw(context, unchanged, same_words), before)


def kohya(state, scale=1.0):
    """The same layers as kohya's scripts name them: alpha is the number that is divided by the rank."""
    found = {}
    for key, value in state.items():
        place, kind = key.split(".lora_")
        head = {"unet": "lora_unet", "text_encoder": "lora_te1"}[place.split(".")[0]]
        if head == "lora_te1" and "text_model" not in place:
            place = place.replace("text_encoder.", "text_encoder.text_model.")
        name = f"{head}_{place.split('.', 1)[1].replace('.', '_')}"
        found[f"{name}.lora_{'down' if kind.startswith('A') else 'up'}.weight"] = value
        if kind.startswith("A"):
            own = 2.0 if head == "lora_unet" else 1.0
            found[f"{name}.alpha"] = torch.tensor(float(value.shape[0]) * own * scale)
    return found


def test_other_formats_of_one_lora_are_one(context):
    """kohya's alpha of twice the rank makes it twice as strong; peft's own names; only a denoiser's layers."""
    folder = context.models_dir / "loras"
    state = load_file(folder / "sd1.safetensors")
    save_file(kohya(state, scale=2.0), folder / "kohya.safetensors")
    bare = {key.removeprefix("unet."): value for key, value in state.items() if key.startswith("unet.")}
    save_file({f"base_model.model.{key}": value for key, value in bare.items()}, folder / "peft.safetensors")
    model, clip, _ = load_checkpoint(context, "sd1")
    wanted = draw(context, *apply_lora(context, model, "sd1", clip, 1.0, 1.0))
    found = draw(context, *apply_lora(context, model, "kohya", clip, 0.5, 0.5))
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    # peft's own file says no alpha here: it is the rank, which makes it half as strong.
    unet = draw(context, apply_lora(context, model, "sd1", None, 0.35).model, clip)
    torch.testing.assert_close(draw(context, apply_lora(context, model, "peft", None, 0.7).model, clip), unet)


def test_a_lora_of_words_alone_changes_what_is_heard(context):
    state = load_file(context.models_dir / "loras" / "sd1.safetensors")
    words = {key: value for key, value in state.items() if key.startswith("text_encoder.")}
    save_file(words, context.models_dir / "loras" / "words.safetensors")
    model, clip, _ = load_checkpoint(context, "sd1")
    same, heard = apply_lora(context, model, "words", clip, 1.0, 1.0)
    assert same is model
    [[mine, _]], [[before, _]] = encode_text(context, heard, "a boat"), encode_text(context, clip, "a boat")
    assert (mine - before).abs().max() > 0.01
    pipe = pipeline("sd1", context.models_dir)
    pipe.load_lora_weights(context.models_dir / "loras", weight_name="words.safetensors")
    torch.testing.assert_close(mine, pipe.encode_prompt("a boat", "cpu", 1, False)[0])
    with pytest.raises(AnyloomError, match="changes nothing in the denoiser"):
        apply_lora(context, model, "words")


def test_loras_add_up_and_share_the_base(context):
    model, clip, _ = load_checkpoint(context, "sd1")
    once = apply_lora(context, model, "sd1", clip, 0.6, 0.6)
    twice = apply_lora(context, apply_lora(context, model, "sd1", None, 0.4).model, "sd1", None, 0.2).model
    torch.testing.assert_close(draw(context, twice, once.clip), draw(context, *once), atol=1e-4, rtol=1e-4)
    base = lease(context, model)
    patched = patched_unet(context, lease(context, once.model), once.model)
    assert lease(context, once.model) is base, "a LoRA must not make the base be loaded again"
    own = {tensor.data_ptr() for tensor in base.parameters()}
    added = [tensor for tensor in patched.parameters() if tensor.data_ptr() not in own]
    assert 0 < sum(tensor.numel() for tensor in added) < sum(tensor.numel() for tensor in base.parameters()) / 4
    assert once.model.key != model.key != twice.key


def refused(context, name, base="sd1"):
    model, clip, _ = load_checkpoint(context, base)
    with pytest.raises(AnyloomError) as caught:
        apply_lora(context, model, name, clip)
    return caught.value.problem


def test_a_lora_of_another_base_is_refused(context):
    found = refused(context, "sdxl")
    assert (found.code, found.port) == ("wrong_lora", "name")
    assert "Stable Diffusion 1.x" in found.message
    assert refused(context, "sd1", "sdxl").code == "wrong_lora"
    folder = context.models_dir / "loras"
    state = load_file(folder / "sd1.safetensors")
    wider = {key: torch.cat([value, value], dim=1) if ".lora_A" in key else value for key, value in state.items()}
    save_file(wider, folder / "wider.safetensors")
    found = refused(context, "wider")
    assert found.code == "wrong_lora"
    assert "to" in found.message
    save_file({"model.layers.0.weight": torch.zeros(2, 2)}, folder / "none.safetensors")
    assert refused(context, "none").code == "wrong_lora"


def test_damaged_missing_and_pickled_loras(context):
    folder = context.models_dir / "loras"
    (folder / "cut.safetensors").write_bytes((folder / "sd1.safetensors").read_bytes()[:-100])
    assert refused(context, "cut").code == "model_damaged"
    found = refused(context, "absent")
    assert found.code == "model_missing"
    assert "loras/sd1.safetensors" in found.remedy
    (folder / "old.pt").write_bytes(b"\x80\x02}q\x00.")
    assert refused(context, "old.pt").code == "pickle_refused"
