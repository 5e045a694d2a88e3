"""`diffusion.sample` and its neighbours against diffusers' own pipelines: same small weights, seed and scheduler."""

from typing import Any

import pytest
import torch

from nodes.diffusion import (
    empty_latent,
    encode_inpaint,
    encode_text,
    load_checkpoint,
    mask_latent,
    sample,
    upscale_latent,
    vae_decode,
    vae_encode,
)
from nodes.nextgpt.model.diffusion_config import TrainingSchedule
from nodes.nextgpt.model.sampling import make_scheduler
from tests.diffusion_models import DiffusionContext, pipeline, save_single_file

torch.set_num_threads(1)
# diffusers hands torch tensors to numpy in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TOLERANCE = 1e-4
SEED, STEPS, GUIDANCE = 7, 4, 6.0
PROMPT, NEGATIVE = "a red boat (small) near a lighthouse", "grey, dull"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def context(folder, tmp_path_factory):
    return DiffusionContext(tmp_path_factory.mktemp("root"), folder)


@pytest.fixture(scope="module")
def pipes(folder) -> dict[str, Any]:
    """Three bases and an inpainting model, each saved as a folder under the models folder."""
    found = {
        "sd1": pipeline("sd1", folder),
        "sd2": pipeline("sd2", folder, prediction="v_prediction"),
        "sdxl": pipeline("sdxl", folder),
        "inpainting": pipeline("sd1", folder, in_channels=9),
    }
    for name, pipe in found.items():
        pipe.save_pretrained(folder / "diffusers" / name)
    return found


def source() -> torch.Generator:
    return torch.Generator().manual_seed(SEED)


def with_scheduler(pipe: Any, name: str) -> Any:
    prediction = pipe.scheduler.config.prediction_type
    pipe.scheduler = make_scheduler(name, TrainingSchedule(prediction_type=prediction))
    return pipe


def ours(context, name, latent, **options):
    model, clip, vae = load_checkpoint(context, name)
    return sample(
        context,
        model,
        encode_text(context, clip, PROMPT),
        latent,
        encode_text(context, clip, NEGATIVE),
        **{"seed": SEED, "steps": STEPS, "guidance": GUIDANCE, **options},
    )["samples"], vae


def assert_equal(mine, theirs):
    assert mine.shape == theirs.shape
    scale = theirs.abs().max()
    assert scale > 0.1
    assert (mine - theirs).abs().max() <= TOLERANCE * max(1.0, scale)


@pytest.mark.parametrize(
    ("base", "scheduler"),
    [("sd1", "ddim"), ("sd1", "euler_ancestral"), ("sd2", "dpmpp_2m"), ("sdxl", "ddim"), ("sdxl", "euler_ancestral")],
)
def test_text_to_image(pipes, context, base, scheduler):
    pipe = with_scheduler(pipes[base], scheduler)
    theirs = pipe(
        PROMPT,
        negative_prompt=NEGATIVE,
        height=32,
        width=48,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        num_images_per_prompt=2,
        generator=source(),
        output_type="latent",
    ).images
    mine, vae = ours(context, base, empty_latent(48, 32, 2), scheduler=scheduler)
    assert_equal(mine, theirs)
    with torch.no_grad():
        picture = pipe.vae.decode(theirs / pipe.vae.config.scaling_factor).sample
    decoded = vae_decode(context, {"samples": mine}, vae)
    assert_equal(decoded.permute(0, 3, 1, 2), (picture / 2 + 0.5).clamp(0, 1))


SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


@pytest.mark.parametrize(
    ("kind", "scheduler", "steps", "settings"),
    [
        # As sd-turbo, SDXL, and models that were trained down to pure noise say it.
        ("EulerAncestralDiscreteScheduler", "euler_ancestral", 1, {"timestep_spacing": "trailing"}),
        ("EulerDiscreteScheduler", "euler", 1, {"timestep_spacing": "trailing"}),
        ("EulerDiscreteScheduler", "euler", 4, {"timestep_spacing": "leading"}),
        ("DPMSolverMultistepScheduler", "dpmpp_2m", 4, {"timestep_spacing": "trailing"}),
        (
            "DDIMScheduler", "ddim", 4,
            {"timestep_spacing": "trailing", "rescale_betas_zero_snr": True, "prediction_type": "v_prediction",
             "clip_sample": False, "set_alpha_to_one": False},
        ),
    ],
)  # fmt: skip
def test_a_folder_says_where_its_steps_stop_and_how_its_noise_ends(context, folder, kind, scheduler, steps, settings):
    import diffusers

    pipe = pipeline("sd2", folder)
    pipe.scheduler = getattr(diffusers, kind)(**SCHEDULE, **settings)
    pipe.save_pretrained(folder / "diffusers" / "stops")
    theirs = pipe(
        PROMPT,
        height=32,
        width=32,
        num_inference_steps=steps,
        guidance_scale=0.0,
        generator=source(),
        output_type="latent",
    ).images
    mine, _ = ours(context, "stops", empty_latent(32, 32), scheduler=scheduler, steps=steps, guidance=0.0)
    assert_equal(mine, theirs)


@pytest.mark.parametrize("guidance", [8.0, 1.0])
def test_a_denoiser_with_distilled_guidance_is_told_it(context, folder, guidance):
    """As latent consistency models are: one pass, without a negative."""
    from diffusers import LCMScheduler, UNet2DConditionModel

    from nodes.diffusion import as_decoder
    from nodes.nextgpt.decode_image import sample_image
    from tests.diffusion_models import unet_config

    pipe = pipeline("sd1", folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipe.unet = UNet2DConditionModel(**unet_config("sd1"), time_cond_proj_dim=16).eval()
    pipe.scheduler = LCMScheduler(**SCHEDULE)
    pipe.save_pretrained(folder / "diffusers" / "lcm")
    theirs = pipe(
        PROMPT,
        height=32,
        width=32,
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        generator=source(),
        output_type="latent",
    ).images
    mine, _ = ours(context, "lcm", empty_latent(32, 32), scheduler="lcm", guidance=guidance)
    assert_equal(mine, theirs)
    model, clip, vae = load_checkpoint(context, "lcm")
    options = {"steps": STEPS, "guidance": guidance, "scheduler": "lcm", "seed": SEED, "width": 32, "height": 32}
    latent = sample_image(context, encode_text(context, clip, PROMPT), as_decoder(model, vae), **options)
    assert_equal(latent["samples"], theirs)


def test_a_file_says_that_its_noise_ends_pure(pipes, context, folder):
    """A v-prediction file with the two marks that such files carry draws what a folder with those settings draws."""
    from safetensors.torch import save_file

    from tests.diffusion_models import single_file_state

    marks = {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
    state = single_file_state(pipes["sd1"], "sd1")
    (folder / "checkpoints").mkdir(exist_ok=True)
    save_file({**state, **marks}, folder / "checkpoints" / "marked.safetensors")
    model, _, _ = load_checkpoint(context, "marked")
    assert model.extras["schedule"] == {
        **SCHEDULE,
        "num_train_timesteps": 1000,
        "prediction_type": "v_prediction",
        "timestep_spacing": "trailing",
        "rescale_betas_zero_snr": True,
    }
    save_file(state, folder / "checkpoints" / "unmarked.safetensors")
    plain, _, _ = load_checkpoint(context, "unmarked", prediction="v_prediction")
    assert "rescale_betas_zero_snr" not in plain.extras["schedule"]


def test_an_old_file_has_its_text_encoder_too(pipes, context, folder):
    """Models of 2022 and their merges lack "text_model." in its names."""
    from safetensors.torch import save_file

    from tests.diffusion_models import single_file_state

    state = {key.replace(".text_model.", "."): value for key, value in single_file_state(pipes["sd1"], "sd1").items()}
    (folder / "checkpoints").mkdir(exist_ok=True)
    save_file(state, folder / "checkpoints" / "old.safetensors")
    (folder / "clip_tokenizer").mkdir(exist_ok=True)
    for name in ("vocab.json", "merges.txt"):
        (folder / "clip_tokenizer" / name).write_bytes((folder / "tokenizer_source" / name).read_bytes())
    _, clip, _ = load_checkpoint(context, "old")
    _, own, _ = load_checkpoint(context, "sd1")
    torch.testing.assert_close(encode_text(context, clip, PROMPT)[0][0], encode_text(context, own, PROMPT)[0][0])


def test_the_spacing_of_noise_levels(pipes, context):
    from diffusers import DPMSolverMultistepScheduler

    pipe = pipes["sd1"]
    pipe.scheduler = DPMSolverMultistepScheduler(**SCHEDULE, use_karras_sigmas=True)
    theirs = pipe(
        PROMPT,
        negative_prompt=NEGATIVE,
        height=32,
        width=32,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        generator=source(),
        output_type="latent",
    ).images
    mine, _ = ours(context, "sd1", empty_latent(32, 32), scheduler="dpmpp_2m", spacing="karras")
    assert_equal(mine, theirs)
    default, _ = ours(context, "sd1", empty_latent(32, 32), scheduler="dpmpp_2m")
    assert not torch.allclose(default, mine)


@pytest.mark.parametrize("base", ["sd1", "sdxl"])
def test_the_text_encoders_say_what_diffusers_hears(pipes, context, base):
    _, clip, _ = load_checkpoint(context, base)
    [[rows, facts]] = encode_text(context, clip, PROMPT)
    wanted = pipes[base].encode_prompt(PROMPT, "cpu", 1, False) if base == "sd1" else pipes[base].encode_prompt(PROMPT)
    assert_equal(rows, wanted[0])
    if base == "sdxl":
        assert_equal(facts["pooled_output"], wanted[2])


@pytest.mark.parametrize(("base", "scheduler"), [("sd1", "ddim"), ("sd1", "euler"), ("sdxl", "dpmpp_2m")])
def test_image_to_image(pipes, context, base, scheduler):
    from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionXLImg2ImgPipeline

    kind = StableDiffusionXLImg2ImgPipeline if base == "sdxl" else StableDiffusionImg2ImgPipeline
    parts = dict(with_scheduler(pipes[base], scheduler).components)
    more = {"requires_safety_checker": False} if base == "sd1" else {"add_watermarker": False}
    pipe = kind(**parts, **more)
    pipe.set_progress_bar_config(disable=True)
    _, _, vae = load_checkpoint(context, base)
    picture = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(1))
    start = vae_encode(context, picture, vae)
    theirs = pipe(
        PROMPT,
        image=start["samples"],
        negative_prompt=NEGATIVE,
        strength=0.6,
        num_inference_steps=5,
        guidance_scale=GUIDANCE,
        generator=source(),
        output_type="latent",
    ).images
    mine, _ = ours(context, base, start, scheduler=scheduler, strength=0.6, steps=5)
    assert_equal(mine, theirs)


@pytest.mark.parametrize("base", ["sd1", "sdxl"])
def test_a_drawing_that_is_drawn_over_larger(pipes, context, base):
    """The "hires fix": what diffusers makes of the first drawing's latent, interpolated by torch, as image to image."""
    from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionXLImg2ImgPipeline

    first, _ = ours(context, base, empty_latent(32, 32), scheduler="euler")
    kind = StableDiffusionXLImg2ImgPipeline if base == "sdxl" else StableDiffusionImg2ImgPipeline
    more = {"requires_safety_checker": False} if base == "sd1" else {"add_watermarker": False}
    pipe = kind(**dict(with_scheduler(pipes[base], "euler").components), **more)
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        PROMPT,
        image=torch.nn.functional.interpolate(first, scale_factor=1.5, mode="bicubic"),
        negative_prompt=NEGATIVE,
        strength=0.6,
        num_inference_steps=5,
        guidance_scale=GUIDANCE,
        generator=source(),
        output_type="latent",
    ).images
    larger = upscale_latent({"samples": first}, 1.5, method="bicubic")
    mine, _ = ours(context, base, larger, scheduler="euler", strength=0.6, steps=5)
    assert_equal(mine, theirs)


def inpaint_pipeline(pipe, scheduler):
    from diffusers import StableDiffusionInpaintPipeline

    parts = dict(with_scheduler(pipe, scheduler).components)
    found = StableDiffusionInpaintPipeline(**parts, requires_safety_checker=False)
    found.set_progress_bar_config(disable=True)
    return found


@pytest.mark.parametrize(
    ("name", "scheduler", "strength"),
    [
        ("sd1", "ddim", 1.0),
        ("sd1", "euler", 0.6),
        ("sd1", "dpmpp_2m", 0.6),
        ("inpainting", "ddim", 1.0),
        ("inpainting", "euler", 0.6),
    ],
)
def test_inpainting(pipes, context, name, scheduler, strength):
    _, _, vae = load_checkpoint(context, name)
    picture = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(1, 32, 32)
    mask[:, 8:24, 8:] = 1.0
    latent = encode_inpaint(context, picture, mask, vae)
    pipe = inpaint_pipeline(pipes[name], scheduler)
    theirs = pipe(
        PROMPT,
        image=latent["samples"],
        mask_image=mask[:, None],
        masked_image_latents=latent["masked_samples"],
        negative_prompt=NEGATIVE,
        height=32,
        width=32,
        strength=strength,
        num_inference_steps=5,
        guidance_scale=GUIDANCE,
        generator=source(),
        output_type="latent",
    ).images
    mine, _ = ours(context, name, latent, scheduler=scheduler, strength=strength, steps=5)
    assert_equal(mine, theirs)
    if name == "sd1":
        kept = (latent["noise_mask"] == 0).expand_as(mine)
        torch.testing.assert_close(mine[kept], latent["samples"][kept])
        assert not torch.allclose(mine[~kept], latent["samples"][~kept])


def test_a_masked_latent_is_kept_where_the_mask_is_0(pipes, context):
    start = {"samples": torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(2))}
    mask = torch.zeros(1, 32, 32)
    mask[:, :, 16:] = 1.0
    mine, _ = ours(context, "sd1", mask_latent(start, mask), strength=0.8)
    torch.testing.assert_close(mine[..., :2], start["samples"][..., :2])
    assert (mine[..., 2:] - start["samples"][..., 2:]).abs().max() > 0.1


@pytest.mark.parametrize("base", ["sd1", "sd2", "sdxl"])
def test_a_single_file_draws_what_its_folder_draws(pipes, context, folder, base):
    save_single_file(folder / "checkpoints" / f"{base}_original.safetensors", pipes[base], base)
    (folder / "clip_tokenizer").mkdir(exist_ok=True)
    for name in ("vocab.json", "merges.txt"):
        (folder / "clip_tokenizer" / name).write_bytes((folder / "tokenizer_source" / name).read_bytes())
    whole = load_checkpoint(context, base)
    single = load_checkpoint(context, f"{base}_original")
    for mine, theirs in zip(single[::2], whole[::2], strict=True):
        from nodes.diffusion.load import lease

        first, second = lease(context, mine).state_dict(), lease(context, theirs).state_dict()
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)
    folders = encode_text(context, whole.clip, PROMPT)
    files = encode_text(context, single.clip, PROMPT)
    if base == "sd1":
        torch.testing.assert_close(files[0][0], folders[0][0])
    options = {"seed": SEED, "steps": 2, "guidance": 1.0}
    left = sample(context, whole.model, folders, empty_latent(32, 32), **options)
    right = sample(context, single.model, folders, empty_latent(32, 32), **options)
    torch.testing.assert_close(left["samples"], right["samples"])
