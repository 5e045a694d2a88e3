"""The three diffusion decoders on small real weights; the published sizes on meta."""

import json

import pytest
import torch

from nodes.nextgpt.model import audio_decoder, image_decoder, video_decoder
from nodes.nextgpt.model.audio_decoder import AudioDecoder
from nodes.nextgpt.model.diffusion_config import PRESETS, DiffusionConfig
from nodes.nextgpt.model.image_decoder import ImageDecoder
from nodes.nextgpt.model.preview import preview_rgb
from nodes.nextgpt.model.sampling import Cancelled
from nodes.nextgpt.model.schedulers import SCHEDULERS, make_scheduler
from nodes.nextgpt.model.video_decoder import VideoDecoder

torch.set_num_threads(1)
# diffusers hands torch tensors to numpy in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BUILD = {"image": ImageDecoder, "video": VideoDecoder, "audio": AudioDecoder}
MODULE = {"image": image_decoder, "video": video_decoder, "audio": audio_decoder}
MODALITIES = list(BUILD)


@pytest.fixture(scope="module")
def decoders():
    return {m: BUILD[m].random(DiffusionConfig.tiny(m), 0) for m in MODALITIES}


@pytest.fixture(scope="module")
def conditions():
    generator = torch.Generator().manual_seed(2)
    return {m: torch.randn(1, *DiffusionConfig.tiny(m).condition, generator=generator) for m in MODALITIES}


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_published_sizes_on_meta():
    with torch.device("meta"):
        sd15, sd2 = ImageDecoder(DiffusionConfig.sd15()), ImageDecoder(DiffusionConfig.sd2())
        video, audio = VideoDecoder(DiffusionConfig.zeroscope_576w()), AudioDecoder(DiffusionConfig.audioldm_l())
    assert count(sd15.unet) == 859_520_964
    assert count(sd2.unet) == 865_910_724
    assert count(video.unet) == 1_411_233_860
    assert count(sd15.vae) == count(sd2.vae) == count(video.vae) == 83_653_863
    assert count(audio.unet) == 739_139_080
    assert count(audio.vae) == 55_376_873
    with torch.device("meta"):
        larger = VideoDecoder(DiffusionConfig.zeroscope_xl())
        small, medium = AudioDecoder(DiffusionConfig.audioldm_s()), AudioDecoder(DiffusionConfig.audioldm_m())
    assert count(small.unet) == 185_036_552
    assert count(medium.unet) == 415_954_568
    assert count(small.vae) == count(medium.vae) == count(audio.vae)
    assert count(larger.unet) == count(video.unet)
    assert larger.config.size == (576, 1024)
    assert count(audio.vocoder) == 55_264_897
    assert audio.hop == 160
    assert sd2.config.schedule.prediction_type == "v_prediction"


@pytest.mark.parametrize("config", [*(make() for make in PRESETS.values()), *map(DiffusionConfig.tiny, MODALITIES)])
def test_config_round_trips_through_json(config):
    assert DiffusionConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_configs_refuse_what_they_are_not_for():
    with pytest.raises(ValueError, match="no decoder for 'smell'"):
        DiffusionConfig.tiny("smell")
    with pytest.raises(ValueError, match="has a vocoder"):
        DiffusionConfig("audio", {}, {}, (512,))
    for modality, build in BUILD.items():
        other = "audio" if modality == "image" else "image"
        with pytest.raises(ValueError, match=f"configuration for {other}"):
            build(DiffusionConfig.tiny(other))


@pytest.mark.parametrize("modality", MODALITIES)
def test_meta_then_assign_equals_the_decoder_built_directly(decoders, conditions, modality):
    with torch.device("meta"):
        empty = BUILD[modality](DiffusionConfig.tiny(modality))
    empty.load_state_dict(decoders[modality].state_dict(), assign=True)
    assert not any(t.is_meta for t in (*empty.parameters(), *empty.buffers()))
    sample, decode = MODULE[modality].sample, MODULE[modality].decode
    latents = [sample(d, conditions[modality], steps=2) for d in (empty, decoders[modality])]
    assert torch.equal(*latents)
    assert torch.equal(decode(empty, latents[0]), decode(decoders[modality], latents[1]))


@pytest.mark.parametrize("size", [(64, 64), (128, 96), (72, 88)])
def test_picture_has_the_size_the_range_and_some_variety(decoders, conditions, size):
    latent = image_decoder.sample(decoders["image"], conditions["image"], size=size)
    picture = image_decoder.decode(decoders["image"], latent)
    assert latent.shape == (1, 4, size[0] // 8, size[1] // 8)
    assert picture.shape == (1, *size, 3)
    assert picture.dtype == torch.float32
    assert picture.min() >= 0
    assert picture.max() <= 1
    assert picture.std() > 0.05


def test_film_has_the_frames_the_size_and_some_motion(decoders, conditions):
    latent = video_decoder.sample(decoders["video"], conditions["video"])
    frames = video_decoder.decode(decoders["video"], latent, batch=3)
    assert latent.shape == (1, 4, 8, 8, 8)
    assert frames.shape == (8, 64, 64, 3)
    assert frames.min() >= 0
    assert frames.max() <= 1
    assert frames.std() > 0.05
    assert (frames[1:] - frames[:-1]).abs().mean() > 0.01
    torch.testing.assert_close(frames, video_decoder.decode(decoders["video"], latent, batch=8))
    assert video_decoder.sample(decoders["video"], conditions["video"], frames=5, size=(48, 72), steps=1).shape == (
        1,
        4,
        5,
        6,
        9,
    )


@pytest.mark.parametrize(("seconds", "rows"), [(1.0, 25), (2.0, 50), (0.5, 13), (1.234, 31)])
def test_sound_has_exactly_the_length_and_is_neither_silent_nor_clipped(decoders, conditions, seconds, rows):
    latent = audio_decoder.sample(decoders["audio"], conditions["audio"], seconds=seconds)
    waveform = audio_decoder.decode(decoders["audio"], latent, seconds=seconds)
    assert latent.shape == (1, 8, rows, 16)
    assert waveform.shape == (1, 1, round(seconds * 16000))
    assert waveform.dtype == torch.float32
    assert 0.01 < waveform.square().mean().sqrt() < 0.9
    assert waveform.abs().max() <= 1
    assert audio_decoder.decode(decoders["audio"], latent).shape == (1, 1, rows * 640)


def test_sound_conditions_count_by_direction_only(decoders, conditions):
    condition = conditions["audio"]
    one, scaled, rows = (
        audio_decoder.sample(decoders["audio"], c, steps=2) for c in (condition, 9 * condition, condition[:, None])
    )
    torch.testing.assert_close(one, scaled, atol=1e-3, rtol=1e-3)
    assert (one - audio_decoder.sample(decoders["audio"], -condition, steps=2)).abs().max() > 1e-2
    assert torch.equal(one, rows)


@pytest.mark.parametrize("modality", MODALITIES)
def test_seed_condition_and_guidance_decide(decoders, conditions, modality):
    def run(condition=conditions[modality], **options):
        return MODULE[modality].sample(decoders[modality], condition, **{"steps": 2, "seed": 1, **options})

    base = run()
    assert torch.equal(run(), base)
    for other in (run(seed=2), run(condition=-conditions[modality]), run(guidance=3.0), run(steps=3)):
        assert (other - base).abs().max() > 1e-3


@pytest.mark.parametrize("modality", MODALITIES)
def test_no_guidance_means_no_second_half_of_the_batch(decoders, conditions, modality):
    sizes: list[int] = []
    decoder = decoders[modality]
    handle = decoder.unet.register_forward_pre_hook(lambda module, args: sizes.append(args[0].shape[0]))
    try:
        plain = MODULE[modality].sample(decoder, conditions[modality], steps=1, guidance=1.0)
        guided = MODULE[modality].sample(decoder, conditions[modality], steps=1, guidance=1.0001)
    finally:
        handle.remove()
    assert sizes == [1, 2]
    torch.testing.assert_close(plain, guided, atol=1e-2, rtol=1e-2)


def test_no_negative_is_a_negative_of_zeros(decoders, conditions):
    decoder, condition = decoders["image"], conditions["image"]
    none = image_decoder.sample(decoder, condition, None, steps=2)
    zeros = image_decoder.sample(decoder, condition, torch.zeros_like(condition), steps=2)
    other = image_decoder.sample(decoder, condition, torch.ones_like(condition), steps=2)
    assert torch.equal(none, zeros)
    assert not torch.allclose(none, other)


def test_a_batch_shares_one_negative_and_each_item_is_its_own(decoders, conditions):
    both = torch.cat([conditions["image"], -conditions["image"]])
    latent = image_decoder.sample(decoders["image"], both, torch.ones(1, 77, 768), steps=2)
    assert image_decoder.decode(decoders["image"], latent).shape == (2, 64, 64, 3)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_ends_in_a_finite_latent_and_can_edit(decoders, conditions, name):
    decoder, condition = decoders["image"], conditions["image"]
    latent = image_decoder.sample(decoder, condition, steps=4, scheduler=name)
    assert latent.isfinite().all()
    slight, strong = (
        image_decoder.sample(decoder, condition, steps=10, scheduler=name, latent=latent, strength=s, guidance=1)
        for s in (0.1, 0.9)
    )
    assert 0 < (slight - latent).square().mean() < (strong - latent).square().mean()


def test_schedulers_carry_the_training_schedule():
    schedule = DiffusionConfig.sd2().schedule
    for name in SCHEDULERS:
        scheduler = make_scheduler(name, schedule)
        assert scheduler.config.prediction_type == "v_prediction"
        assert scheduler.config.beta_schedule == "scaled_linear"
        assert scheduler.config.beta_end == 0.012
    with pytest.raises(ValueError, match="known are ddim"):
        make_scheduler("guess", schedule)


def test_an_edit_takes_its_size_from_the_latent(decoders, conditions):
    image = torch.rand(1, 96, 64, 3, generator=torch.Generator().manual_seed(0))
    start = image_decoder.encode(decoders["image"], image)
    assert start.shape == (1, 4, 12, 8)
    edited = image_decoder.sample(decoders["image"], conditions["image"], steps=4, latent=start, strength=0.5)
    assert edited.shape == start.shape
    with pytest.raises(ValueError, match="the requested size needs"):
        image_decoder.sample(decoders["image"], conditions["image"], latent=start, size=(64, 64))


@pytest.mark.law("P4")
def test_steps_are_reported_and_cancel_within_one(decoders, conditions):
    seen: list[tuple[int, int]] = []
    latents: list[torch.Tensor] = []

    def on_step(done, of, latent):
        seen.append((done, of))
        latents.append(latent)

    final = image_decoder.sample(decoders["image"], conditions["image"], steps=3, on_step=on_step)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert torch.equal(latents[-1], final)
    seen.clear()
    with pytest.raises(Cancelled, match="after 2 of 5"):
        image_decoder.sample(
            decoders["image"], conditions["image"], steps=5, on_step=on_step, cancelled=lambda: len(seen) >= 2
        )
    assert len(seen) == 2
    with pytest.raises(Cancelled):
        image_decoder.decode(decoders["image"], final, cancelled=lambda: True)


def test_previews_are_small_pictures_of_any_latent():
    picture = preview_rgb(torch.randn(2, 4, 6, 8, generator=torch.Generator().manual_seed(0)), "image")
    assert picture.shape == (6, 8, 3)
    assert picture.dtype == torch.uint8
    assert picture.float().std() > 10
    film = torch.zeros(1, 4, 3, 6, 8)
    film[:, :, 1] = 1
    assert preview_rgb(film, "video").shape == (6, 16, 3), "three frames: the first and the last, side by side"
    assert preview_rgb(film[:, :, :1], "video").shape == (6, 8, 3)
    long = torch.zeros(1, 4, 10, 6, 8)
    for frame in range(10):
        long[0, 0, frame] = frame
    four = preview_rgb(long, "video")
    assert four.shape == (12, 16, 3)
    corners = [four[0, 0, 0], four[0, 8, 0], four[6, 0, 0], four[6, 8, 0]]
    assert [preview_rgb(long[:, :, at], "image")[0, 0, 0] for at in (0, 3, 6, 9)] == corners
    sound = torch.zeros(1, 8, 25, 16)
    sound[:, :, 20, 2] = 5.0
    heard = preview_rgb(sound, "audio")
    assert heard.shape == (64, 25, 3)
    bright = heard[..., 0].nonzero().tolist()
    assert bright == [[row, 20] for row in range(52, 56)], "the third lowest band, near the right end"


def test_misfits_are_refused_with_the_numbers(decoders, conditions):
    image, video, audio = (decoders[m] for m in MODALITIES)
    with pytest.raises(ValueError, match=r"\[B, rows, 768\]"):
        image_decoder.sample(image, torch.zeros(1, 77, 1024))
    with pytest.raises(ValueError, match=r"\[B, 512\]"):
        audio_decoder.sample(audio, torch.zeros(1, 77, 512))
    with pytest.raises(ValueError, match="multiples of 8 pixels, are 64 and 60; the nearest is 64 x 64"):
        image_decoder.sample(image, conditions["image"], size=(60, 64))
    with pytest.raises(ValueError, match="at least one frame"):
        video_decoder.sample(video, conditions["video"], frames=0)
    with pytest.raises(ValueError, match="positive length"):
        audio_decoder.sample(audio, conditions["audio"], seconds=0)
    with pytest.raises(ValueError, match="holds 1 s of sound, 2 s were asked"):
        audio_decoder.decode(audio, torch.zeros(1, 8, 25, 16), seconds=2)
    with pytest.raises(ValueError, match="one by one"):
        video_decoder.decode(video, torch.zeros(2, 4, 3, 8, 8))
    with pytest.raises(ValueError, match="steps must be"):
        image_decoder.sample(image, conditions["image"], steps=0)
    with pytest.raises(ValueError, match="strength must be"):
        image_decoder.sample(image, conditions["image"], strength=0)
    with pytest.raises(ValueError, match="does not fit the condition"):
        image_decoder.sample(image, conditions["image"], torch.zeros(1, 4, 768))
