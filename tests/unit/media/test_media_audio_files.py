"""Sound through files: exact where the format is lossless, measured where it is not; every damage has its error."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
import torch

from graph_engine.errors import AnyloomError, NodeError, NotFoundError, PathError
from graph_engine.graph.kinds import AUDIO, FILE
from nodes.media import audio_file, load_audio, preview_audio, save_audio
from tests.contexts import FolderContext

torch.set_num_threads(1)


@pytest.fixture
def context(tmp_path: Path) -> FolderContext:
    return FolderContext(tmp_path, {"version": 1})


def tone(hertz: float = 440.0, rate: int = 16_000, seconds: float = 1.0, channels: int = 1) -> dict[str, Any]:
    time = torch.arange(round(rate * seconds), dtype=torch.float64) / rate
    wave = torch.stack([0.5 * torch.sin(2 * torch.pi * hertz * (1 + channel) * time) for channel in range(channels)])
    return {"waveform": wave.float().unsqueeze(0), "sample_rate": rate}


def pitch(waveform: torch.Tensor, rate: int) -> float:
    """Hertz of the strongest frequency of "T"."""
    spectrum = torch.fft.rfft(waveform * torch.hann_window(len(waveform))).abs()
    return float(spectrum.argmax()) * rate / len(waveform)


@pytest.mark.parametrize(
    ("format", "bits", "step"),
    [
        ("wav", "16", 2**-15),
        ("wav", "24", 2**-23),
        ("wav", "32 float", 0),
        ("flac", "16", 2**-15),
        ("flac", "24", 2**-23),
    ],
)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_lossless_formats_are_exact(context: FolderContext, format: str, bits: str, step: float, channels: int) -> None:
    audio = tone(rate=22_050, seconds=0.73, channels=channels)
    if step:
        audio["waveform"] = (audio["waveform"].double() / step).round().mul(step).float()
    (file,) = save_audio(context, audio, "sound", format, bits)
    FILE.check(file)
    assert file["seconds"] == 0.73
    assert file["sample_rate"] == 22_050
    assert file["channels"] == channels
    loaded = AUDIO.check(load_audio(context, f"output/{file['name']}"))
    assert loaded["sample_rate"] == 22_050
    assert torch.equal(loaded["waveform"], audio["waveform"])


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_mp3_keeps_length_and_pitch(context: FolderContext, rate: int) -> None:
    audio = tone(rate=rate, channels=2)
    (file,) = save_audio(context, audio, "sound", "mp3")
    loaded = load_audio(context, f"output/{file['name']}")
    assert loaded["sample_rate"] == rate
    assert abs(loaded["waveform"].shape[-1] - rate) <= 1152  # one frame of MP3
    assert abs(pitch(loaded["waveform"][0, 0], rate) - 440) < 2
    assert abs(pitch(loaded["waveform"][0, 1], rate) - 880) < 2
    middle = slice(rate // 4, rate // 2)
    error = (loaded["waveform"] - audio["waveform"])[..., middle]
    assert float(error.square().mean() / audio["waveform"][..., middle].square().mean()) < 0.01


def test_clipping_does_not_wrap_around(context: FolderContext) -> None:
    audio = {"waveform": torch.tensor([[[-3.0, -1.0, 1.0, 3.0]]]), "sample_rate": 8_000}
    for format in ("wav", "flac"):
        (file,) = save_audio(context, audio, "loud", format)
        assert load_audio(context, f"output/{file['name']}")["waveform"].flatten().round(decimals=3).tolist() == [
            -1,
            -1,
            1,
            1,
        ]


def test_a_batch_is_one_file_each_and_previews_are_temporary(context: FolderContext) -> None:
    audio = {"waveform": torch.zeros(2, 1, 100), "sample_rate": 8_000}
    assert [file["name"] for file in save_audio(context, audio)] == ["audio_00001.wav", "audio_00002.wav"]
    assert {file["folder"] for file in preview_audio(context, audio)} == {"temp"}


def test_a_part_is_read(context: FolderContext) -> None:
    audio = tone(rate=8_000, seconds=2)
    for format in ("wav", "flac"):
        (file,) = save_audio(context, audio, "sound", format, "24")
        part = load_audio(context, f"output/{file['name']}", start_s=0.5, seconds=0.25)["waveform"]
        assert torch.allclose(part, audio["waveform"][..., 4000:6000], atol=1e-6)
        rest = load_audio(context, f"output/{file['name']}", start_s=1.75, seconds=9.0)["waveform"]
        assert rest.shape[-1] == 2000


@pytest.mark.parametrize(
    ("suffix", "codec", "rate"), [("m4a", "aac", 44_100), ("ogg", "libopus", 48_000), ("mov", "pcm_s16le", 16_000)]
)
def test_what_sndfile_does_not_know_ffmpeg_reads(context: FolderContext, suffix: str, codec: str, rate: int) -> None:
    audio = tone(rate=rate, seconds=3, channels=2)
    samples = np.ascontiguousarray(audio["waveform"][0].numpy())
    with av.open(str(context.root / "input" / f"x.{suffix}"), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="stereo")
        frame = av.AudioFrame.from_ndarray(samples, "fltp", "stereo")
        frame.sample_rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    loaded = load_audio(context, f"x.{suffix}")
    assert loaded["sample_rate"] == rate
    assert loaded["waveform"].shape[:2] == (1, 2)
    assert abs(loaded["waveform"].shape[-1] - 3 * rate) <= 1024
    assert abs(pitch(loaded["waveform"][0, 0], rate) - 440) < 1
    part = load_audio(context, f"x.{suffix}", start_s=1.5, seconds=0.5)["waveform"]
    assert part.shape[-1] == rate // 2
    whole = loaded["waveform"][..., round(1.5 * rate) : 2 * rate]
    assert float((part - whole).square().mean() / whole.square().mean()) < 1e-3


# --- bad input ---------------------------------------------------------------------------------------------------


def put(context: FolderContext, data: bytes, name: str = "x.wav") -> None:
    (context.root / "input" / name).write_bytes(data)


def wav(seconds: float = 1.0) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(seconds=seconds)["waveform"][0, 0].numpy(), 16_000, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def problem_of(context: FolderContext, name: str = "x.wav", **options: Any) -> Any:
    with pytest.raises(NodeError) as caught:
        load_audio(context, name, **options)
    problem = caught.value.problem
    assert problem.remedy
    assert problem.port
    assert name in problem.message
    return problem


@pytest.mark.parametrize("size", [45, 1000, 30_000])
def test_a_truncated_wav_says_how_much_is_missing(context: FolderContext, size: int) -> None:
    data = wav()
    put(context, data[:size])
    problem = problem_of(context)
    assert problem.code == "damaged_file"
    assert f"{len(data) - size:,} bytes" in problem.message


def test_a_wav_cut_in_its_header_is_damaged(context: FolderContext) -> None:
    for size in (4, 12, 20, 40):
        put(context, wav()[:size])
        assert problem_of(context).code in ("damaged_file", "unknown_format")


@pytest.mark.parametrize("format", ["FLAC", "OGG"])
def test_other_truncated_files(context: FolderContext, format: str, tmp_path: Path) -> None:
    path = tmp_path / "whole"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 160_000)
    soundfile.write(path, noise, 16_000, format=format)
    data = path.read_bytes()
    put(context, data[: len(data) // 2], "x.flac")
    if format == "FLAC":
        assert problem_of(context, "x.flac").code == "damaged_file"
    else:  # Ogg states no length: what is there is all there is
        assert 0 < load_audio(context, "x.flac")["waveform"].shape[-1] < 160_000


def test_a_streamed_wav_of_unknown_length_is_read(context: FolderContext) -> None:
    data = bytearray(wav())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    put(context, bytes(data))
    assert load_audio(context, "x.wav")["waveform"].shape[-1] == 16_000


def test_empty_sounds(context: FolderContext) -> None:
    put(context, wav(0))
    assert problem_of(context).code == "empty_audio"
    put(context, b"")
    assert problem_of(context).code == "empty_file"
    put(context, wav(1))
    problem = problem_of(context, start_s=5.0)
    assert problem.code == "empty_audio"
    assert problem.port == "start_s"


def test_not_a_number_is_damaged(context: FolderContext) -> None:
    soundfile.write(context.root / "input" / "x.wav", np.array([0.0, np.nan], np.float32), 8_000, subtype="FLOAT")
    assert problem_of(context).code == "damaged_file"


@pytest.mark.parametrize(("name", "code"), [("x.wav", "damaged_file"), ("x.bin", "unknown_format")])
def test_what_is_no_sound(context: FolderContext, name: str, code: str) -> None:
    put(context, b"this is text and no sound " * 100, name)
    assert problem_of(context, name).code == code


def test_a_picture_has_no_sound(context: FolderContext) -> None:
    from PIL import Image

    Image.new("RGB", (8, 8)).save(context.root / "input" / "p.png")
    assert problem_of(context, "p.png").code == "no_audio"


def test_giants_are_refused_with_numbers(context: FolderContext, monkeypatch: pytest.MonkeyPatch) -> None:
    put(context, wav())
    monkeypatch.setattr(audio_file, "LIMIT_BYTES", 10_000)
    problem = problem_of(context)
    assert problem.code == "too_large"
    assert "16,000 samples" in problem.message
    assert load_audio(context, "x.wav", seconds=0.1)["waveform"].shape[-1] == 1600


@pytest.mark.parametrize(("name", "error"), [("absent.wav", NotFoundError), ("../x.wav", PathError)])
def test_paths_stay_inside(context: FolderContext, name: str, error: type[AnyloomError]) -> None:
    with pytest.raises(error) as caught:
        load_audio(context, name)
    assert caught.value.problem.code
    assert caught.value.problem.remedy


@pytest.mark.parametrize(("format", "rate", "channels"), [("mp3", 7_777, 1), ("mp3", 44_100, 3), ("flac", 16_000, 9)])
def test_what_cannot_be_encoded_is_said_and_leaves_no_file(
    context: FolderContext, format: str, rate: int, channels: int
) -> None:
    with pytest.raises(NodeError) as caught:
        save_audio(context, {"waveform": torch.zeros(1, channels, 800), "sample_rate": rate}, "x", format)
    assert caught.value.problem.code == "cannot_encode"
    assert caught.value.problem.remedy
    assert list((context.root / "output").iterdir()) == []
