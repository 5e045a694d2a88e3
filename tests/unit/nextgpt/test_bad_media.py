"""Media as people have them, from the file through load node and encode node: the right embedding or a clear error."""

from __future__ import annotations

import gzip
import json
import math
from dataclasses import replace
from functools import cache
from typing import Any

import av
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from torch import Tensor

from graph_engine.errors import AnyloomError, KindError, NodeError
from graph_engine.graph.kinds import AUDIO, IMAGE, VIDEO
from nodes.media.audio import load_audio
from nodes.media.image import load_image
from nodes.media.video import load_video
from nodes.nextgpt.conversation import conversation
from nodes.nextgpt.encode import (
    encode_audio,
    encode_depth,
    encode_image,
    encode_imu,
    encode_text,
    encode_thermal,
    encode_video,
)
from nodes.nextgpt.load import load_encoder, load_input_projector
from nodes.nextgpt.model.clip_tokenizer import MERGES_FILE
from nodes.nextgpt.model.resample import resample
from nodes.nextgpt.project_in import project_in
from tests.contexts import ModelsContext

torch.set_num_threads(1)
RATE = 16_000


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> ModelsContext:
    return ModelsContext(tmp_path_factory.mktemp("media"))


@pytest.fixture(scope="module")
def encoder(context: ModelsContext) -> Any:
    return load_encoder(context, "tiny")


def near(ours: Tensor, reference: Tensor, tolerance: float) -> None:
    assert ours.shape == reference.shape
    assert float((ours - reference).abs().max() / reference.abs().max()) < tolerance


# --- pictures ---------------------------------------------------------------------------------------------------------


def pixels() -> np.ndarray[Any, Any]:
    """Strong shapes: something else in every corner."""
    rows, columns = np.mgrid[0:90, 0:120]
    red, green = 255 * (rows < 40), 2 * columns
    return np.stack([red, green, 255 * (rows * columns % 1000 < 300)], axis=-1).astype(np.uint8)


def picture_of(context: ModelsContext, image: Image.Image, name: str, **options: Any) -> Any:
    image.save(context.root / "input" / name, **options)
    return IMAGE.check(load_image(context, name).image)


def embedding_of(context: ModelsContext, encoder: Any, image: Tensor) -> Tensor:
    tensor: Tensor = encode_image(context, image, encoder, "patch")["tensor"]
    return tensor


@pytest.fixture(scope="module")
def plain(context: ModelsContext, encoder: Any) -> Tensor:
    return embedding_of(context, encoder, picture_of(context, Image.fromarray(pixels()), "plain.png"))


def test_a_picture_turned_by_its_exif_is_upright(context: ModelsContext, encoder: Any, plain: Tensor) -> None:
    upright = Image.fromarray(pixels())
    for orientation, turn in (
        (3, Image.Transpose.ROTATE_180),
        (6, Image.Transpose.ROTATE_90),
        (8, Image.Transpose.ROTATE_270),
    ):
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = upright.transpose(turn)
        loaded = picture_of(context, stored, f"turned{orientation}.png", exif=exif)
        assert torch.equal(embedding_of(context, encoder, loaded), plain)
        unmarked = embedding_of(context, encoder, picture_of(context, stored, "unmarked.png"))
        assert float((unmarked - plain).abs().max()) > 0.01, "the test would not see a picture that lies on its side"


def test_palette_alpha_and_deep_colour_are_the_same_picture(
    context: ModelsContext, encoder: Any, plain: Tensor
) -> None:
    image = Image.fromarray(pixels())
    alpha = image.convert("RGBA")
    alpha.putalpha(Image.fromarray(pixels()[..., 0]))
    colours = pixels() // 128 * 255  # eight colours, which a palette holds exactly
    few = embedding_of(context, encoder, picture_of(context, Image.fromarray(colours), "few.png"))
    palette = Image.fromarray(colours).quantize(8)
    assert palette.mode == "P"
    # The mask has the transparency; the colours stay, as ImageBind's own loader keeps them.
    assert torch.equal(embedding_of(context, encoder, picture_of(context, alpha, "alpha.png")), plain)
    assert torch.equal(embedding_of(context, encoder, picture_of(context, palette, "palette.png")), few)
    clear = palette.copy()
    clear.info["transparency"] = 0
    assert torch.equal(embedding_of(context, encoder, picture_of(context, clear, "clear.png", transparency=0)), few)


def test_grey_of_8_and_16_bits_and_of_floats_is_the_same_picture(context: ModelsContext, encoder: Any) -> None:
    grey = pixels()[..., 1]
    eight = picture_of(context, Image.fromarray(grey), "grey8.png")
    sixteen = picture_of(context, Image.fromarray(grey.astype(np.uint16) * 257), "grey16.png")
    floats = picture_of(context, Image.fromarray(grey.astype(np.float32) / 255), "grey.tif")
    bits = picture_of(context, Image.fromarray(grey).convert("1"), "bits.png")
    expected = embedding_of(context, encoder, eight)
    assert torch.equal(embedding_of(context, encoder, sixteen), expected)
    assert torch.equal(embedding_of(context, encoder, floats), expected)
    assert set(bits.unique().tolist()) == {0.0, 1.0}
    assert embedding_of(context, encoder, bits).isfinite().all()


def test_cmyk_is_the_same_picture(context: ModelsContext, encoder: Any, plain: Tensor) -> None:
    cmyk = Image.fromarray(pixels()).convert("CMYK")
    near(embedding_of(context, encoder, picture_of(context, cmyk, "cmyk.tif")), plain, 1e-5)
    near(embedding_of(context, encoder, picture_of(context, cmyk, "cmyk.jpg", quality=100, subsampling=0)), plain, 0.1)


def test_an_animation_is_its_first_picture_or_all_of_them(context: ModelsContext, encoder: Any) -> None:
    colours = pixels() // 128 * 255
    frames = [Image.fromarray(np.roll(colours, 40 * place, axis=1)).quantize(8) for place in range(3)]
    path = context.root / "input" / "moving.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
    first = embedding_of(context, encoder, load_image(context, "moving.gif").image)
    batch = embedding_of(context, encoder, IMAGE.check(load_image(context, "moving.gif", frames="all").image))
    assert batch.shape == (3, 256, 32)
    near(batch[:1], first, 1e-5)
    near(first, embedding_of(context, encoder, picture_of(context, Image.fromarray(colours), "first.png")), 1e-5)
    assert float((batch[1] - batch[0]).abs().max()) > 0.01


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (2000, 2)])
def test_a_picture_of_any_shape(context: ModelsContext, encoder: Any, size: tuple[int, int]) -> None:
    image = picture_of(context, Image.new("RGB", size, (10, 200, 30)), "odd.png")
    square = picture_of(context, Image.new("RGB", (224, 224), (10, 200, 30)), "square.png")
    near(embedding_of(context, encoder, image), embedding_of(context, encoder, square), 1e-5)


# --- sounds -----------------------------------------------------------------------------------------------------------


@cache
def wave(seconds: float, rate: int = RATE) -> np.ndarray[Any, Any]:
    """Two hundred tones up to 7.6 kHz, so that no band is silent: silence would show every rounding."""
    time = np.arange(round(seconds * rate)) / rate
    rng = np.random.default_rng(5)
    tones = zip(rng.uniform(20, 7600, 200), rng.uniform(0, 2 * np.pi, 200), strict=True)
    sound = sum(np.sin(2 * np.pi * hertz * time + phase) for hertz, phase in tones) * (1.5 + np.sin(5 * time)) / 120
    return np.asarray(sound)


def heard(context: ModelsContext, encoder: Any, samples: Any, subtype: str = "FLOAT", rate: int = RATE) -> Tensor:
    soundfile.write(context.root / "input" / "sound.wav", samples, rate, subtype)
    audio = AUDIO.check(load_audio(context, "sound.wav"))
    tensor: Tensor = encode_audio(context, audio, encoder, "patch")["tensor"]
    assert tensor.shape == (1, 228, 32) and bool(tensor.isfinite().all())
    return tensor


@pytest.mark.parametrize(
    ("subtype", "tolerance"),
    [("PCM_U8", 0.2), ("PCM_16", 2e-3), ("PCM_24", 1e-4), ("PCM_32", 1e-5), ("DOUBLE", 1e-6)],
)
def test_a_sound_is_the_same_in_any_depth(context: ModelsContext, encoder: Any, subtype: str, tolerance: float) -> None:
    exact = heard(context, encoder, wave(3.0))
    near(heard(context, encoder, wave(3.0), subtype), exact, tolerance)
    other = heard(context, encoder, np.roll(wave(3.0), RATE))
    assert float((other - exact).abs().max() / exact.abs().max()) > 0.2, "the tolerances would let anything pass"


def test_of_stereo_the_first_channel_is_heard(context: ModelsContext, encoder: Any) -> None:
    mono = heard(context, encoder, wave(3.0))
    stereo = np.stack([wave(3.0), np.random.default_rng(1).uniform(-1, 1, 3 * RATE)], axis=1)
    near(heard(context, encoder, stereo), mono, 1e-6)


@pytest.mark.parametrize("rate", [22_050, 44_100, 48_000])
def test_other_rates_are_the_same_sound(context: ModelsContext, encoder: Any, rate: int) -> None:
    near(heard(context, encoder, wave(2.5, rate), rate=rate), heard(context, encoder, wave(2.5)), 0.1)


@pytest.mark.parametrize("rate", [8_000, 11_025])
def test_a_low_rate_has_no_high_bands(context: ModelsContext, encoder: Any, rate: int) -> None:
    slow = torch.from_numpy(wave(2.5, rate)).float()
    near(heard(context, encoder, slow.numpy(), rate=rate), heard(context, encoder, resample(slow, rate, RATE)), 1e-3)


def test_loud_float_samples_are_kept(context: ModelsContext, encoder: Any) -> None:
    quiet, loud = (heard(context, encoder, wave(3.0) * gain) for gain in (1.0, 4.0))
    assert float((quiet - loud).abs().max()) > 0.01


@pytest.mark.parametrize("seconds", [1 / RATE, 0.01, 0.5, 1.9])
def test_a_sound_shorter_than_a_clip(context: ModelsContext, encoder: Any, seconds: float) -> None:
    soundfile.write(context.root / "input" / "short.wav", wave(seconds), RATE, "FLOAT")
    audio = AUDIO.check(load_audio(context, "short.wav"))
    whole = encode_audio(context, audio, encoder, "global")["tensor"]
    parts = encode_audio(context, audio, encoder, "global", clips="in order")["tensor"]
    near(parts, whole.expand(1, 3, -1), 1e-5)  # three equal clips from its begin
    assert float(whole.norm()) == pytest.approx(1.0, abs=1e-4)


def test_silence_is_a_sound(context: ModelsContext, encoder: Any) -> None:
    heard(context, encoder, np.zeros(RATE))


@pytest.mark.parametrize(
    ("samples", "code"), [(np.zeros(0), "empty_audio"), (np.array([0.0, math.nan] * 500), "damaged_file")]
)
def test_no_sound_is_said_where_the_file_is_read(context: ModelsContext, samples: Any, code: str) -> None:
    soundfile.write(context.root / "input" / "bad.wav", samples, RATE, "FLOAT")
    refused(code, "file", lambda: load_audio(context, "bad.wav"))


# --- videos -----------------------------------------------------------------------------------------------------------


def film(context: ModelsContext, name: str, count: int, codec: str = "mpeg4", fps: int = 8) -> None:
    """Frame i is brighter than frame i - 1."""
    with av.open(str(context.root / "input" / name), "w") as container:
        stream: Any = container.add_stream(codec, rate=fps)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        for place in range(count):
            frame = np.full((48, 64, 3), 40 + 200 * place // max(count, 1), np.uint8)
            frame[:, :20] = 250
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(("name", "codec"), [("one.mp4", "mpeg4"), ("one.gif", "gif")])
def test_a_video_of_one_frame_is_that_picture(context: ModelsContext, encoder: Any, name: str, codec: str) -> None:
    film(context, name, 1, codec)
    video = VIDEO.check(load_video(context, name))
    assert len(video["frames"]) == 1
    whole = encode_video(context, video, encoder)["tensor"]
    near(encode_video(context, video, encoder, clips="in order")["tensor"], whole.expand(1, 5, -1), 1e-5)
    # Three squares of a picture that is wider than high; the middle one is what encode_image sees.
    assert whole.shape == (1, 1, 32) and 0.9 < float(whole.norm()) <= 1 + 1e-4


def test_clips_in_order_know_before_and_after(context: ModelsContext, encoder: Any) -> None:
    film(context, "long.mp4", 80)
    video = VIDEO.check(load_video(context, "long.mp4"))
    averaged = encode_video(context, video, encoder)["tensor"]
    kept = encode_video(context, video, encoder, clips="in order")
    assert kept["tensor"].shape == (1, 5, 32) and kept["form"] == "global"
    near(kept["tensor"].mean(dim=1, keepdim=True), averaged, 1e-5)
    assert float((kept["tensor"][0, 0] - kept["tensor"][0, 4]).abs().max()) > 0.01
    tokens = project_in(context, kept, load_input_projector(context, "tiny"))
    assert tokens["tensor"].shape == (1, 5, 64), "five tokens for the language model instead of one"


def test_a_video_without_frames_is_refused(context: ModelsContext) -> None:
    with av.open(str(context.root / "input" / "none.mp4"), "w") as container:
        stream: Any = container.add_stream("aac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    refused("no_video", "file", lambda: load_video(context, "none.mp4"))
    film(context, "later.mp4", 8)
    refused("empty_video", "start_s", lambda: load_video(context, "later.mp4", start_s=60.0))
    (context.root / "input" / "zero.mp4").write_bytes(b"")
    refused("empty_file", "file", lambda: load_video(context, "zero.mp4"))


@pytest.mark.parametrize(
    "video",
    [
        {"frames": torch.zeros(0, 8, 8, 3), "fps": 8.0},
        {"frames": torch.zeros(2, 8, 8, 3), "fps": 0.0},
        {"frames": torch.full((2, 8, 8, 3), math.nan), "fps": 8.0},
    ],
)
def test_a_node_that_makes_no_video_is_found_at_its_output(video: dict[str, Any]) -> None:
    with pytest.raises(KindError):
        VIDEO.check(video)


# --- texts ------------------------------------------------------------------------------------------------------------


def test_a_text_longer_than_the_context_is_cut_and_keeps_its_end(context: ModelsContext, encoder: Any) -> None:
    long, longer = (encode_text(context, "boat " * count, encoder)["tensor"] for count in (90, 4000))
    assert torch.equal(long, longer)
    assert not torch.equal(long, encode_text(context, "boat", encoder)["tensor"])
    assert encode_text(context, "", encoder)["tensor"].isfinite().all()


def test_the_vocabulary_of_the_text_trunk_comes_from_the_models_folder(context: ModelsContext, encoder: Any) -> None:
    foreign = replace(encoder, extras={**encoder.extras, "tokenizer": "clip"})
    refused("tokenizer_missing", "encoder", lambda: encode_text(context, "a boat", foreign), MERGES_FILE)
    folder = context.models_dir / "clip"
    folder.mkdir()
    (folder / MERGES_FILE).write_bytes(gzip.compress(b"#version: 0.2\nb o\na t</w>\nbo at</w>\n"))
    # 256 letters, 256 at the end of a word, three merges, start and end
    refused("wrong_vocabulary", "encoder", lambda: encode_text(context, "a boat", foreign), "517 entries")
    sized = replace(foreign, config={**foreign.config, "text_vocabulary": 517})
    ids: list[Tensor] = []

    class Recorder(torch.nn.Module):
        def encode(self, trunk: str, tensor: Tensor, **_: Any) -> Tensor:
            ids.append(tensor)
            return torch.zeros(1, 1, 32)

    recording = ModelsContext(context.root)
    recording.model = lambda _: Recorder()  # type: ignore[method-assign]
    encode_text(recording, "A  boat", sized)
    assert ids[0].tolist() == [[515, 256 + 64, 514, 516] + [0] * 73]


# --- depth, heat, motion ----------------------------------------------------------------------------------------------


def test_depth_and_heat_come_as_pictures(context: ModelsContext, encoder: Any) -> None:
    grey = picture_of(context, Image.fromarray(pixels()[..., 1].astype(np.uint16) * 257), "depth.png")
    for encode, rows in ((encode_depth, 196), (encode_thermal, 196)):
        embedding = encode(context, grey, encoder, "patch")
        assert embedding["tensor"].shape == (1, rows, 32) and bool(embedding["tensor"].isfinite().all())
    for wrong in (
        torch.rand(8, 8),
        torch.rand(1, 8, 8, 2),
        torch.full((1, 8, 8, 1), math.nan),
        torch.zeros(1, 0, 8, 1),
    ):
        with pytest.raises(KindError):
            IMAGE.check(wrong)
        for encode, port in ((encode_depth, "depth"), (encode_thermal, "thermal")):
            if wrong.isfinite().all():
                refused("bad_medium", port, lambda encode=encode, wrong=wrong: encode(context, wrong, encoder))


@pytest.mark.parametrize(
    ("recording", "code", "word"),
    [
        ([[0.0] * 1999] * 6, "bad_medium", "1999"),
        ([[0.0] * 2000] * 5, "bad_medium", "5, 2000"),
        ([[0.0] * 6] * 2000, "bad_medium", "2000, 6"),
        ([[0.0] * 2000] * 5 + [[0.0] * 1999], "bad_recording", "no table"),
        ([[0.0] * 1999 + [None]] * 6, "bad_recording", "no table"),
        ([[0.0] * 1999 + [math.nan]] * 6, "bad_medium", "finite"),
        ([[0.0] * 1999 + [1e39]] * 6, "bad_medium", "finite"),
        ("6 x 2000", "bad_recording", "no table"),
        ([], "bad_medium", "shape"),
    ],
)
def test_a_recording_that_is_none_is_refused(
    context: ModelsContext, encoder: Any, recording: Any, code: str, word: str
) -> None:
    refused(code, "recording", lambda: encode_imu(context, recording, encoder), word)


# --- encoders ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encode", "value", "trunk"),
    [
        (encode_audio, {"waveform": torch.zeros(1, 1, RATE), "sample_rate": RATE}, "audio"),
        (encode_text, "a boat", "text"),
        (encode_imu, [[0.0] * 2000] * 6, "imu"),
        (encode_depth, torch.rand(1, 8, 8, 1), "depth"),
        (encode_thermal, torch.rand(1, 8, 8, 1), "thermal"),
    ],
)
def test_a_trunk_that_is_missing_is_named(
    context: ModelsContext, encoder: Any, encode: Any, value: Any, trunk: str
) -> None:
    blind = replace(encoder, config={**encoder.config, "modalities": ["vision"]})
    refused("no_trunk", "encoder", lambda: encode(context, value, blind), f"vision, not {trunk}")


def test_several_files_of_one_turn_stay_several_tokens_in_order(context: ModelsContext, encoder: Any) -> None:
    """The original adds the features of several files up to one token."""
    projector = load_input_projector(context, "tiny")
    images = [picture_of(context, Image.fromarray(np.roll(pixels(), 30 * n, axis=1)), f"{n}.png") for n in range(3)]
    tokens = [project_in(context, encode_image(context, image, encoder), projector) for image in images]
    batch = project_in(context, encode_image(context, torch.cat(images), encoder), projector)
    (turn,) = conversation("which is the odd one?", images=tokens)
    (same,) = conversation("which is the odd one?", images=batch)
    rows = [part["tensor"] for part in turn["parts"] if part["type"] == "features"]
    assert len(rows) == 3
    for row, other, expected in zip(rows, same["parts"], tokens, strict=False):
        assert torch.equal(row, expected["tensor"][0])
        near(other["tensor"], row, 1e-5)
    assert float((rows[0] - rows[1]).abs().max()) > 1e-4


def refused(code: str, port: str, act: Any, word: str = "") -> None:
    with pytest.raises(AnyloomError) as caught:
        act()
    problem = caught.value.problem
    assert (problem.code, problem.port) == (code, port), json.dumps(problem.message)
    assert word in problem.message + problem.remedy
    assert problem.remedy or isinstance(caught.value, NodeError)
