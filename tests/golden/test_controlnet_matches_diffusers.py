"""ControlNets against diffusers' own pipelines: same small weights, picture, seed and scheduler."""

from typing import Any

import pytest
import torch

from nodes.diffusion import (
    apply_controlnet,
    empty_latent,
    encode_inpaint,
    encode_text,
    load_checkpoint,
    load_controlnet,
    sample,
    vae_encode,
)
from nodes.nextgpt.model.diffusion_config import TrainingSchedule
from nodes.nextgpt.model.sampling import make_scheduler
from tests.diffusion_models import DiffusionContext, controlnet, pipeline

torch.set_num_threads(1)
# diffusers hands torch tensors to numpy in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TOLERANCE = 1e-4
SEED, STEPS, GUIDANCE = 7, 4, 6.0
WIDTH, HEIGHT = 48, 32
PROMPT, NEGATIVE = "a red boat (small) near a lighthouse", "grey, dull"
BASES = ("sd1", "sd2", "sdxl")


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    return DiffusionContext(tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def pipes(context) -> dict[str, Any]:
    found = {base: pipeline(base, context.models_dir) for base in BASES}
    found["inpainting"] = pipeline("sd1", context.models_dir, in_channels=9)
    for name, pipe in found.items():
        pipe.save_pretrained(context.models_dir / "diffusers" / name)
    return found


@pytest.fixture(scope="module")
def nets(context) -> dict[str, Any]:
    found = {base: controlnet(base) for base in BASES}
    found["other"] = controlnet("sd1", seed=2)
    found["shuffle"] = controlnet("sd1", seed=3)
    found["shuffle"].register_to_config(global_pool_conditions=True)
    found["xl_shuffle"] = controlnet("sdxl", seed=4)
    found["xl_shuffle"].register_to_config(global_pool_conditions=True, controlnet_conditioning_channel_order="bgr")
    for name, net in found.items():
        net.save_pretrained(context.models_dir / "controlnet" / name)
    return found


def picture(seed: int, count: int = 1) -> torch.Tensor:
    return torch.rand(count, HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(seed))


def planes(image: torch.Tensor) -> torch.Tensor:
    return image.permute(0, 3, 1, 2)


def source() -> torch.Generator:
    return torch.Generator().manual_seed(SEED)


def theirs(pipes, base: str, nets: Any, kind: str = "", scheduler: str = "ddim", **options: Any) -> torch.Tensor:
    """What diffusers draws, as a latent."""
    import diffusers

    parts = dict(pipes[base].components)
    parts["scheduler"] = make_scheduler(scheduler, TrainingSchedule())
    xl = "XL" if base == "sdxl" else ""
    more = {"add_watermarker": False} if xl else {"requires_safety_checker": False}
    pipe = getattr(diffusers, f"StableDiffusion{xl}ControlNet{kind}Pipeline")(**parts, controlnet=nets, **more)
    pipe.set_progress_bar_config(disable=True)
    given = {
        "negative_prompt": NEGATIVE,
        "num_inference_steps": STEPS,
        "guidance_scale": GUIDANCE,
        "generator": source(),
        "output_type": "latent",
        **options,
    }
    return pipe(PROMPT, **given).images


def ours(context, base: str, latent: Any, controls: list[tuple[str, torch.Tensor, dict[str, Any]]], **options: Any):
    model, clip, _ = load_checkpoint(context, base)
    condition = encode_text(context, clip, PROMPT)
    for name, image, numbers in controls:
        condition = apply_controlnet(condition, load_controlnet(context, name), image, **numbers)
    given = {"seed": SEED, "steps": STEPS, "guidance": GUIDANCE, "scheduler": "ddim", **options}
    return sample(context, model, condition, latent, encode_text(context, clip, NEGATIVE), **given)["samples"]


def assert_equal(mine, other):
    assert mine.shape == other.shape
    scale = other.abs().max()
    assert scale > 0.1
    assert (mine - other).abs().max() <= TOLERANCE * max(1.0, scale)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("scheduler", ["ddim", "euler_ancestral"])
def test_text_to_image_follows_the_picture(pipes, nets, context, base, scheduler):
    image = picture(1)
    other = theirs(
        pipes, base, nets[base], scheduler=scheduler, image=planes(image), num_images_per_prompt=2,
        controlnet_conditioning_scale=0.8,
    )  # fmt: skip
    sheet = empty_latent(WIDTH, HEIGHT, 2)
    mine = ours(context, base, sheet, [(base, image, {"strength": 0.8})], scheduler=scheduler)
    assert_equal(mine, other)
    plain = ours(context, base, sheet, [], scheduler=scheduler)
    assert (mine - plain).abs().max() > 0.05
    assert torch.equal(ours(context, base, sheet, [(base, image, {"strength": 0.0})], scheduler=scheduler), plain)


@pytest.mark.parametrize("guidance", [1.0, 6.0])
def test_a_picture_for_each_latent(pipes, nets, context, guidance):
    """As diffusers pairs pictures with prompts."""
    images = picture(2, 2)
    parts = dict(pipes["sd1"].components)
    import diffusers

    parts["scheduler"] = make_scheduler("ddim", TrainingSchedule())
    pipe = diffusers.StableDiffusionControlNetPipeline(**parts, controlnet=nets["sd1"], requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    other = pipe(
        [PROMPT, PROMPT], image=planes(images), negative_prompt=[NEGATIVE, NEGATIVE], num_inference_steps=STEPS,
        guidance_scale=guidance, generator=source(), output_type="latent",
    ).images  # fmt: skip
    assert_equal(ours(context, "sd1", empty_latent(WIDTH, HEIGHT, 2), [("sd1", images, {})], guidance=guidance), other)


@pytest.mark.parametrize(("start", "end"), [(0.0, 0.5), (0.25, 1.0), (0.3, 0.8)])
def test_start_and_end_are_shares_of_the_steps(pipes, nets, context, start, end):
    image = picture(3)
    other = theirs(
        pipes, "sd1", nets["sd1"], image=planes(image), control_guidance_start=start, control_guidance_end=end
    )
    mine = ours(context, "sd1", empty_latent(WIDTH, HEIGHT), [("sd1", image, {"start": start, "end": end})])
    assert_equal(mine, other)
    assert not torch.allclose(mine, ours(context, "sd1", empty_latent(WIDTH, HEIGHT), [("sd1", image, {})]))


def test_several_add_up(pipes, nets, context):
    one, two = picture(4), picture(5)
    other = theirs(
        pipes, "sd1", [nets["sd1"], nets["other"]], image=[planes(one), planes(two)],
        controlnet_conditioning_scale=[0.7, 1.2], control_guidance_start=[0.0, 0.25], control_guidance_end=[0.75, 1.0],
    )  # fmt: skip
    controls = [
        ("sd1", one, {"strength": 0.7, "end": 0.75}),
        ("other", two, {"strength": 1.2, "start": 0.25}),
    ]
    sheet = empty_latent(WIDTH, HEIGHT)
    assert_equal(ours(context, "sd1", sheet, controls), other)
    torch.testing.assert_close(ours(context, "sd1", sheet, controls[::-1]), other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("base", "name"), [("sd1", "shuffle"), ("sdxl", "xl_shuffle")])
@pytest.mark.parametrize("guidance", [1.0, 6.0])
def test_one_that_speaks_of_the_whole_picture_is_heard_by_the_condition_alone(
    pipes, nets, context, base, name, guidance
):
    image = picture(6)
    other = theirs(pipes, base, nets[name], image=planes(image), guidance_scale=guidance)
    mine = ours(context, base, empty_latent(WIDTH, HEIGHT), [(name, image, {})], guidance=guidance)
    assert_equal(mine, other)


@pytest.mark.parametrize(("base", "scheduler"), [("sd1", "ddim"), ("sd1", "heun"), ("sdxl", "euler")])
def test_image_to_image(pipes, nets, context, base, scheduler):
    """Shares are of the steps that are taken, and a solver of second order takes most twice."""
    _, _, vae = load_checkpoint(context, base)
    start, image = vae_encode(context, picture(7), vae), picture(8)
    numbers = {"control_guidance_start": 0.2, "control_guidance_end": 0.9}
    other = theirs(
        pipes, base, nets[base], "Img2Img", scheduler, image=start["samples"], control_image=planes(image),
        strength=0.6, num_inference_steps=10, controlnet_conditioning_scale=1.0, **numbers,
    )  # fmt: skip
    controls = [(base, image, {"start": 0.2, "end": 0.9})]
    assert_equal(ours(context, base, start, controls, scheduler=scheduler, strength=0.6, steps=10), other)


@pytest.mark.parametrize(("name", "strength"), [("sd1", 1.0), ("sd1", 0.6), ("inpainting", 1.0), ("inpainting", 0.6)])
def test_inpainting(pipes, nets, context, name, strength):
    _, _, vae = load_checkpoint(context, name)
    image, mask = picture(9), torch.zeros(1, HEIGHT, WIDTH)
    mask[:, 8:24, 8:] = 1.0
    start = picture(10)
    latent = encode_inpaint(context, start, mask, vae)
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    with pytest.MonkeyPatch.context() as patch:
        # Their pipeline draws a latent of the picture from the seed, ours takes the mean.
        patch.setattr(DiagonalGaussianDistribution, "sample", lambda own, generator=None: own.mean)
        other = theirs(
            pipes, name, nets["sd1"], "Inpaint", image=planes(start), mask_image=mask[:, None],
            control_image=planes(image), strength=strength, num_inference_steps=5, controlnet_conditioning_scale=1.0,
            height=HEIGHT, width=WIDTH,
        )  # fmt: skip
    mine = ours(context, name, latent, [("sd1", image, {})], strength=strength, steps=5)
    assert_equal(mine, other)


def test_what_is_drawn_anew_is_hidden_from_a_net_that_inpaints(pipes, nets, context):
    """As diffusers' guide for such nets has it: -1 under the mask."""
    image, mask = picture(12), torch.zeros(1, HEIGHT, WIDTH)
    mask[:, 8:24, 8:] = 1.0
    hidden = image.masked_fill(mask[..., None] >= 0.5, -1.0)
    other = theirs(pipes, "sd1", nets["sd1"], image=planes(hidden))
    sheet = empty_latent(WIDTH, HEIGHT)
    assert_equal(ours(context, "sd1", sheet, [("sd1", image, {"mask": mask})]), other)
    large = {"mask": mask.repeat_interleave(2, 1).repeat_interleave(2, 2)}
    twice = image.repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert torch.isfinite(ours(context, "sd1", sheet, [("sd1", twice, large)])).all()


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("kernels", ["sdpa", "reference"])
def test_other_kernels_draw_the_same(pipes, nets, context, base, kernels):
    """The denoiser's forward is replaced, and is given what the ControlNet says all the same; some steps go without."""
    image = picture(11)
    other = theirs(pipes, base, nets[base], image=planes(image), control_guidance_start=0.25, control_guidance_end=0.75)
    controls = [(base, image, {"start": 0.25, "end": 0.75})]
    context.logged.clear()
    mine = ours(context, base, empty_latent(WIDTH, HEIGHT), controls, kernels=kernels)
    assert (mine - other).norm() / other.norm() < 1e-4
    assert any(kernels in line for line in context.logged)
