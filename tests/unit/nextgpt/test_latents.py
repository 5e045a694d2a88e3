"""Latents of all three modalities: made of media, edited, drawn over larger, and refused where they do not belong."""

import math
from io import BytesIO

import pytest
import torch
from PIL import Image

from graph_engine.errors import Cancelled, NodeError
from graph_engine.models.load import materialise
from nodes.nextgpt.caption_route import encode_caption, load_text_encoder
from nodes.nextgpt.decode_audio import audio_to_latent, decode_audio, latent_to_audio, sample_audio
from nodes.nextgpt.decode_image import image_to_latent, latent_to_image, sample_image
from nodes.nextgpt.decode_video import decode_video, latent_to_video, sample_video, video_to_latent
from nodes.nextgpt.denoise import Sampling, sample
from nodes.nextgpt.families import FAMILIES
from nodes.nextgpt.load import load_decoder
from nodes.nextgpt.modality import SPOKEN
from nodes.nextgpt.model.mel import training_mel
from nodes.nextgpt.preset import PRESETS
from nodes.nextgpt.upscale_video import load_upscaler, upscale_video
from tests.contexts import FolderContext

torch.set_num_threads(1)
# diffusers hands torch tensors to numpy in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

FAMILY = {family.name: family for family in FAMILIES}


class SmallContext(FolderContext):
    """Loads what it is asked for, once, and remembers it."""

    def model(self, spec):
        if spec.key not in self.models:
            self.models[spec.key] = materialise(spec, FAMILY[spec.family], "cpu")
        return self.models[spec.key]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return SmallContext(tmp_path_factory.mktemp("latents"))


@pytest.fixture
def context(shared):
    """The shared context with nothing recorded yet."""
    shared.previews.clear()
    shared.progressed.clear()
    shared.stop_after = None
    return shared


@pytest.fixture(scope="module")
def decoders(shared):
    return {name: load_decoder(shared, "tiny", name) for name in SPOKEN}


@pytest.fixture(scope="module")
def conditions():
    generator = torch.Generator().manual_seed(2)
    return {
        name: [[torch.randn(1, *row.condition, generator=generator), {"modality": name}]]
        for name, row in SPOKEN.items()
    }


def film(frames=3, height=32, width=48):
    pixels = torch.rand(frames, height, width, 3, generator=torch.Generator().manual_seed(1))
    return {"frames": pixels, "fps": 5.0, "audio": None}


def tone(hertz=1000.0, seconds=1.0, rate=16_000, channels=1, loudness=0.2):
    time = torch.arange(round(seconds * rate)) / rate
    wave = loudness * torch.sin(2 * math.pi * hertz * time)
    return {"waveform": wave.expand(1, channels, -1).clone(), "sample_rate": rate}


# --- films ----------------------------------------------------------------------------------------------------------


def test_a_film_becomes_a_latent_frame_by_frame(context, decoders):
    latent = video_to_latent(context, film(), decoders["video"])
    assert latent["samples"].shape == (1, 4, 3, 4, 6)
    assert latent["modality"] == "video"
    for frame in range(3):
        alone = {**film(), "frames": film()["frames"][frame : frame + 1]}
        one = video_to_latent(context, alone, decoders["video"])["samples"]
        torch.testing.assert_close(one[:, :, 0], latent["samples"][:, :, frame])


def test_a_film_is_changed_from_its_latent(context, decoders, conditions):
    start = video_to_latent(context, film(), decoders["video"])
    near, far = (
        sample_video(context, conditions["video"], decoders["video"], steps=6, latent=start, strength=strength)
        for strength in (0.17, 1.0)
    )
    distance = [float((found["samples"] - start["samples"]).abs().mean()) for found in (near, far)]
    assert 0 < distance[0] < distance[1]
    assert latent_to_video(context, near, decoders["video"])["frames"].shape == (3, 32, 48, 3)


def test_upscaling_keeps_rate_and_sound_and_the_decoders_size(context, decoders, conditions):
    small = {**film(2, 24, 40), "audio": tone()}
    large = upscale_video(context, small, conditions["video"], decoders["video"], seed=1, steps=5)
    assert large["frames"].shape == (2, 64, 64, 3)
    assert (large["fps"], large["audio"]) == (5.0, small["audio"])
    assert len(context.progressed) == 3, "0.6 of 5 steps"
    wide = upscale_video(context, small, conditions["video"], decoders["video"], steps=2, width=80, height=32)
    assert wide["frames"].shape == (2, 32, 80, 3)


def test_the_upscaler_of_a_preset_has_a_size_of_its_own(context, decoders, conditions):
    upscaler = load_upscaler(context, "tiny")
    made = upscale_video(context, film(2, 64, 64), conditions["video"], upscaler, steps=2)
    assert made["frames"].shape == (2, 96, 96, 3)
    published = PRESETS["nextgpt-7b-tiva-v0"].parts["video_upscaler"].config()
    assert tuple(published["size"]) == (576, 1024)


def test_upscaling_shows_the_film_it_was_given(context, decoders, conditions):
    """Drawn over slightly, two different films stay different; drawn over wholly, the noise decides."""
    dark, bright = ({**film(2), "frames": torch.full((2, 32, 48, 3), value)} for value in (0.1, 0.9))

    def difference(strength):
        made = [
            upscale_video(context, given, conditions["video"], decoders["video"], steps=10, strength=strength, seed=2)
            for given in (dark, bright)
        ]
        return float((made[0]["frames"] - made[1]["frames"]).abs().mean())

    assert difference(0.1) > 2 * difference(1.0) > 0


def test_upscaling_is_the_halves_in_a_row(context, decoders, conditions):
    given = film(2, 64, 64)
    options = {"seed": 3, "steps": 4, "scheduler": "euler_ancestral"}
    whole = upscale_video(context, given, conditions["video"], decoders["video"], strength=0.5, **options)
    start = video_to_latent(context, given, decoders["video"])
    latent = sample_video(context, conditions["video"], decoders["video"], latent=start, strength=0.5, **options)
    assert torch.equal(whole["frames"], latent_to_video(context, latent, decoders["video"])["frames"])


def test_one_frame_is_a_film(context, decoders, conditions):
    video = decode_video(context, conditions["video"], decoders["video"], steps=2, frames=1)
    assert video["frames"].shape == (1, 64, 64, 3)
    assert video["frames"].std() > 0.02


# --- sounds ---------------------------------------------------------------------------------------------------------


def test_the_training_mel_of_a_tone():
    mel = training_mel(tone(1000.0)["waveform"][:, 0], 16_000, 64, 160, 16_000)
    assert mel.shape == (1, 100, 64)
    assert mel.dtype == torch.float32
    # 1 kHz is 15 on Slaney's scale, which has 45.245 up to 8 kHz; 65 steps lie between the ends of 64 bands.
    step = (15 + 27 * math.log(8) / math.log(6.4)) / 65
    loudest = mel[0, 10:90].argmax(dim=-1)
    assert set(loudest.tolist()) <= {round(15 / step) - 1, math.floor(15 / step) - 1}
    assert mel[0, 50, 60] < -4, "nothing up there"
    assert mel.min() >= math.log(1e-5) - 1e-4


def test_the_training_mel_against_torch_stft():
    wave = torch.randn(1, 4800, generator=torch.Generator().manual_seed(0)) * 0.3 + 0.05
    level = wave - wave.mean()
    level = level / level.abs().max() * 0.5
    padded = torch.nn.functional.pad(level, (432, 432), mode="reflect")
    spectrum = torch.stft(padded, 1024, 160, window=torch.hann_window(1024), center=False, return_complex=True).abs()
    ours = training_mel(wave, 4800, 64, 160, 16_000)
    assert ours.shape == (1, 30, 64)
    # Slaney's triangles in his own words: linear below 1 kHz, logarithmic above, each of area 1 in hertz.
    mels = torch.linspace(0, 15 + 27 * math.log(8) / math.log(6.4), 66, dtype=torch.float64)
    edges = torch.where(mels < 15, mels * 200 / 3, 1000 * torch.exp((mels - 15) * math.log(6.4) / 27))
    bins = torch.arange(513, dtype=torch.float64)[:, None] * 16_000 / 1024
    rise = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    weights = torch.minimum(rise, fall).clamp_min(0) * 2 / (edges[2:] - edges[:-2])
    expected = (spectrum.double().transpose(1, 2) @ weights).clamp_min(1e-5).log().float()
    torch.testing.assert_close(ours, expected, atol=1e-3, rtol=1e-3)


def test_loudness_and_offset_do_not_count(context, decoders):
    quiet, loud = tone(loudness=0.01), tone(loudness=0.9)
    loud["waveform"] = loud["waveform"] + 0.05
    latents = [audio_to_latent(context, sound, decoders["audio"])["samples"] for sound in (quiet, loud)]
    torch.testing.assert_close(*latents, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize(("seconds", "rows"), [(1.0, 25), (0.5, 13), (0.53, 14), (0.01, 1)])
def test_a_sound_becomes_a_latent_of_its_length(context, decoders, seconds, rows):
    latent = audio_to_latent(context, tone(seconds=seconds), decoders["audio"])
    assert latent["samples"].shape == (1, 8, rows, 16)
    assert latent["samples"].isfinite().all()
    assert latent["seconds"] == seconds
    back = latent_to_audio(context, latent, decoders["audio"])
    assert back["waveform"].shape == (1, 1, round(16_000 * seconds)), "cut to the length it had"


def test_any_rate_and_number_of_channels_will_do(context, decoders):
    plain = audio_to_latent(context, tone(), decoders["audio"])
    stereo = audio_to_latent(context, tone(channels=2), decoders["audio"])
    other = audio_to_latent(context, tone(rate=44_100), decoders["audio"])
    torch.testing.assert_close(stereo["samples"], plain["samples"])
    assert other["samples"].shape == plain["samples"].shape
    assert other["seconds"] == 1.0
    silence = audio_to_latent(context, tone(loudness=0.0), decoders["audio"])
    assert silence["samples"].isfinite().all()
    assert not torch.allclose(silence["samples"], plain["samples"], atol=0.1)


def test_a_sound_is_changed_from_its_latent(context, decoders, conditions):
    start = audio_to_latent(context, tone(seconds=0.53), decoders["audio"])
    near, far = (
        sample_audio(context, conditions["audio"], decoders["audio"], steps=8, latent=start, strength=strength)
        for strength in (0.13, 1.0)
    )
    distance = [float((found["samples"] - start["samples"]).abs().mean()) for found in (near, far)]
    assert 0 < distance[0] < distance[1]
    assert near["seconds"] == 0.53
    assert latent_to_audio(context, near, decoders["audio"])["waveform"].shape[-1] == 8480
    assert latent_to_audio(context, near, decoders["audio"], 0.25)["waveform"].shape[-1] == 4000


def test_the_halves_of_a_sound_have_its_exact_length(context, decoders, conditions):
    options = {"seed": 4, "steps": 2, "seconds": 0.77}
    latent = sample_audio(context, conditions["audio"], decoders["audio"], **options)
    assert latent["samples"].shape[2] % 1 == 0 and latent["samples"].shape[2] == 20
    halves = latent_to_audio(context, latent, decoders["audio"])["waveform"]
    assert halves.shape == (1, 1, 12_320)
    assert torch.equal(halves, decode_audio(context, conditions["audio"], decoders["audio"], **options)["waveform"])


def test_sound_conditions_may_be_taken_as_they_are(context, decoders, conditions):
    twice = [[2 * conditions["audio"][0][0], {}]]

    def run(condition, normalise):
        options = {"steps": 2, "seed": 1, "seconds": 0.4, "normalise": normalise}
        return sample_audio(context, condition, decoders["audio"], **options)["samples"]

    torch.testing.assert_close(run(twice, True), run(conditions["audio"], True), atol=1e-4, rtol=1e-4)
    assert (run(twice, False) - run(conditions["audio"], False)).abs().max() > 1e-3


def test_options_may_be_named_one_by_one(context, decoders, conditions):
    """As the node of another modality calls the shared loop (docs/adding-a-modality.md)."""
    given = ("image", conditions["image"], decoders["image"])
    plain = sample(context, *given, seed=3, steps=2, guidance=2.0)
    assert torch.equal(plain["samples"], sample(context, *given, Sampling(seed=3, steps=2, guidance=2.0))["samples"])
    assert torch.equal(
        plain["samples"], sample(context, *given, Sampling(3, steps=2), seed=3, guidance=2.0, negative=None)["samples"]
    )
    assert sample(context, *given, steps=1, size=(32, 40))["samples"].shape == (1, 4, 4, 5)


# --- what does not fit ----------------------------------------------------------------------------------------------


def latent_of(modality, *shape):
    return {"samples": torch.zeros(shape), **({"modality": modality} if modality else {})}


@pytest.mark.parametrize(
    ("decode", "decoder", "latent", "code", "words"),
    [
        (
            latent_to_image,
            "image",
            latent_of("image", 1, 16, 8, 8),
            "bad_latent",
            "1 x 16 x 8 x 8, this decoder takes any x 4",
        ),
        (latent_to_image, "image", latent_of(None, 1, 4, 3, 8, 8), "bad_latent", "1 x 4 x 3 x 8 x 8"),
        (latent_to_image, "image", latent_of("video", 1, 4, 3, 8, 8), "wrong_modality", "of modality video"),
        (latent_to_image, "image", latent_of("audio", 1, 8, 25, 16), "wrong_modality", "of modality audio"),
        (latent_to_video, "video", latent_of("video", 1, 8, 3, 8, 8), "bad_latent", "takes any x 4 x any x any x any"),
        (latent_to_video, "video", latent_of("video", 2, 4, 3, 8, 8), "bad_latent", "2 films"),
        (latent_to_audio, "audio", latent_of("audio", 1, 8, 25, 32), "bad_latent", "takes any x 8 x any x 16"),
        (latent_to_audio, "audio", latent_of(None, 1, 4, 25, 16), "bad_latent", "1 x 4 x 25 x 16"),
        (latent_to_audio, "audio", {**latent_of("audio", 1, 8, 5, 16), "seconds": 9.0}, "bad_seconds", "holds 0.2 s"),
    ],
)
def test_a_latent_of_another_decoder_is_refused(context, decoders, decode, decoder, latent, code, words):
    with pytest.raises(NodeError) as caught:
        decode(context, latent, decoders[decoder])
    assert caught.value.problem.code == code
    assert words in caught.value.message
    assert caught.value.problem.port


@pytest.mark.parametrize(
    ("draw", "modality", "latent"),
    [
        (sample_image, "image", latent_of("image", 1, 16, 8, 8)),
        (sample_video, "video", latent_of("video", 1, 8, 2, 8, 8)),
        (sample_audio, "audio", latent_of("audio", 1, 8, 25, 4)),
    ],
)
def test_no_edit_begins_with_a_latent_of_another_decoder(context, decoders, conditions, draw, modality, latent):
    with pytest.raises(NodeError) as caught:
        draw(context, conditions[modality], decoders[modality], steps=1, latent=latent)
    assert (caught.value.problem.code, caught.value.problem.port) == ("bad_latent", "latent")
    assert "belongs to another decoder" in caught.value.problem.remedy


@pytest.mark.parametrize(
    ("make", "port", "nearest"),
    [
        (lambda c, d: image_to_latent(c, torch.zeros(1, 60, 70, 3), d["image"]), "image", "72 x 64"),
        (lambda c, d: video_to_latent(c, film(1, 30, 44), d["video"]), "video", "48 x 32"),
        (lambda c, d: image_to_latent(c, torch.zeros(1, 3, 8, 3), d["image"]), "image", "8 x 8"),
    ],
)
def test_sides_that_do_not_divide_are_refused_with_the_nearest_that_do(context, decoders, make, port, nearest):
    with pytest.raises(NodeError) as caught:
        make(context, decoders)
    assert (caught.value.problem.code, caught.value.problem.port) == (f"bad_{port}", port)
    assert caught.value.problem.remedy == f"The nearest is {nearest}."


@pytest.mark.parametrize(
    ("options", "port"),
    [
        ({"scheduler": "ddim", "spacing": "karras"}, "spacing"),
        ({"scheduler": "lcm", "steps": 80}, "steps"),
        ({"width": 65}, "width"),
        ({"negative": [[torch.zeros(1, 77, 1024), {}]]}, "negative"),
    ],
)
def test_the_port_to_blame_is_named(context, decoders, conditions, options, port):
    with pytest.raises(NodeError) as caught:
        sample_image(context, conditions["image"], decoders["image"], **{"steps": 1, **options})
    assert (caught.value.problem.code, caught.value.problem.port) == (f"bad_{port}", port)
    assert caught.value.problem.remedy


# --- on the way -----------------------------------------------------------------------------------------------------


def test_every_modality_is_previewed_while_it_is_made(context, decoders, conditions, monkeypatch):
    monkeypatch.setattr("nodes.nextgpt.denoise.PREVIEW_EVERY_S", 0.0)
    sizes = {}
    for modality, draw in (("image", sample_image), ("video", sample_video), ("audio", sample_audio)):
        context.previews.clear()
        draw(context, conditions[modality], decoders[modality], steps=3)
        assert len(context.previews) == 2, "one per step but the last"
        with Image.open(BytesIO(context.previews[0][0])) as picture:
            sizes[modality] = picture.size
            assert len(set(picture.convert("L").tobytes())) > 10
    # 8x8 cells eightfold; four frames of them, two by two; 25 columns of 64 bands.
    assert sizes == {"image": (64, 64), "video": (128, 128), "audio": (100, 256)}


def test_a_long_sound_has_a_small_preview_too(context, decoders, conditions, monkeypatch):
    monkeypatch.setattr("nodes.nextgpt.denoise.PREVIEW_EVERY_S", 0.0)
    sample_audio(context, conditions["audio"], decoders["audio"], steps=2, seconds=12.0)
    with Image.open(BytesIO(context.previews[0][0])) as picture:
        assert picture.size == (256, 55)


@pytest.mark.parametrize("checks", [0, 2])
def test_making_a_latent_can_be_cancelled(context, decoders, checks):
    context.stop_after = checks
    with pytest.raises(Cancelled):
        video_to_latent(context, film(12), decoders["video"])


def test_one_condition_edits_a_batch_and_many_conditions_edit_one_latent(context, decoders, conditions):
    decoder = decoders["image"]
    options = {"seed": 3, "steps": 2, "strength": 0.5, "guidance": 4.0}
    pictures = torch.rand(2, 32, 48, 3, generator=torch.Generator().manual_seed(1))
    start = image_to_latent(context, pictures, decoder)
    made = sample_image(context, conditions["image"], decoder, latent=start, **options)["samples"]
    assert made.shape == start["samples"].shape
    twice = [conditions["image"][0], conditions["image"][0]]
    torch.testing.assert_close(sample_image(context, twice, decoder, latent=start, **options)["samples"], made)
    # The first of a batch begins with the noise that it has alone.
    single = {**start, "samples": start["samples"][:1]}
    alone = sample_image(context, conditions["image"], decoder, latent=single, **options)["samples"]
    torch.testing.assert_close(made[:1], alone)
    both = sample_image(context, twice, decoder, latent=single, **options)["samples"]
    torch.testing.assert_close(both[:1], alone)
    assert not torch.allclose(both[1:], alone), "each has noise of its own"
    sounds = {**tone(), "waveform": tone()["waveform"].repeat(2, 1, 1)}
    heard = audio_to_latent(context, sounds, decoders["audio"])
    assert (
        sample_audio(context, conditions["audio"], decoders["audio"], latent=heard, **options)["samples"].shape[0] == 2
    )
    with pytest.raises(NodeError) as caught:
        sample_image(context, [*twice, twice[0]], decoder, latent=start, **options)
    assert (caught.value.problem.code, caught.value.problem.port) == ("bad_condition", "condition")
    assert "3 conditions do not fit 2 latents" in caught.value.problem.message


def test_a_condition_of_few_rows_has_the_same_negative(context, decoders):
    """A linear output projector gives a row for each signal token, the text encoder 77."""
    decoder, words = decoders["image"], load_text_encoder(context, "tiny", "image")
    generator = torch.Generator().manual_seed(4)
    few = [[torch.randn(1, 4, 768, generator=generator), {}]]
    options = {"seed": 3, "steps": 2, "width": 32, "height": 32}
    mine = sample_image(context, few, decoder, text_encoder=words, **options)["samples"]
    # Attention to 4 rows is attention to 77 times 4 rows.
    many = [[few[0][0].repeat(1, 77, 1), {}]]
    nothing = [[encode_caption(context, words)[0][0].repeat(1, 4, 1), {}]]
    torch.testing.assert_close(mine, sample_image(context, many, decoder, negative=nothing, **options)["samples"])
    alone = sample_image(context, few, decoder, guidance=1.0, **options)["samples"]
    torch.testing.assert_close(sample_image(context, many, decoder, guidance=1.0, **options)["samples"], alone)
    assert not torch.allclose(mine, alone)
