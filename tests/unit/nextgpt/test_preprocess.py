"""Preparation of images, videos, texts and the rest for ImageBind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from nodes.nextgpt.model.clips import clip_starts
from nodes.nextgpt.model.imagebind import ImageBind
from nodes.nextgpt.model.imagebind_config import ImageBindConfig
from nodes.nextgpt.model.preprocess import TRUNK_OF, pad_text_ids, preprocess, text_tensor
from nodes.nextgpt.model.preprocess_image import CLIP_MEAN, CLIP_STD, depth_tensor, image_tensor, thermal_tensor
from nodes.nextgpt.model.preprocess_video import frame_indices, video_tensor

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("error")

CONFIG = ImageBindConfig.tiny()
MEAN = torch.tensor(CLIP_MEAN).view(3, 1, 1)
STD = torch.tensor(CLIP_STD).view(3, 1, 1)


def picture(height: int, width: int, channels: int = 3, batch: int = 1) -> Tensor:
    """Smooth colours with a little noise, in 0..1."""
    generator = torch.Generator().manual_seed(height * width)
    rows = torch.linspace(0, 1, height).view(1, height, 1, 1)
    columns = torch.linspace(0, 3, width).view(1, 1, width, 1).sin()
    noise = torch.rand(batch, height, width, channels, generator=generator)
    return (0.6 * rows * columns + 0.4 * noise).clamp(0, 1)


@pytest.mark.parametrize(
    ("height", "width"), [(224, 224), (100, 333), (601, 401), (224, 300), (1, 1), (3, 2), (2, 40), (300, 2)]
)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_image_of_any_size_and_channels(height: int, width: int, channels: int) -> None:
    out = image_tensor(picture(height, width, channels, batch=2), CONFIG)
    assert out.shape == (2, 3, 224, 224) and out.dtype == torch.float32
    shown = out * STD + MEAN
    assert float(shown.min()) > -1e-5 and float(shown.max()) < 1 + 1e-5


@pytest.mark.parametrize(("height", "width"), [(480, 640), (333, 250), (224, 301), (120, 90)])
def test_image_equals_the_picture_librarys_resize_and_crop(height: int, width: int) -> None:
    """What the original does to a file: bytes, resized by the library, which rounds after each of its two passes."""
    rng = np.random.default_rng(height)
    pixels, short = rng.integers(0, 256, (height, width, 3), dtype=np.uint8), min(height, width)
    resized = Image.fromarray(pixels).resize((224 * width // short, 224 * height // short), Image.Resampling.BICUBIC)
    left, top = round((resized.width - 224) / 2), round((resized.height - 224) / 2)
    expected = torch.from_numpy(np.asarray(resized.crop((left, top, left + 224, top + 224))) / 255.0).movedim(-1, 0)
    ours = image_tensor(torch.from_numpy(pixels / np.float32(255))[None], CONFIG)[0]
    torch.testing.assert_close(ours, ((expected - MEAN) / STD).float(), rtol=0, atol=1e-6)


def test_thermal_equals_the_picture_librarys_brightness() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (300, 260, 3), dtype=np.uint8)
    grey = Image.fromarray(pixels).convert("L").resize((224, 258), Image.Resampling.BICUBIC).crop((0, 17, 224, 241))
    ours = thermal_tensor(torch.from_numpy(pixels / np.float32(255))[None], CONFIG)[0, 0]
    torch.testing.assert_close(ours, torch.from_numpy(np.asarray(grey) / np.float32(255)), rtol=0, atol=1e-6)


def test_image_of_the_right_size_is_only_normalised() -> None:
    image = picture(224, 224).mul(255).round() / 255
    torch.testing.assert_close(image_tensor(image, CONFIG)[0] * STD + MEAN, image[0].permute(2, 0, 1))


def test_grey_is_three_equal_channels_and_alpha_lies_on_white() -> None:
    grey = image_tensor(picture(50, 60, 1), CONFIG) * STD + MEAN
    torch.testing.assert_close(grey[:, 0], grey[:, 2])
    clear = torch.cat([torch.rand(1, 30, 30, 3).mul(255).round() / 255, torch.zeros(1, 30, 30, 1)], dim=-1)
    torch.testing.assert_close(image_tensor(clear, CONFIG), image_tensor(torch.ones(1, 30, 30, 3), CONFIG))
    solid = torch.cat([clear[..., :3], torch.ones(1, 30, 30, 1)], dim=-1)
    torch.testing.assert_close(image_tensor(solid, CONFIG), image_tensor(clear[..., :3], CONFIG))


def test_a_long_strip_shows_its_middle() -> None:
    strip = torch.zeros(1, 10, 4000, 3)
    strip[:, :, 1995:2005] = 1.0
    assert float((image_tensor(strip, CONFIG)[0] * STD + MEAN).mean()) > 0.95


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 8, 8, 2), (1, 0, 8, 3), (0, 8, 8, 3), (1, 3, 8, 8)])
def test_what_is_no_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="B H W C"):
        image_tensor(torch.zeros(shape), CONFIG)


def film(frames: int, height: int = 36, width: int = 64, fps: float = 8.0) -> dict[str, object]:
    """Frame i has the brightness i / frames."""
    levels = torch.arange(frames, dtype=torch.float32) / frames
    return {"frames": levels.view(-1, 1, 1, 1).expand(-1, height, width, 3), "fps": fps}


@pytest.mark.parametrize("frames", [1, 2, 7, 100])
@pytest.mark.parametrize("size", [(36, 64), (64, 36), (50, 50)])
def test_video_of_any_length(frames: int, size: tuple[int, int]) -> None:
    out = video_tensor(film(frames, *size), CONFIG)
    assert out.shape == (1, 15, 3, 2, 224, 224) and out.dtype == torch.float32
    assert bool(out.isfinite().all())


def test_video_clips_show_the_frames_they_should() -> None:
    out = video_tensor(film(80), CONFIG)  # 10 s: clips of 16 frames begin every 8/5 s
    level = (out[0] * STD.view(3, 1, 1, 1) + MEAN.view(3, 1, 1, 1)).mean(dim=(1, 3, 4)) * 80  # clip-crop x frame
    expected = [[0, 15], [13, 28], [26, 41], [39, 54], [52, 67]]  # ceil(12.8 i), 16 frames each
    torch.testing.assert_close(level, torch.tensor(expected).float().repeat_interleave(3, dim=0), atol=0.01, rtol=0)


def test_video_crops_go_from_left_to_right_and_from_top_to_bottom() -> None:
    ramp = torch.linspace(0, 1, 400).view(1, 1, 400, 1).expand(3, 200, 400, 3)
    for frames in (ramp, ramp.transpose(1, 2)):
        out = video_tensor({"frames": frames, "fps": 1.0}, CONFIG)[0, :3, :, 0] * STD + MEAN
        left, middle, right = out.mean(dim=(1, 2, 3)).tolist()
        assert left == pytest.approx(0.25, abs=0.01)
        assert middle == pytest.approx(0.5, abs=0.01)
        assert right == pytest.approx(0.75, abs=0.01)


def test_video_frames_are_resized_linearly_without_antialiasing() -> None:
    frame = picture(448, 448)
    out = video_tensor({"frames": frame, "fps": 1.0}, CONFIG)[0, 0, :, 0] * STD + MEAN
    # At half size a new pixel lies in the middle of four old ones.
    expected = frame[0].view(224, 2, 224, 2, 3).mean(dim=(1, 3)).permute(2, 0, 1)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(out, video_tensor({"frames": frame, "fps": 1.0}, CONFIG)[0, -1, :, 1] * STD + MEAN)


def test_a_one_frame_video_is_the_frame_everywhere() -> None:
    frame = picture(224, 224).mul(255).round() / 255
    out = video_tensor({"frames": frame, "fps": 24.0}, CONFIG)
    torch.testing.assert_close(out, image_tensor(frame, CONFIG)[:, None, :, None].expand_as(out))


@given(
    frames=st.integers(1, 2000),
    fps=st.floats(1 / 20, 240),
    clips=st.integers(1, 8),
    per_clip=st.integers(1, 5),
    reach_end=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_frames_of_clips_exist_and_go_forward(
    frames: int, fps: float, clips: int, per_clip: int, reach_end: bool
) -> None:
    chosen = frame_indices(frames, fps, per_clip, clips, 2, reach_end=reach_end)
    assert len(chosen) == clips
    for clip in chosen:
        assert len(clip) == per_clip and clip == sorted(clip)
        assert clip[0] >= 0 and clip[-1] < frames
        assert (clip[-1] - clip[0]) < 2 * fps + 1 + 1e-9
    assert [clip[0] for clip in chosen] == sorted(clip[0] for clip in chosen)
    if reach_end and clips > 1 and per_clip > 1 and fps >= 1:
        assert chosen[-1][-1] == frames - 1


@pytest.mark.parametrize(
    ("frames", "fps", "expected"),
    [
        (875, 15.0, [[0, 29], [169, 198], [338, 367], [508, 537], [676, 705]]),
        (893, 24.0, [[0, 47], [169, 217], [338, 386], [507, 554], [676, 723]]),
        (890, 25.0, [[0, 49], [169, 218], [337, 386], [504, 553], [673, 722]]),
        (900, 30000 / 1001, [[0, 59], [169, 227], [337, 395], [505, 563], [673, 731]]),
        (30, 30.0, [[0, 29]] * 5),
    ],
)
def test_clips_begin_where_pytorchvideo_begins_them(frames: int, fps: float, expected: list[list[int]]) -> None:
    """Computed with pytorchvideo 0.1.5; exact arithmetic would be a frame off in the first three."""
    assert frame_indices(frames, fps, 2) == expected


@settings(deadline=None)
@given(duration=st.floats(0, 1000), clip=st.integers(1, 10), count=st.integers(1, 9))
def test_clips_lie_inside_the_recording(duration: float, clip: int, count: int) -> None:
    for reach_end in (False, True):
        starts = clip_starts(duration, clip, count, reach_end=reach_end)
        assert len(starts) == count and starts[0] == 0
        assert starts[-1] + clip <= max(duration, clip) + 1e-12
    if count > 1:
        assert float(starts[-1] + clip) == pytest.approx(max(duration, clip))


@pytest.mark.parametrize(
    ("video", "word"),
    [
        ({"frames": torch.zeros(0, 8, 8, 3), "fps": 8.0}, "B H W C"),
        ({"frames": torch.zeros(2, 8, 8, 4), "fps": 8.0}, "B H W C"),
        ({"frames": np.zeros((2, 8, 8, 3)), "fps": 8.0}, "tensor"),
        ({"frames": torch.zeros(2, 8, 8, 3), "fps": 0.0}, "rate"),
        ({"frames": torch.zeros(2, 8, 8, 3), "fps": float("nan")}, "rate"),
        ({"frames": torch.zeros(2, 8, 800, 3), "fps": 8.0}, "crop"),
    ],
)
def test_what_is_no_video_is_refused(video: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        video_tensor(video, CONFIG)


def test_clips_must_have_length() -> None:
    with pytest.raises(ValueError, match="longer than 0 s"):
        clip_starts(3.0, 0, 2)


SOS, EOS = 49406, 49407


@settings(deadline=None)
@given(texts=st.lists(st.lists(st.integers(1, SOS - 1), max_size=100), min_size=1, max_size=4))
def test_text_keeps_its_end(texts: list[list[int]]) -> None:
    rows = pad_text_ids([[SOS, *text, EOS] for text in texts], EOS)
    assert rows.shape == (len(texts), 77) and rows.dtype == torch.int64
    for row, text in zip(rows.tolist(), texts, strict=True):
        kept = min(len(text), 75)
        assert row == [SOS, *text[:kept], EOS] + [0] * (75 - kept)


def test_text_padding_options_and_refusals() -> None:
    assert pad_text_ids([[5, 6]], 9, 5).tolist() == [[5, 6, 9, 0, 0]]
    assert pad_text_ids([[]], 9, 3, pad=9).tolist() == [[9, 9, 9]]
    assert pad_text_ids([[1, 2, 3, 4, 9]], 9, 1).tolist() == [[9]]
    with pytest.raises(ValueError, match="at least one"):
        pad_text_ids([], 9)
    with pytest.raises(ValueError, match="above the end-of-text id 9"):
        pad_text_ids([[10]], 9)


@pytest.mark.parametrize(
    "ids",
    [
        torch.zeros(1, 76, dtype=torch.int64),
        torch.zeros(1, 77),
        torch.full((1, 77), 49408),
        torch.full((1, 77), -1),
        torch.zeros(0, 77, dtype=torch.int64),
    ],
)
def test_what_is_no_text_is_refused(ids: Tensor) -> None:
    with pytest.raises(ValueError, match="text ids"):
        text_tensor(ids, CONFIG)


def test_thermal_is_brightness_and_depth_keeps_its_units() -> None:
    red = torch.zeros(1, 40, 30, 3)
    red[..., 0] = 1.0
    torch.testing.assert_close(thermal_tensor(red, CONFIG), torch.full((1, 1, 224, 224), 76 / 255))
    torch.testing.assert_close(depth_tensor(torch.full((2, 90, 40, 1), 7.5), CONFIG), torch.full((2, 1, 224, 224), 7.5))
    with pytest.raises(ValueError, match="depth map"):
        depth_tensor(red, CONFIG)


def test_an_imu_recording_must_have_its_length() -> None:
    with pytest.raises(ValueError, match="'B 6 2000'"):
        preprocess("imu", torch.zeros(1, 6, 1999), CONFIG)


def test_an_unknown_medium_is_refused() -> None:
    with pytest.raises(ValueError, match="'smell'"):
        preprocess("smell", None, CONFIG)


def test_every_medium_goes_through_its_trunk() -> None:
    values: dict[str, object] = {
        "image": picture(40, 50),
        "video": film(12),
        "audio": {"waveform": torch.rand(1, 2, 9_000), "sample_rate": 22_050},
        "text": pad_text_ids([[SOS, 320, 1125, EOS]], EOS),
        "depth": torch.rand(1, 30, 40, 1),
        "thermal": picture(20, 30, 1),
        "imu": torch.rand(1, 6, 2000, dtype=torch.float64),
    }
    assert values.keys() == TRUNK_OF.keys()
    encoder = ImageBind(CONFIG).eval()
    for medium, value in values.items():
        trunk = TRUNK_OF[medium]
        with torch.no_grad():
            out = encoder.encode(trunk, preprocess(medium, value, CONFIG), kind="patch")
        assert out.shape == (1, CONFIG.feature_count(trunk, "patch"), 32)
        assert bool(out.isfinite().all())
