"""Pipelines that are larger than the memory: part after part, in pieces where one part is too large, the same bits."""

import json
import shutil
import warnings

import pytest
import torch

from graph_engine import Engine, Settings
from graph_engine.graph.registry import Registry
from graph_engine.memory.reservations import stated_bytes
from graph_engine.models.catalog import Catalog
from graph_engine.models.load import materialise, module_bytes
from graph_engine.models.spec import ModelSpec
from nodes import diffusion
from nodes.diffusion import generate_sound, generate_video, load_video
from nodes.diffusion.families import FAMILIES
from tests import diffusion_pipelines as make
from tests.diffusion_models import DiffusionContext
from web.asked_models import models_of
from web.forecast import gates_of, report_of

torch.set_num_threads(1)
pytestmark = [
    pytest.mark.asyncio,
    # diffusers hands torch tensors to numpy in the old way.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]
FILM = {"text": "a red boat", "negative": "rain", "width": 32, "height": 32, "frames": 9, "steps": 2, "seed": 3}
SOUND = {"text": "a red boat", "negative": "rain", "seconds": 0.3, "steps": 2, "seed": 1}
BUNDLES = {
    "ltx": ("load_video", "video_model", generate_video, FILM),
    "motion": ("load_video", "video_model", generate_video, FILM),
    "audioldm2": ("load_sound", "sound_model", generate_sound, SOUND),
}


def with_a_plain_denoiser(folder):
    """As AnimateDiff is published: a denoiser of pictures, and beside it the motion layers."""
    from diffusers import UNet2DConditionModel

    from tests.diffusion_models import pipeline

    base = pipeline("sd1", folder.parent / "base").unet
    shutil.rmtree(folder / "unet")
    assert isinstance(base, UNet2DConditionModel)
    base.save_pretrained(folder / "unet")
    index = json.loads((folder / "model_index.json").read_text())
    index["unet"] = ["diffusers", "UNet2DConditionModel"]
    (folder / "model_index.json").write_text(json.dumps(index))


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make.audioldm2(folder / "pipelines" / "audioldm2")
        make.ltx(folder / "pipelines" / "ltx")
        make.animatediff(folder / "pipelines" / "motion")
        with_a_plain_denoiser(folder / "pipelines" / "motion")
    return folder


def document(name):
    loader, port, function, values = BUNDLES[name]
    return {
        "format": "anyloom",
        "version": 1,
        "nodes": {
            "model": {"type": f"diffusion.{loader}", "values": {"name": name}},
            "make": {"type": function.node_type.id, "values": values, "links": {"model": f"model.{port}"}},
        },
    }


class Run:
    """One run of a bundle on the host. budget: bytes for its models beside what the node says it needs."""

    def __init__(self, tmp_path, models_dir, name, budget=None):
        self.name, self.models_dir, self.data, self.budget = name, models_dir, tmp_path / f"{name}-{budget}", budget

    async def done(self, working=0):
        registry = Registry()
        registry.add_module(diffusion)
        limits = {} if self.budget is None else {"cpu": self.budget + working}
        settings = Settings(data_dir=self.data, models_dir=self.models_dir, device_bytes=limits, disk_cache_bytes=0)
        async with await Engine.open(settings, registry=registry, catalog=Catalog(FAMILIES)) as engine:
            record = await engine.submit(document(self.name), targets=["make"])
            record = await engine.wait(record.id, 120)
            assert record.status == "succeeded", record.errors
            [made] = record.result["make"].values()
            self.value = await engine.artifact(made["artifact"], made["port"])
            plan, _ = await engine.plan(document(self.name))
            spec = await engine.artifact(plan.steps[0].key)
            self.parts = spec.extras["parts"]
            self.working = stated_bytes(BUNDLES[self.name][2].node_type, {**BUNDLES[self.name][3], "model": spec})
            [self.device] = engine.models.stats()
            self.loads = engine.models.loads
            found = await models_of(engine, document(self.name), {})
            self.report = report_of(engine, found, gates_of(plan.steps), "cpu", 1e9)
        return self

    @property
    def tensor(self):
        return self.value["frames"] if "frames" in self.value else self.value["waveform"]


@pytest.mark.parametrize("name", BUNDLES)
async def test_a_pipeline_larger_than_the_memory_runs_part_by_part(tmp_path, models_dir, name):
    whole = await Run(tmp_path, models_dir, name).done()
    sizes = [model["weight_bytes"] for model in whole.device["models"]]
    assert len(sizes) == len(whole.parts) == whole.loads, "each part is a model of its own, and here each comes once"
    assert all(model["leases"] == 0 for model in whole.device["models"])
    budget = max(sizes) + min(sizes)
    assert budget < 0.9 * sum(sizes)
    tight = await Run(tmp_path, models_dir, name, budget).done(whole.working)
    assert torch.equal(tight.tensor, whole.tensor) and whole.tensor.std() > 1e-3
    assert tight.device["used_bytes"] <= budget and tight.device["reserved_bytes"] == 0
    assert all(model["leases"] == 0 for model in tight.device["models"])
    if name != "audioldm2":  # whose text encoders are used twice
        assert tight.loads == len(sizes), "what is not needed again leaves, so each comes once here, too"
    # And `anyloom plan` says so before.
    assert tight.report.problem == "" and len(tight.report.uses) == len(sizes)
    assert [use.streamed for use in tight.report.uses] == [0] * len(sizes)
    assert tight.report.working == whole.working


@pytest.mark.parametrize(("name", "share"), [("ltx", 0.6), ("motion", 0.5)])
async def test_a_part_that_is_itself_too_large_comes_in_pieces(tmp_path, models_dir, name, share):
    whole = await Run(tmp_path, models_dir, name).done()
    largest = max(model["weight_bytes"] for model in whole.device["models"])
    tight = await Run(tmp_path, models_dir, name, int(share * largest)).done(whole.working)
    assert torch.equal(tight.tensor, whole.tensor)
    assert tight.device["used_bytes"] <= share * largest
    assert any(use.streamed for use in tight.report.uses) and not any(use.streamed for use in whole.report.uses)


async def test_motion_layers_beside_a_plain_denoiser_film_as_diffusers_does(tmp_path, models_dir):
    from diffusers import AnimateDiffPipeline

    context = DiffusionContext(tmp_path, models_dir)
    film = generate_video(context, load_video(context, "motion"), "a boat", "rain", 32, 48, 3, 8.0, 2, 4.0, 3)
    pipe = AnimateDiffPipeline.from_pretrained(models_dir / "pipelines" / "motion", local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        prompt="a boat", negative_prompt="rain", width=32, height=48, num_frames=3, num_inference_steps=2,
        guidance_scale=4.0, generator=torch.Generator().manual_seed(3), output_type="pt",
    ).frames[0]  # fmt: skip
    assert (film["frames"].permute(0, 3, 1, 2) - theirs).abs().max() < 1e-4
    assert film["frames"].std() > 0.02


@pytest.mark.parametrize("name", ["ltx", "motion"])
async def test_what_is_built_empty_is_what_its_library_loads(tmp_path, models_dir, name):
    """Text encoders: weights and answers to the bit."""
    from transformers import CLIPTextModel, T5EncoderModel

    spec = ModelSpec.from_dict(load_video(DiffusionContext(tmp_path, models_dir), name).extras["parts"]["text_encoder"])
    family = next(family for family in FAMILIES if family.name == spec.family)
    assert family.load is None, "else it could not come in pieces"
    ours = materialise(spec, family, "cpu")
    kind = T5EncoderModel if name == "ltx" else CLIPTextModel
    theirs = kind.from_pretrained(models_dir / "pipelines" / name / "text_encoder", local_files_only=True)
    theirs.requires_grad_(False).eval()
    assert module_bytes(ours) == pytest.approx(module_bytes(theirs), rel=0.01)
    state = ours.state_dict()
    assert all(torch.equal(state[key], value) for key, value in theirs.state_dict().items())
    ids = torch.tensor([[4, 5, 6, 1]])
    assert torch.equal(ours(ids).last_hidden_state, theirs(ids).last_hidden_state)


async def test_an_adapter_with_an_input_of_its_own_adds_channels(tmp_path):
    """PIA: the first channels of the input are the denoiser's, the others the adapter's."""
    from diffusers import MotionAdapter, UNet2DConditionModel, UNetMotionModel

    from nodes.diffusion.part import part, with_motion
    from tests.diffusion_models import unet_config

    torch.manual_seed(0)
    unet = UNet2DConditionModel(**unet_config("sd1"))
    adapter = MotionAdapter(
        block_out_channels=(32, 64),
        motion_layers_per_block=1,
        motion_norm_num_groups=2,
        motion_num_attention_heads=4,
        conv_in_channels=9,
    )
    unet.save_pretrained(tmp_path / "unet")
    adapter.save_pretrained(tmp_path / "motion")
    spec = with_motion(
        part(tmp_path / "unet", "diffusers", "UNet2DConditionModel", ""),
        part(tmp_path / "motion", "diffusers", "MotionAdapter", ""),
    )
    family = next(family for family in FAMILIES if family.name == spec.family)
    ours = materialise(spec, family, "cpu").state_dict()
    theirs = UNetMotionModel.from_unet2d(unet, adapter).state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert ours["conv_in.weight"].shape[1] == 9
