"""ControlNets: files of every layout, what they say that they need, and what is said to bad input."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from graph_engine import Engine, Settings
from graph_engine.errors import AnyloomError
from graph_engine.graph.registry import Registry
from graph_engine.memory.reservations import models_of, stated_bytes
from graph_engine.models.catalog import Catalog
from graph_engine.models.spec import ModelSpec
from graph_engine.store.codec import decode, encode
from nodes import diffusion, media
from nodes.diffusion import (
    apply_controlnet,
    as_decoder,
    empty_latent,
    encode_text,
    load_checkpoint,
    load_controlnet,
    sample,
)
from nodes.diffusion.controlnet import fitted
from nodes.diffusion.controlnet_file import reads
from nodes.diffusion.families import FAMILIES
from nodes.diffusion.load import lease
from nodes.nextgpt.decode_image import sample_image
from tests.diffusion_models import DiffusionContext, controlnet, ldm_controlnet, pipeline
from tests.live_bytes import peak_bytes

torch.set_num_threads(1)
# diffusers hands torch tensors to numpy in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BASES = ("sd1", "sd2", "sdxl")
PICTURE = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(1))
# As published ones are told of the text, so that a file says how wide that is.
TOLD = {"addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 1280 + 6 * 8}


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    found = DiffusionContext(tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("models"))
    for base in BASES:
        pipeline(base, found.models_dir).save_pretrained(found.models_dir / "diffusers" / base)
        controlnet(base).save_pretrained(found.models_dir / "controlnet" / f"{base}_net")
    return found


@pytest.fixture(scope="module")
def folder(context):
    return context.models_dir / "controlnet"


@pytest.fixture(scope="module")
def sd(context):
    model, clip, _ = load_checkpoint(context, "sd1")
    return model, encode_text(context, clip, "a boat")


def problem(call, *arguments, **options):
    with pytest.raises(AnyloomError) as caught:
        call(*arguments, **options)
    found = caught.value.problem
    assert found.remedy
    return found


def draw(context, model, condition, negative=None, sheet=None, **options):
    sheet = empty_latent(32, 32) if sheet is None else sheet
    return sample(context, model, condition, sheet, negative, **{"seed": 3, "steps": 2, **options})["samples"]


# --- files ----------------------------------------------------------------------------------------------------------


def meant(net, base):
    """What a single file has to say of a net; the rest are defaults of diffusers."""
    names = (
        "block_out_channels", "layers_per_block", "down_block_types", "mid_block_type", "cross_attention_dim",
        "conditioning_embedding_out_channels", "use_linear_projection", "in_channels", "conditioning_channels",
        "addition_embed_type", "addition_time_embed_dim", "projection_class_embeddings_input_dim",
    )  # fmt: skip
    return {name: net.config[name] for name in names if net.config[name] is not None}


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("layout", ["diffusers", "original", "bare", "whole"])
def test_a_single_file_is_the_net_of_its_folder(context, folder, base, layout):
    net = controlnet(base, **(TOLD if base == "sdxl" else {}))
    state = net.state_dict() if layout == "diffusers" else ldm_controlnet(net)
    if layout in ("original", "whole"):
        state = {f"control_model.{key}": value for key, value in state.items()}
    own = sum(tensor.nbytes for tensor in state.values())
    if layout == "whole":
        state["model.diffusion_model.out.2.weight"] = torch.zeros(64, 64)
    save_file({key: value.clone().contiguous() for key, value in state.items()}, folder / "one.safetensors")
    spec = load_controlnet(context, "one")
    assert spec.weight_bytes == own
    found = {name: tuple(value) if isinstance(value, list) else value for name, value in spec.config.items()}
    assert found.items() >= meant(net, base).items()
    if base == "sd1":
        assert found["attention_head_dim"] == 8
    else:
        assert found["attention_head_dim"] == (1, 1)
    mine, theirs = lease(context, spec).state_dict(), net.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)


def test_a_single_file_draws_what_its_folder_draws(context, folder, sd):
    """sd1 of eight heads: the one size that this base has by itself."""
    model, condition = sd
    net = controlnet("sd1")
    save_file(ldm_controlnet(net), folder / "drawn.safetensors")
    one, other = (
        draw(context, model, apply_controlnet(condition, load_controlnet(context, name), PICTURE))
        for name in ("sd1_net", "drawn")
    )
    torch.testing.assert_close(one, other)


def test_a_small_net_of_sdxl_attends_to_nothing(context, folder):
    from diffusers import ControlNetModel

    wide = controlnet("sdxl", **TOLD).config
    net = ControlNetModel.from_config(
        {**wide, "down_block_types": ("DownBlock2D",) * 2, "mid_block_type": "UNetMidBlock2D"}
    )
    save_file(net.state_dict(), folder / "small.safetensors")
    spec = load_controlnet(context, "small")
    assert lease(context, spec).state_dict().keys() == net.state_dict().keys()
    _, clip, _ = load_checkpoint(context, "sdxl")
    assert apply_controlnet(encode_text(context, clip, "a boat"), spec, PICTURE)


def test_a_file_of_half_precision_helps_a_model_of_full(context, folder, sd):
    model, condition = sd
    state = {key: value.half() for key, value in controlnet("sd1").state_dict().items()}
    save_file(state, folder / "half.safetensors")
    spec = load_controlnet(context, "half")
    assert spec.dtype == "float16"
    assert load_controlnet(context, "half", "float32").dtype == "float32"
    mine, wanted = (
        draw(context, model, apply_controlnet(condition, load_controlnet(context, name), PICTURE))
        for name in ("half", "sd1_net")
    )
    assert (mine - wanted).norm() / wanted.norm() < 0.01


def test_a_file_that_says_it_shuffles_speaks_of_the_whole_picture(context, folder):
    state = ldm_controlnet(controlnet("sd1"))
    for name, wanted in (("x_shuffle", True), ("x_shuffle_fp16", True), ("shuffled_canny", False)):
        save_file(state, folder / f"{name}.safetensors")
        assert load_controlnet(context, name).config["global_pool_conditions"] is wanted


def test_what_is_no_controlnet_is_named(context, folder):
    def said(name, state):
        save_file(state, folder / f"{name}.safetensors")
        found = problem(load_controlnet, context, name)
        assert found.code == "unknown_architecture"
        return found.message

    state = controlnet("sd1").state_dict()
    assert "control-LoRA" in said("lora", {**ldm_controlnet(controlnet("sd1")), "lora_controlnet": torch.zeros(1)})
    assert "union" in said("union", {**state, "task_embedding": torch.zeros(6, 4)})
    assert "adapter" in said("t2i", {"adapter.body.0.in_conv.weight": torch.zeros(1)})
    lacking = {key: value for key, value in state.items() if key != "down_blocks.0.resnets.0.conv1.weight"}
    assert "down_blocks.0.resnets.0.conv1.weight" in said("lacking", lacking)
    other = shutil.copytree(folder / "sd1_net", folder / "changed")
    config = json.loads((other / "config.json").read_text())
    for change, why in (
        ({"_class_name": "ControlNetUnionModel"}, "ControlNetUnionModel"),
        ({"conditioning_channels": 4}, "4 channels"),
        ({"class_embed_type": "timestep"}, "more than a picture"),
        ({"addition_embed_type": "text"}, "more of the words"),
    ):
        (other / "config.json").write_text(json.dumps({**config, **change}))
        found = problem(load_controlnet, context, "changed")
        assert found.code == "unknown_architecture" and why in found.message


def test_damaged_missing_and_pickled_files(context, folder):
    found = problem(load_controlnet, context, "absent")
    assert (found.code, found.port) == ("model_missing", "name")
    assert "controlnet/sd1_net" in found.remedy
    assert problem(load_controlnet, context, "../absent").code == "bad_path"
    (folder / "old.pth").write_bytes(b"\x80\x02}q\x00.")
    assert problem(load_controlnet, context, "old.pth").code == "pickle_refused"
    save_file(controlnet("sd1").state_dict(), folder / "cut.safetensors")
    (folder / "cut.safetensors").write_bytes((folder / "cut.safetensors").read_bytes()[:-100])
    assert problem(load_controlnet, context, "cut").code == "model_damaged"
    key = "zero_convs.0.0.bias"
    state = {name: tensor for name, tensor in ldm_controlnet(controlnet("sd1")).items() if name != key}
    save_file(state, folder / "lacks_bias.safetensors")
    found = problem(lease, context, load_controlnet(context, "lacks_bias"))
    assert found.code == "model_mismatch" and "controlnet_down_blocks.0.bias" in found.message


def test_the_content_key_names_what_a_name_may_mean(folder):
    names = reads("canny")
    assert "controlnet/canny.safetensors" in names
    assert "controlnet/canny/config.json" in names
    assert "controlnet/canny/diffusion_pytorch_model.fp16.safetensors" in names
    assert load_controlnet.node_type.reads({"name": "canny"}) == names


def test_a_file_that_is_written_over_is_read_again(context, folder, sd):
    model, condition = sd
    save_file(controlnet("sd1").state_dict(), folder / "over.safetensors")
    kept = apply_controlnet(condition, load_controlnet(context, "over"), PICTURE)
    before = draw(context, model, kept)
    save_file(controlnet("sd1", seed=9).state_dict(), folder / "over.safetensors")
    assert not torch.allclose(draw(context, model, kept), before)
    (folder / "over.safetensors").unlink()
    assert problem(draw, context, model, kept).code == "model_missing"


# --- what it says of itself -----------------------------------------------------------------------------------------


def test_a_condition_with_a_controlnet_can_be_stored(context, sd):
    model, condition = sd
    wanted = apply_controlnet(condition, load_controlnet(context, "sd1_net"), PICTURE)
    assert "controls" not in condition[0][1], "the condition without is another one"
    back = decode(encode(wanted))
    assert isinstance(back[0][1]["controls"][0]["controlnet"], ModelSpec)
    assert torch.equal(draw(context, model, back), draw(context, model, wanted))


def test_a_job_counts_the_nets_of_its_condition(context, sd):
    model, condition = sd
    node, net = sample.node_type, load_controlnet(context, "sd1_net")
    once = apply_controlnet(condition, net, PICTURE)
    twice = apply_controlnet(once, net, PICTURE, 0.5)
    other = apply_controlnet(once, load_controlnet(context, "sd1_net", "float16"), PICTURE)
    assert [spec.family for spec in models_of(node, {}, {"model": model})] == ["diffusion.unet"]
    found = models_of(node, {}, {"model": model, "positive": once})
    assert [spec.family for spec in found] == ["diffusion.unet", "diffusion.controlnet"]
    assert found[1].weight_bytes > 0
    before = set(context.models)
    draw(context, model, once)
    assert {spec.key for spec in found} >= set(context.models) - before, "counted as what is leased"
    assert len(models_of(node, {}, {"model": model, "positive": twice})) == 2
    assert len(models_of(node, {}, {"model": model, "positive": other})) == 3
    bytes = [
        stated_bytes(node, {"model": model, "positive": each, "guidance": 7.5}) for each in (condition, once, other)
    ]
    assert bytes[0] < bytes[1] == bytes[2], "what they say is one sum"
    assert bytes[0] == stated_bytes(node, {"model": model, "guidance": 7.5})


@pytest.mark.parametrize("count", [1, 2])
def test_bytes_beside_the_models_are_as_counted(count):
    """Of Stable Diffusion 1.5 at 512 x 512 with guidance, on fake tensors."""
    from diffusers import ControlNetModel, UNet2DConditionModel

    from nodes.diffusion.model.control import Control, Controls

    def build():
        unet = UNet2DConditionModel(cross_attention_dim=768)
        return unet, ControlNetModel(cross_attention_dim=768)

    class Both(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.unet, self.net = build()

    def step(both):
        state = torch.empty(2, 4, 64, 64, dtype=torch.float16)
        words = torch.empty(2, 77, 768, dtype=torch.float16)
        picture = torch.empty(1, 3, 512, 512, dtype=torch.float16)
        helpers = Controls((Control(both.net, picture, 1.0, 0.0, 1.0),) * count)
        helpers.begin(1)
        return both.unet(state, 1, words, **helpers.arguments(state, 1, words, None, True)).sample

    counted = peak_bytes(Both, step, torch.float16)
    unet = {"block_out_channels": [320, 640, 1280, 1280], "layers_per_block": 2, "sample_size": 64}
    model = ModelSpec("diffusion.unet", unet, (), "float16")
    nets = [
        {"controlnet": ModelSpec("diffusion.controlnet", {"number": number}, (), "float16")} for number in range(count)
    ]
    stated = stated_bytes(sample.node_type, {"model": model, "guidance": 7.5, "positive": [[None, {"controls": nets}]]})
    assert counted <= stated <= 1.35 * counted, f"counted {counted:,}, stated {stated:,}"


# --- use ------------------------------------------------------------------------------------------------------------


def test_a_picture_is_stretched_as_diffusers_stretches_it():
    from diffusers.image_processor import VaeImageProcessor

    # Away from black and white: theirs cuts off what protrudes between the two directions, too.
    picture = torch.rand(1, 50, 70, 3, generator=torch.Generator().manual_seed(2)) * 0.4 + 0.3
    picture = (picture * 255).round() / 255
    processor = VaeImageProcessor(do_convert_rgb=True, do_normalize=False)
    pil = processor.numpy_to_pil(picture.numpy())
    wanted = processor.preprocess(pil, height=32, width=48)
    config = {"conditioning_embedding_out_channels": [8, 8, 16, 16]}
    mine = fitted(picture, config, torch.zeros(1, 4, 4, 6)).permute(0, 3, 1, 2)
    assert mine.shape == wanted.shape
    # Theirs is rounded to whole levels as often.
    assert (mine - wanted).abs().max() <= 1.5 / 255


def test_pictures_of_other_sizes_and_colours(context, sd):
    model, condition = sd
    net = load_controlnet(context, "sd1_net")
    plain = draw(context, model, condition)
    grey = torch.rand(1, 32, 32, 1, generator=torch.Generator().manual_seed(4))
    wanted = draw(context, model, apply_controlnet(condition, net, grey.expand(-1, -1, -1, 3)))
    assert not torch.allclose(wanted, plain)
    torch.testing.assert_close(draw(context, model, apply_controlnet(condition, net, grey)), wanted)
    alpha = torch.cat([grey.expand(-1, -1, -1, 3), torch.zeros_like(grey)], dim=-1)
    torch.testing.assert_close(draw(context, model, apply_controlnet(condition, net, alpha)), wanted)
    odd = torch.rand(1, 7, 91, 3)
    assert draw(context, model, apply_controlnet(condition, net, odd)).shape == plain.shape


def test_masks_that_do_not_fit_the_picture(context, sd):
    _, condition = sd
    net = load_controlnet(context, "sd1_net")
    for shape in ((1, 16, 32), (2, 32, 32)):
        found = problem(apply_controlnet, condition, net, PICTURE, mask=torch.ones(shape))
        assert (found.code, found.port) == ("bad_mask", "mask")
    hidden = apply_controlnet(condition, net, PICTURE, mask=torch.ones(1, 32, 32))
    model, _ = sd
    assert problem(draw, context, model, apply_controlnet(condition, net, PICTURE), hidden).port == "negative"


def test_strength_0_is_without_and_no_net_is_loaded(context, sd):
    _, condition = sd
    net = load_controlnet(context, "sd1_net")
    assert apply_controlnet(condition, net, PICTURE, 0.0) is condition


def test_the_negative_has_none_of_its_own(context, sd):
    model, condition = sd
    net = load_controlnet(context, "sd1_net")
    helped = apply_controlnet(condition, net, PICTURE)
    found = problem(draw, context, model, condition, helped)
    assert (found.code, found.port) == ("bad_control", "negative")
    # As in workflows that apply one node to both: it counts once, for both.
    torch.testing.assert_close(draw(context, model, helped, helped), draw(context, model, helped, condition))


def test_a_net_of_another_base_is_refused(context, sd):
    model, condition = sd
    found = problem(apply_controlnet, condition, load_controlnet(context, "sdxl_net"), PICTURE)
    assert (found.code, found.port) == ("wrong_controlnet", "controlnet")
    assert "SDXL" in found.message and "80" in found.message and "32" in found.message
    # One whose words are as wide may be of another build all the same.
    wide = controlnet("sd1", block_out_channels=(32, 96))
    wide.save_pretrained(context.models_dir / "controlnet" / "wide")
    helped = apply_controlnet(condition, load_controlnet(context, "wide"), PICTURE)
    found = problem(draw, context, model, helped)
    assert (found.code, found.port) == ("wrong_controlnet", "positive")
    assert "32x1, 96x1" in found.message
    nine = controlnet("sd1", in_channels=9)
    nine.save_pretrained(context.models_dir / "controlnet" / "nine")
    helped = apply_controlnet(condition, load_controlnet(context, "nine"), PICTURE)
    assert "9 channels" in problem(draw, context, model, helped).message
    told = controlnet("sdxl", **TOLD)
    told.save_pretrained(context.models_dir / "controlnet" / "told")
    xl, clip, _ = load_checkpoint(context, "sdxl")
    helped = apply_controlnet(encode_text(context, clip, "a boat"), load_controlnet(context, "told"), PICTURE)
    assert "summary" in problem(draw, context, xl, helped).message


def test_nothing_is_loaded_before_all_is_known_to_fit(context, sd, tmp_path):
    model, condition = sd
    fresh = DiffusionContext(tmp_path, context.models_dir)
    helped = apply_controlnet(condition, load_controlnet(context, "sd1_net"), PICTURE.expand(3, -1, -1, -1))
    found = problem(draw, fresh, model, helped, sheet=empty_latent(32, 32, 2))
    assert (found.code, found.port) == ("bad_control", "positive")
    assert "3 pictures" in found.message and "2 latents" in found.message
    assert fresh.models == {}


def test_shares_without_a_step_between_them(context, sd):
    _, condition = sd
    net = load_controlnet(context, "sd1_net")
    for start, end in ((0.5, 0.5), (0.8, 0.2)):
        found = problem(apply_controlnet, condition, net, PICTURE, 1.0, start, end)
        assert (found.code, found.port) == ("out_of_range", "end")


def test_conditions_that_are_drawn_together_have_the_same(context, sd):
    model, condition = sd
    net = load_controlnet(context, "sd1_net")
    one, other = (apply_controlnet(condition, net, PICTURE, strength) for strength in (1.0, 0.5))
    found = problem(draw, context, model, [*one, *other], sheet=empty_latent(32, 32, 2))
    assert (found.code, found.port) == ("bad_control", "positive")
    assert problem(draw, context, model, [*one, *condition], sheet=empty_latent(32, 32, 2)).code == "bad_control"
    together = apply_controlnet([*condition, *condition], net, PICTURE)
    assert draw(context, model, together, sheet=empty_latent(32, 32, 2)).shape[0] == 2


def test_a_decoder_of_nextgpt_refuses_one(context, sd):
    model, condition = sd
    _, _, vae = load_checkpoint(context, "sd1")
    helped = apply_controlnet(condition, load_controlnet(context, "sd1_net"), PICTURE)
    found = problem(sample_image, context, helped, as_decoder(model, vae), steps=1, width=32, height=32)
    assert (found.code, found.port) == ("bad_condition", "condition")
    assert "diffusion.sample" in found.remedy


DOCUMENT = {
    "format": "anyloom",
    "version": 1,
    "nodes": {
        "checkpoint": {"type": "diffusion.load_checkpoint", "values": {"name": "sd1"}},
        "net": {"type": "diffusion.load_controlnet", "values": {"name": "sd1_net"}},
        "words": {"type": "diffusion.encode_text", "values": {"text": "a"}, "links": {"clip": "checkpoint.clip"}},
        "picture": {"type": "media.solid_image", "values": {"width": 40, "height": 24, "color": "#4070c0"}},
        "follow": {
            "type": "diffusion.apply_controlnet",
            "links": {
                "conditioning": "words.conditioning",
                "controlnet": "net.control_net",
                "image": "picture.image",
            },
        },
        "sheet": {"type": "diffusion.empty_latent", "values": {"width": 32, "height": 32}},
        "draw": {
            "type": "diffusion.sample",
            "values": {"steps": 3},
            "links": {"model": "checkpoint.model", "positive": "follow.conditioning", "latent": "sheet.latent"},
        },
    },
}


@pytest.mark.asyncio
async def test_denoiser_and_net_share_less_memory_than_both_need(context, tmp_path):
    """The engine brings them block by block then; the same bits."""

    async def run(budget):
        settings = Settings(
            data_dir=tmp_path / str(budget),
            models_dir=context.models_dir,
            device_bytes={"cpu": budget} if budget else {},
            disk_cache_bytes=0,
        )
        registry = Registry()
        for pack in (diffusion, media):
            registry.add_module(pack)
        async with await Engine.open(settings, registry=registry, catalog=Catalog(FAMILIES)) as engine:
            record = await engine.submit(DOCUMENT, targets=["draw"])
            record = await engine.wait(record.id, 120)
            assert record.status == "succeeded", record.errors
            [made] = record.result["draw"].values()
            value = await engine.artifact(made["artifact"], made["port"])
            [device] = engine.models.stats()
        return value["samples"], {model["family"]: model["weight_bytes"] for model in device["models"]}

    whole, sizes = await run(None)
    assert sizes.keys() >= {"diffusion.unet", "diffusion.controlnet"}
    budget = sizes["diffusion.unet"] * 4 // 5
    tight, _ = await run(budget)
    assert torch.equal(tight, whole)


def test_loras_and_controlnets_go_together(context, sd):
    from nodes.diffusion import apply_lora

    model, condition = sd
    state = {}
    for key, value in load_file(context.models_dir / "diffusers/sd1/unet/diffusion_pytorch_model.safetensors").items():
        if key.endswith("attn1.to_q.weight"):
            layer = f"unet.{key.removesuffix('.weight')}"
            state[f"{layer}.lora_A.weight"] = torch.full((2, value.shape[1]), 0.1)
            state[f"{layer}.lora_B.weight"] = torch.full((value.shape[0], 2), 0.1)
    (context.models_dir / "loras").mkdir(exist_ok=True)
    save_file(state, context.models_dir / "loras" / "q.safetensors")
    helped = apply_controlnet(condition, load_controlnet(context, "sd1_net"), PICTURE)
    both = draw(context, apply_lora(context, model, "q").model, helped)
    assert not torch.allclose(both, draw(context, model, helped))
    assert not torch.allclose(both, draw(context, apply_lora(context, model, "q").model, condition))
