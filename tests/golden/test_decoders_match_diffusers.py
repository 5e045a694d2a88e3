"""Our denoise loops against diffusers' pipelines on the same small weights, seed and scheduler.

The pipelines are only a second opinion here: two of them are deprecated upstream, which is why the product has its
own loops.
"""

import warnings
from dataclasses import replace

import pytest
import torch

from nodes.nextgpt.model import audio_decoder, image_decoder, video_decoder
from nodes.nextgpt.model.diffusion_config import DiffusionConfig, TrainingSchedule
from nodes.nextgpt.model.schedulers import make_scheduler

torch.set_num_threads(1)
# diffusers hands torch tensors to numpy in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TOLERANCE = 1e-4
SEED, STEPS, GUIDANCE = 7, 5, 6.0


def embeddings(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def noise_source() -> torch.Generator:
    return torch.Generator().manual_seed(SEED)


@pytest.fixture(scope="module")
def image() -> image_decoder.ImageDecoder:
    return image_decoder.ImageDecoder.random(DiffusionConfig.tiny("image"), 0)


def image_pipeline(decoder: image_decoder.ImageDecoder, name: str, schedule: TrainingSchedule, kind: str):
    import diffusers

    pipeline = getattr(diffusers, kind)(
        vae=decoder.vae,
        unet=decoder.unet,
        scheduler=make_scheduler(name, schedule),
        text_encoder=None,
        tokenizer=None,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", ["ddim", "pndm", "euler", "euler_ancestral", "dpmpp_2m", "unipc"])
def test_image_loop_agrees_with_stable_diffusion(image, name, prediction):
    positive, negative = embeddings(1, 77, 768)
    schedule = TrainingSchedule(prediction_type=prediction)
    pipeline = image_pipeline(image, name, schedule, "StableDiffusionPipeline")
    theirs = pipeline(
        prompt_embeds=positive,
        negative_prompt_embeds=negative,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        height=64,
        width=96,
        generator=noise_source(),
        output_type="pt",
    ).images
    decoder = with_schedule(image, schedule)
    latent = image_decoder.sample(
        decoder, positive, negative, steps=STEPS, guidance=GUIDANCE, seed=SEED, scheduler=name, size=(64, 96)
    )
    ours = image_decoder.decode(decoder, latent)
    assert ours.shape == (1, 64, 96, 3)
    assert (ours.permute(0, 3, 1, 2) - theirs).abs().max() < TOLERANCE


def with_schedule(decoder: image_decoder.ImageDecoder, schedule: TrainingSchedule) -> image_decoder.ImageDecoder:
    """The same weights, believed to be trained with another schedule."""
    other = image_decoder.ImageDecoder(replace(decoder.config, schedule=schedule))
    other.load_state_dict(decoder.state_dict())
    return other


@pytest.mark.parametrize(
    ("name", "steps", "strength"),
    [
        ("ddim", 5, 0.6),
        ("euler", 5, 0.6),
        ("heun", 5, 0.6),
        ("dpmpp_2m", 5, 0.6),
        ("unipc", 5, 0.6),
        # The edit begins at the first of two equal timesteps: a scheduler that looks its place up takes the second.
        ("dpmpp_2m_karras", 50, 0.06),
    ],
)
def test_editing_agrees_with_stable_diffusion_img2img(image, name, steps, strength):
    positive, negative = embeddings(1, 77, 768)
    start = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    pipeline = image_pipeline(image, name, image.config.schedule, "StableDiffusionImg2ImgPipeline")
    theirs = pipeline(
        image=start,
        prompt_embeds=positive,
        negative_prompt_embeds=negative,
        strength=strength,
        num_inference_steps=steps,
        guidance_scale=GUIDANCE,
        generator=noise_source(),
        output_type="latent",
    ).images
    ours = image_decoder.sample(
        image,
        positive,
        negative,
        steps=steps,
        guidance=GUIDANCE,
        seed=SEED,
        scheduler=name,
        latent=start,
        strength=strength,
    )
    torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m"])
def test_video_loop_agrees_with_text_to_video(name):
    from diffusers import TextToVideoSDPipeline

    decoder = video_decoder.VideoDecoder.random(DiffusionConfig.tiny("video"), 0)
    positive, negative = embeddings(1, 77, 1024)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = TextToVideoSDPipeline(
            vae=decoder.vae,
            text_encoder=None,
            tokenizer=None,
            unet=decoder.unet,
            scheduler=make_scheduler(name, decoder.config.schedule),
        )
        pipeline.set_progress_bar_config(disable=True)
        theirs = pipeline(
            prompt_embeds=positive,
            negative_prompt_embeds=negative,
            num_frames=3,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            height=48,
            width=64,
            generator=noise_source(),
            output_type="pt",
        ).frames
    latent = video_decoder.sample(
        decoder, positive, negative, steps=STEPS, guidance=GUIDANCE, seed=SEED, scheduler=name, size=(48, 64), frames=3
    )
    ours = video_decoder.decode(decoder, latent, batch=2)
    assert ours.shape == (3, 48, 64, 3)
    assert (ours.permute(0, 3, 1, 2) - theirs[0]).abs().max() < TOLERANCE


def test_audio_loop_agrees_with_audioldm():
    from diffusers import AudioLDMPipeline
    from transformers import ClapTextConfig, ClapTextModelWithProjection

    decoder = audio_decoder.AudioDecoder.random(DiffusionConfig.tiny("audio"), 0)
    # Never called: the pipeline only reads its dtype when embeddings are given.
    unused = ClapTextModelWithProjection(
        ClapTextConfig(
            vocab_size=16,
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            pad_token_id=1,
        )
    )
    unit = [torch.nn.functional.normalize(vector, dim=-1) for vector in embeddings(1, 512)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = AudioLDMPipeline(
            vae=decoder.vae,
            text_encoder=unused,
            tokenizer=None,
            unet=decoder.unet,
            scheduler=make_scheduler("ddim", decoder.config.schedule),
            vocoder=decoder.vocoder,
        )
        pipeline.set_progress_bar_config(disable=True)
        theirs = pipeline(
            prompt_embeds=unit[0],
            negative_prompt_embeds=unit[1],
            audio_length_in_s=1.0,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            generator=noise_source(),
            output_type="np",
        ).audios
    # Any length of condition will do for us: it is brought to unit length.
    latent = audio_decoder.sample(
        decoder, 5 * unit[0], 3 * unit[1], steps=STEPS, guidance=GUIDANCE, seed=SEED, seconds=1.0
    )
    ours = audio_decoder.decode(decoder, latent, seconds=1.0)
    assert ours.shape == (1, 1, 16000)
    assert (ours[:, 0] - torch.as_tensor(theirs)).abs().max() < TOLERANCE
