"""Video through files: frame count and rate exact, pictures by PSNR, sound within a frame; every damage its error."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from graph_engine.errors import AnyloomError, Cancelled, NodeError, NotFoundError, PathError
from graph_engine.graph.kinds import FILE, VIDEO
from nodes.media import load_audio, load_video, preview_video, save_video, video_file
from tests.contexts import FolderContext

torch.set_num_threads(1)


@pytest.fixture
def context(tmp_path: Path) -> FolderContext:
    return FolderContext(tmp_path, {"version": 1})


def clip(count: int = 16, fps: float = 8.0, height: int = 48, width: int = 64, sound_s: float = 0.0) -> dict[str, Any]:
    """A coloured ground over which a bright square walks, and a tone of 440 Hz."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    frames = torch.stack(
        [torch.stack([x * 0.5, y * 0.5, torch.full_like(x, number / count)], -1) for number in range(count)]
    )
    for number in range(count):
        left = number * (width - 8) // max(1, count - 1)
        frames[number, 8:16, left : left + 8] = torch.tensor([1.0, 0.9, 0.2])
    time = torch.arange(round(sound_s * 16_000)) / 16_000
    audio = {"waveform": (0.5 * torch.sin(2764.6 * time)).expand(1, 1, -1), "sample_rate": 16_000} if sound_s else None
    return {"frames": frames, "fps": fps, "audio": audio}


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * torch.log10(((a - b) ** 2).mean().clamp(min=1e-12)))


@pytest.mark.parametrize(("format", "least"), [("mp4", 30), ("webm", 30), ("gif", 30)])
@pytest.mark.parametrize(("count", "fps"), [(16, 8.0), (1, 8.0), (30, 29.97), (25, 25.0), (10, 12.5)])
def test_round_trip(context: FolderContext, format: str, least: float, count: int, fps: float) -> None:
    video = clip(count, fps)
    file = FILE.check(save_video(context, video, "clip", format))
    assert (file["width"], file["height"], file["frames"], file["fps"]) == (64, 48, count, fps)
    loaded = VIDEO.check(load_video(context, f"output/{file['name']}"))
    assert loaded["frames"].shape == video["frames"].shape
    if count > 1 and not (format == "gif" and fps == 29.97):  # 3, 3, 4 hundredths: a GIF cannot say 29.97 exactly
        assert loaded["fps"] == pytest.approx(fps, rel=2e-3)
    assert psnr(loaded["frames"], video["frames"]) > least
    bright = (loaded["frames"][:, 12, :, 0] > 0.8).float()
    walks = (bright * torch.arange(64)).sum(1) / bright.sum(1)
    assert (walks.diff() > 0.5).all()
    assert loaded["audio"] is None


@pytest.mark.parametrize("format", ["mp4", "webm"])
@pytest.mark.parametrize("color", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1), (0, 0, 0), (0.5, 0.5, 0.5)])
def test_colours_do_not_shift(context: FolderContext, format: str, color: tuple[float, ...]) -> None:
    frames = torch.tensor(color, dtype=torch.float32).expand(3, 32, 32, 3)
    file = save_video(context, {"frames": frames, "fps": 8.0}, "c", format, 95)
    loaded = load_video(context, f"output/{file['name']}")["frames"]
    assert (loaded - frames).abs().max() < 0.02


@pytest.mark.parametrize(("format", "rate"), [("mp4", 16_000), ("webm", 16_000)])
@pytest.mark.parametrize("seconds", [2.0, 1.0, 3.0])
def test_sound_is_muxed(context: FolderContext, format: str, rate: int, seconds: float) -> None:
    video = clip(16, 8.0, sound_s=seconds)
    file = save_video(context, video, "clip", format)
    loaded = load_video(context, f"output/{file['name']}")
    waveform, new_rate = loaded["audio"]["waveform"], loaded["audio"]["sample_rate"]
    assert len(loaded["frames"]) == 16
    assert waveform.shape[-1] / new_rate == pytest.approx(seconds, abs=1 / 8)
    spectrum = torch.fft.rfft(waveform[0, 0] * torch.hann_window(waveform.shape[-1])).abs()
    assert float(spectrum.argmax()) * new_rate / waveform.shape[-1] == pytest.approx(440, abs=1.5)
    alone = load_audio(context, f"output/{file['name']}")
    assert torch.equal(alone["waveform"], waveform)


def test_quality_matters_and_webm_and_mp4_differ(context: FolderContext) -> None:
    noisy = {"frames": torch.rand(4, 48, 64, 3, generator=torch.Generator().manual_seed(0)), "fps": 8.0}
    for format in ("mp4", "webm"):
        good, poor = (save_video(context, noisy, "q", format, quality) for quality in (95, 10))
        assert good["bytes"] > 2 * poor["bytes"]


@pytest.mark.parametrize("format", ["mp4", "webm"])
def test_odd_sides_are_filled_up(context: FolderContext, format: str) -> None:
    video = clip(4, 8.0, 33, 47)
    file = save_video(context, video, "odd", format, 90)
    assert (file["width"], file["height"]) == (48, 34)
    loaded = load_video(context, f"output/{file['name']}")["frames"]
    assert loaded.shape == (4, 34, 48, 3)
    assert psnr(loaded[:, :33, :47], video["frames"]) > 30
    assert psnr(loaded[:, 33, :47], video["frames"][:, 32]) > 28


@pytest.mark.parametrize("format", ["mp4", "webm", "gif"])
def test_a_part_is_read(context: FolderContext, format: str) -> None:
    video = clip(32, 8.0, sound_s=4.0)
    name = f"output/{save_video(context, video, 'clip', format, 90)['name']}"
    whole = load_video(context, name)
    part = load_video(context, name, start_s=1.5, seconds=1.0)
    assert torch.equal(part["frames"], whole["frames"][12:20])
    assert torch.equal(load_video(context, name, max_frames=3)["frames"], whole["frames"][:3])
    assert len(load_video(context, name, start_s=3.5, seconds=9)["frames"]) == 4
    small = load_video(context, name, max_side=32)["frames"]
    assert small.shape == (32, 24, 32, 3)
    if format != "gif":
        rate = whole["audio"]["sample_rate"]
        cut = whole["audio"]["waveform"][..., round(1.5 * rate) : round(2.5 * rate)]
        assert part["audio"]["waveform"].shape == cut.shape
        shifts = range(-rate // 1000, rate // 1000 + 1)  # WebM knows times to the millisecond only
        differences = [
            (part["audio"]["waveform"].roll(shift, -1) - cut)[..., 99:-99].square().mean() for shift in shifts
        ]
        assert float(min(differences) / cut.square().mean()) < 1e-3


def test_equal_frames_of_a_gif_stay_as_many(context: FolderContext) -> None:
    frames = torch.zeros(10, 16, 16, 3)
    frames[4:7, :, 8:] = 1.0
    file = save_video(context, {"frames": frames, "fps": 8.0}, "still", "gif")
    loaded = load_video(context, f"output/{file['name']}")
    total_s = len(loaded["frames"]) / loaded["fps"]
    assert total_s == pytest.approx(1.25, abs=0.15)
    assert float(loaded["frames"].mean()) == pytest.approx(float(frames.mean()), abs=0.05)


def test_changing_frame_times_become_regular(context: FolderContext) -> None:
    with av.open(str(context.root / "input" / "vfr.mp4"), "w") as container:
        stream: Any = container.add_stream("libx264", rate=Fraction(10))
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 100)
        for mark, grey in ((0, 0), (10, 50), (20, 100), (60, 150), (70, 200)):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), grey, np.uint8), format="rgb24")
            frame.pts, frame.time_base = mark, Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    loaded = load_video(context, "vfr.mp4")
    length_s = len(loaded["frames"]) / loaded["fps"]
    assert 0.7 <= length_s <= 0.95
    greys = loaded["frames"].mean(dim=(1, 2, 3)) * 255
    assert (greys.diff() > -2).all()
    assert greys[0] < 5
    held = float(greys[round(0.4 * loaded["fps"])])
    assert held == pytest.approx(100, abs=4)  # the frame at 0.2 s stays up to 0.6 s


def test_progress_cancel_and_preview(context: FolderContext) -> None:
    video = clip(6)
    file = preview_video(context, video)
    assert file["folder"] == "temp"
    assert context.progressed[-1][:2] == (6, 6)
    context.stop_after = 2
    with pytest.raises(Cancelled):
        save_video(context, video)
    assert list((context.root / "output").iterdir()) == []
    context.stop_after = 2
    with pytest.raises(Cancelled):
        load_video(context, f"temp/{file['name']}")


# --- bad input ---------------------------------------------------------------------------------------------------


def problem_of(context: FolderContext, name: str, **options: Any) -> Any:
    with pytest.raises(NodeError) as caught:
        load_video(context, name, **options)
    problem = caught.value.problem
    assert problem.remedy
    assert problem.port
    assert name in problem.message
    return problem


@pytest.mark.parametrize("format", ["mp4", "webm"])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.95])
def test_truncated_videos(context: FolderContext, format: str, part: float) -> None:
    file = save_video(context, clip(24, sound_s=3.0), "clip", format, 95)
    data = context.path_of(file).read_bytes()
    (context.root / "input" / f"cut.{format}").write_bytes(data[: int(len(data) * part)])
    if format == "webm" and part > 0.1:  # states no number of frames: what is there is shown, or it is damaged
        try:
            count = len(load_video(context, f"cut.{format}")["frames"])
        except NodeError as error:
            count, code = 1, error.problem.code
        else:
            code = "damaged_file"
        assert 0 < count <= 24
        assert code == "damaged_file"
    else:
        assert problem_of(context, f"cut.{format}").code == ("damaged_file" if format == "mp4" else "empty_video")


@pytest.mark.parametrize(
    ("name", "data", "code"), [("x.mp4", b"", "empty_file"), ("x.mp4", b"text " * 99, "damaged_file")]
)
def test_what_is_no_video(context: FolderContext, name: str, data: bytes, code: str) -> None:
    (context.root / "input" / name).write_bytes(data)
    assert problem_of(context, name).code == code


def test_sound_alone_is_no_video_and_text_is_nothing(context: FolderContext) -> None:
    import soundfile

    soundfile.write(context.root / "input" / "a.wav", np.zeros(100), 8_000)
    problem = problem_of(context, "a.wav")
    assert problem.code == "no_video"
    assert "load_audio" in problem.remedy
    (context.root / "input" / "b.bin").write_bytes(b"text " * 99)
    assert problem_of(context, "b.bin").code == "unknown_format"


def test_starting_after_the_end(context: FolderContext) -> None:
    name = f"output/{save_video(context, clip(8), 'clip')['name']}"
    with pytest.raises(NodeError) as caught:
        load_video(context, name, start_s=7.0)
    assert caught.value.problem.code == "empty_video"
    assert caught.value.problem.port == "start_s"


def test_giants_are_refused_with_numbers(context: FolderContext, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"output/{save_video(context, clip(16), 'clip')['name']}"
    monkeypatch.setattr(video_file, "LIMIT_BYTES", 5 * 48 * 64 * 12)
    with pytest.raises(NodeError) as caught:
        load_video(context, name)
    problem = caught.value.problem
    assert problem.code == "too_large"
    assert "16 frames of 64 x 48" in problem.message
    assert "at most 5 frames" in problem.remedy
    assert len(load_video(context, name, max_frames=5)["frames"]) == 5
    assert len(load_video(context, name, max_side=16)["frames"]) == 16


@pytest.mark.parametrize(("name", "error"), [("absent.mp4", NotFoundError), ("../x.mp4", PathError)])
def test_paths_stay_inside(context: FolderContext, name: str, error: type[AnyloomError]) -> None:
    with pytest.raises(error) as caught:
        load_video(context, name)
    assert caught.value.problem.code
    assert caught.value.problem.remedy


def dropping(path: Path, kept: list[int], codec: str = "mpeg4") -> bytes:
    """An AVI of 10 frames a second of which only some were kept, as cameras write it in the dark."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in kept:
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number * 20, np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path.read_bytes()


def test_an_avi_with_dropped_frames_is_whole_and_one_that_was_cut_is_not(context: FolderContext) -> None:
    root = context.root / "input"
    data = dropping(root / "dark.avi", [0, 1, 2, 5, 6, 9])
    video = load_video(context, "dark.avi")
    assert (video["frames"].shape[0], video["fps"]) == (10, 10.0)
    shown = (video["frames"].mean((1, 2, 3)) * 255 / 20).round().int().tolist()
    assert shown == [0, 1, 2, 2, 2, 5, 6, 6, 6, 9]
    (root / "cut.avi").write_bytes(data[: data.rindex(b"00dc", 0, data.index(b"idx1"))])
    with pytest.raises(NodeError) as caught:
        load_video(context, "cut.avi")
    assert caught.value.problem.code == "damaged_file"
