"""Our denoise loops against diffusers' pipelines on the same small weights, seed and scheduler.

The pipelines are only a second opinion here: three of them are deprecated upstream, which is why the product has its
own loops.
"""

import logging
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from nodes.nextgpt.model import audio_decoder, image_decoder, video_decoder
from nodes.nextgpt.model.diffusion_config import DiffusionConfig, TrainingSchedule
from nodes.nextgpt.model.sampling import film_of, frames_of
from nodes.nextgpt.model.schedulers import make_scheduler

torch.set_num_threads(1)
# diffusers hands torch tensors to numpy in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TOLERANCE = 1e-4
SEED, STEPS, GUIDANCE = 7, 4, 6.0
V = TrainingSchedule(prediction_type="v_prediction")

# Every scheduler once, every spacing, both kinds of prediction.
RUNS = [
    ("ddim", "default", "epsilon"),
    ("ddim", "default", "v_prediction"),
    ("ddpm", "default", "v_prediction"),
    ("pndm", "default", "epsilon"),
    ("euler", "default", "v_prediction"),
    ("euler", "exponential", "epsilon"),
    ("euler_ancestral", "default", "epsilon"),
    ("heun", "beta", "epsilon"),
    ("lms", "karras", "epsilon"),
    ("dpmpp_2m", "default", "v_prediction"),
    ("dpmpp_2m", "karras", "epsilon"),
    ("dpmpp_2m", "beta", "v_prediction"),
    ("dpmpp_2m_sde", "exponential", "epsilon"),
    ("unipc", "karras", "v_prediction"),
    ("lcm", "default", "epsilon"),
]


def embeddings(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def noise_source() -> torch.Generator:
    return torch.Generator().manual_seed(SEED)


def agrees(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Everywhere within 1e-4, of the largest value where that is above 1."""
    assert ours.shape == theirs.shape
    assert theirs.std() > 1e-3, "nothing to compare"
    assert (ours - theirs).abs().max() <= TOLERANCE * max(1.0, float(theirs.abs().max()))


@contextmanager
def deprecated():
    """Exactly the one message of a deprecated pipeline may be logged while it is made."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append
    logger = logging.getLogger("diffusers")
    others, logger.handlers = logger.handlers, [handler]
    try:
        yield
    finally:
        logger.handlers = others
    (message,) = [record.getMessage() for record in records]
    assert "has been deprecated and will not receive bug fixes" in message


@pytest.fixture(scope="module")
def image() -> image_decoder.ImageDecoder:
    return image_decoder.ImageDecoder.random(DiffusionConfig.tiny("image"), 0)


@pytest.fixture(scope="module")
def video() -> video_decoder.VideoDecoder:
    return video_decoder.VideoDecoder.random(DiffusionConfig.tiny("video"), 0)


@pytest.fixture(scope="module")
def audio() -> audio_decoder.AudioDecoder:
    return audio_decoder.AudioDecoder.random(DiffusionConfig.tiny("audio"), 0)


def trained_with(decoder, schedule: TrainingSchedule):
    """The same weights, believed to be trained with another schedule."""
    other = type(decoder)(replace(decoder.config, schedule=schedule))
    other.load_state_dict(decoder.state_dict())
    return other


# --- pictures -------------------------------------------------------------------------------------------------------


def image_pipeline(decoder: image_decoder.ImageDecoder, kind: str, name: str, spacing: str = "default"):
    import diffusers

    pipeline = getattr(diffusers, kind)(
        vae=decoder.vae,
        unet=decoder.unet,
        scheduler=make_scheduler(name, decoder.config.schedule, spacing),
        text_encoder=None,
        tokenizer=None,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize(("name", "spacing", "prediction"), RUNS)
def test_image_loop_agrees_with_stable_diffusion(image, name, spacing, prediction):
    positive, negative = embeddings(1, 77, 768)
    decoder = trained_with(image, TrainingSchedule(prediction_type=prediction))
    theirs = image_pipeline(decoder, "StableDiffusionPipeline", name, spacing)(
        prompt_embeds=positive,
        negative_prompt_embeds=negative,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        height=64,
        width=96,
        generator=noise_source(),
        output_type="latent",
    ).images
    options = {"steps": STEPS, "guidance": GUIDANCE, "seed": SEED, "scheduler": name, "spacing": spacing}
    agrees(image_decoder.sample(decoder, positive, negative, **options, size=(64, 96)), theirs)


def test_pictures_agree_with_stable_diffusion(image):
    positive, negative = embeddings(2, 77, 768)
    theirs = image_pipeline(image, "StableDiffusionPipeline", "ddim")(
        prompt_embeds=positive,
        negative_prompt_embeds=negative,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        height=64,
        width=96,
        generator=noise_source(),
        output_type="pt",
    ).images
    latent = image_decoder.sample(
        image, positive, negative, steps=STEPS, guidance=GUIDANCE, seed=SEED, scheduler="ddim", size=(64, 96)
    )
    ours = image_decoder.decode(image, latent)
    assert ours.shape == (2, 64, 96, 3)
    agrees(ours.permute(0, 3, 1, 2), theirs)


@pytest.mark.parametrize("guidance", [1.0, 0.5])
def test_no_guidance_agrees_with_stable_diffusion(image, guidance):
    positive, _ = embeddings(1, 77, 768)
    theirs = image_pipeline(image, "StableDiffusionPipeline", "ddim")(
        prompt_embeds=positive,
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        height=64,
        width=64,
        generator=noise_source(),
        output_type="latent",
    ).images
    agrees(image_decoder.sample(image, positive, steps=STEPS, guidance=guidance, seed=SEED), theirs)


@pytest.mark.parametrize(
    ("name", "spacing", "steps", "strength"),
    [
        ("ddim", "default", 5, 0.6),
        ("euler", "beta", 5, 0.6),
        ("euler_ancestral", "default", 5, 0.6),
        ("heun", "karras", 5, 0.6),
        ("dpmpp_2m", "exponential", 5, 0.6),
        ("dpmpp_2m_sde", "default", 5, 0.6),
        ("unipc", "default", 5, 0.6),
        ("lcm", "default", 5, 0.6),
        # The edit begins at the first of two equal timesteps: a scheduler that looks its place up takes the second.
        ("dpmpp_2m", "karras", 50, 0.06),
        ("dpmpp_2m_karras", "default", 50, 0.06),
    ],
)
def test_editing_agrees_with_stable_diffusion_img2img(image, name, spacing, steps, strength):
    positive, negative = embeddings(1, 77, 768)
    start = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    theirs = image_pipeline(image, "StableDiffusionImg2ImgPipeline", name, spacing)(
        image=start,
        prompt_embeds=positive,
        negative_prompt_embeds=negative,
        strength=strength,
        num_inference_steps=steps,
        guidance_scale=GUIDANCE,
        generator=noise_source(),
        output_type="latent",
    ).images
    options = {"steps": steps, "guidance": GUIDANCE, "seed": SEED, "scheduler": name, "spacing": spacing}
    ours = image_decoder.sample(image, positive, negative, **options, latent=start, strength=strength)
    agrees(ours, theirs)


# --- films ----------------------------------------------------------------------------------------------------------


def video_pipeline(decoder: video_decoder.VideoDecoder, kind: str, name: str, spacing: str):
    import diffusers

    with deprecated():
        pipeline = getattr(diffusers, kind)(
            vae=decoder.vae,
            text_encoder=None,
            tokenizer=None,
            unet=decoder.unet,
            scheduler=make_scheduler(name, decoder.config.schedule, spacing),
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize(
    ("name", "spacing", "prediction", "frames", "guidance"),
    [
        ("ddim", "default", "epsilon", 3, GUIDANCE),
        ("ddim", "default", "v_prediction", 1, GUIDANCE),
        ("euler_ancestral", "default", "epsilon", 3, GUIDANCE),
        ("dpmpp_2m", "karras", "epsilon", 4, GUIDANCE),
        ("unipc", "default", "v_prediction", 2, 1.0),
    ],
)
def test_video_loop_agrees_with_text_to_video(video, name, spacing, prediction, frames, guidance):
    positive, negative = embeddings(1, 77, 1024)
    decoder = trained_with(video, TrainingSchedule(prediction_type=prediction))
    theirs = video_pipeline(decoder, "TextToVideoSDPipeline", name, spacing)(
        prompt_embeds=positive,
        negative_prompt_embeds=negative,
        num_frames=frames,
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        height=48,
        width=64,
        generator=noise_source(),
        output_type="pt",
    ).frames
    options = {"steps": STEPS, "guidance": guidance, "seed": SEED, "scheduler": name, "spacing": spacing}
    latent = video_decoder.sample(decoder, positive, negative, **options, size=(48, 64), frames=frames)
    ours = video_decoder.decode(decoder, latent, batch=2)
    assert ours.shape == (frames, 48, 64, 3)
    agrees(ours.permute(0, 3, 1, 2), theirs[0])


@pytest.mark.parametrize(
    ("name", "spacing", "strength"),
    [("ddim", "default", 0.6), ("euler_ancestral", "default", 0.8), ("dpmpp_2m", "karras", 0.4)],
)
def test_drawing_a_film_over_agrees_with_video_to_video(video, name, spacing, strength):
    positive, negative = embeddings(1, 77, 1024)
    film = torch.rand(3, 48, 64, 3, generator=torch.Generator().manual_seed(5))
    ours_start = video_decoder.encode(video, film, batch=2)
    pipeline = video_pipeline(video, "VideoToVideoSDPipeline", name, spacing)
    # The pipeline draws from the autoencoder's posterior; we take its mean, so that one seed means one noise.
    pixels = pipeline.video_processor.preprocess_video(film.permute(0, 3, 1, 2))[0].transpose(0, 1)
    with torch.no_grad():
        start = video.vae.encode(pixels).latent_dist.mode() * video.vae.config.scaling_factor
    agrees(frames_of(ours_start), start)
    theirs = pipeline(
        video=start,
        prompt_embeds=positive,
        negative_prompt_embeds=negative,
        strength=strength,
        num_inference_steps=5,
        guidance_scale=GUIDANCE,
        generator=noise_source(),
        output_type="pt",
    ).frames
    options = {"steps": 5, "guidance": GUIDANCE, "seed": SEED, "scheduler": name, "spacing": spacing}
    latent = video_decoder.sample(
        video, positive, negative, **options, latent=film_of(start, ours_start.shape), strength=strength
    )
    agrees(video_decoder.decode(video, latent).permute(0, 3, 1, 2), theirs[0])


# --- sounds ---------------------------------------------------------------------------------------------------------


def audio_pipeline(decoder: audio_decoder.AudioDecoder, name: str, spacing: str):
    from diffusers import AudioLDMPipeline
    from transformers import ClapTextConfig, ClapTextModelWithProjection

    # Never called: the pipeline only reads its dtype when embeddings are given.
    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    unused = ClapTextModelWithProjection(ClapTextConfig(vocab_size=16, pad_token_id=1, **small))
    with deprecated():
        pipeline = AudioLDMPipeline(
            vae=decoder.vae,
            text_encoder=unused,
            tokenizer=None,
            unet=decoder.unet,
            scheduler=make_scheduler(name, decoder.config.schedule, spacing),
            vocoder=decoder.vocoder,
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize(
    ("name", "spacing", "seconds", "guidance", "prediction"),
    [
        ("ddim", "default", 1.0, GUIDANCE, "epsilon"),
        ("dpmpp_2m", "karras", 1.0, GUIDANCE, "epsilon"),
        ("euler_ancestral", "default", 0.5, GUIDANCE, "v_prediction"),
        # 0.53 s are 53 mel frames, made as 56 and cut.
        ("heun", "exponential", 0.53, GUIDANCE, "epsilon"),
        ("ddim", "default", 0.5, 1.0, "epsilon"),
    ],
)
def test_audio_loop_agrees_with_audioldm(audio, name, spacing, seconds, guidance, prediction):
    unit = [torch.nn.functional.normalize(vector, dim=-1) for vector in embeddings(1, 512)]
    decoder = trained_with(audio, replace(audio.config.schedule, prediction_type=prediction))
    theirs = audio_pipeline(decoder, name, spacing)(
        prompt_embeds=unit[0],
        negative_prompt_embeds=unit[1],
        audio_length_in_s=seconds,
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        generator=noise_source(),
        output_type="np",
    ).audios
    options = {"steps": STEPS, "guidance": guidance, "seed": SEED, "scheduler": name, "spacing": spacing}
    # Any length of condition will do for us: it is brought to unit length.
    latent = audio_decoder.sample(decoder, 5 * unit[0], 3 * unit[1], **options, seconds=seconds)
    ours = audio_decoder.decode(decoder, latent, seconds=seconds)
    assert ours.shape == (1, 1, round(seconds * 16000))
    agrees(ours[:, 0], torch.as_tensor(theirs).clamp(-1, 1))


def test_a_vector_as_it_is_agrees_with_audioldm_too(audio):
    vectors = [4 * vector for vector in embeddings(1, 512)]
    theirs = audio_pipeline(audio, "ddim", "default")(
        prompt_embeds=vectors[0],
        negative_prompt_embeds=vectors[1],
        audio_length_in_s=0.5,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        generator=noise_source(),
        output_type="np",
    ).audios
    options = {"steps": STEPS, "guidance": GUIDANCE, "seed": SEED, "seconds": 0.5}
    latents = [audio_decoder.sample(audio, *vectors, **options, normalise=normalise) for normalise in (False, True)]
    agrees(audio_decoder.decode(audio, latents[0], seconds=0.5)[:, 0], torch.as_tensor(theirs).clamp(-1, 1))
    assert (latents[0] - latents[1]).abs().max() > 0.01
