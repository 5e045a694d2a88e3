"""Editing of video: which frames, how many, and the sound that goes with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graph_engine import NodeError, Skip
from graph_engine.graph.kinds import VIDEO
from nodes import media
from tests.contexts import FolderContext

torch.set_num_threads(1)


def numbered(count: int, fps: float = 8.0, size: int = 4, sound: bool = False) -> dict[str, Any]:
    """Frame k is grey k/100; sample t of the sound is its time in seconds over 100."""
    frames = (torch.arange(count) / 100).view(-1, 1, 1, 1).expand(count, size, size, 3).clone()
    wave = torch.arange(round(count / fps * 1000)) / 1000 / 100
    return {
        "frames": frames,
        "fps": fps,
        "audio": {"waveform": wave.view(1, 1, -1), "sample_rate": 1000} if sound else None,
    }


def numbers(video: dict[str, Any]) -> list[int]:
    return [round(float(frame[0, 0, 0]) * 100) for frame in VIDEO.check(video)["frames"]]


def code_of(call: Any, *inputs: Any, **named: Any) -> str:
    with pytest.raises(NodeError) as caught:
        call(*inputs, **named)
    assert caught.value.problem.remedy
    return caught.value.problem.code


@pytest.mark.parametrize(
    ("which", "n", "expected"),
    [("all", 1, [0, 1, 2, 3, 4]), ("every nth", 2, [0, 2, 4]), ("first", 9, [0]), ("last", 9, [4]), ("index", -2, [3])],
)
def test_extract_frames(which: str, n: int, expected: list[int]) -> None:
    frames = media.extract_frames(numbered(5), which, n)
    assert [round(float(frame[0, 0, 0]) * 100) for frame in frames] == expected


def test_extract_frames_errors_and_audio() -> None:
    assert code_of(media.extract_frames, numbered(5), "index", 5) == "no_such_item"
    assert code_of(media.extract_frames, numbered(5), "every nth", 0) == "out_of_range"
    video = numbered(5, sound=True)
    assert media.extract_audio(video) is video["audio"]
    assert isinstance(media.extract_audio(numbered(5)), Skip)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.sampled_from([5.0, 8.0, 24.0, 29.97]), st.sampled_from([4.0, 8.0, 12.5, 25.0, 60.0]))
def test_resampling_keeps_the_duration_and_the_order(count: int, fps: float, new_fps: float) -> None:
    for blend in (False, True):
        video = VIDEO.check(media.resample_video(numbered(count, fps), new_fps, blend))
        difference_s = abs(len(video["frames"]) / new_fps - count / fps)
        assert video["fps"] == new_fps
        assert difference_s <= 0.5 / new_fps + 1e-9 or len(video["frames"]) == 1
        assert numbers(video) == sorted(numbers(video))


def test_resampling_by_whole_factors() -> None:
    assert numbers(media.resample_video(numbered(3, 8.0), 16.0)) == [0, 0, 1, 1, 2, 2]
    assert len(numbers(media.resample_video(numbered(8, 8.0), 2.0))) == 2
    assert numbers(media.resample_video(numbered(5, 8.0), 8.0)) == [0, 1, 2, 3, 4]
    blended = media.resample_video(numbered(3, 8.0), 16.0, True)["frames"][:, 0, 0, 0] * 100
    assert torch.allclose(blended, torch.tensor([0, 0.5, 1, 1.5, 2, 2]), atol=1e-4)


def test_trim_cuts_the_sound_too() -> None:
    video = media.trim_video(numbered(16, sound=True), 0.5, 1.0)
    assert numbers(video) == list(range(4, 12))
    wave = video["audio"]["waveform"][0, 0]
    assert len(wave) == 1000
    assert float(wave[0]) == pytest.approx(0.005)
    assert numbers(media.trim_video(numbered(4), 0.25)) == [2, 3]
    assert code_of(media.trim_video, numbered(4), 0.5) == "empty_video"


def test_resize(tmp_path: Path) -> None:
    context = FolderContext(tmp_path)
    video = media.resize_video(context, numbered(3, size=8), 4, 6, "fill", "area")
    assert video["frames"].shape == (3, 6, 4, 3)
    assert numbers(video) == [0, 1, 2]
    assert len(context.progressed) == 3


def test_concat() -> None:
    joined = media.concat_video(video2=numbered(4, 8.0, 6), video1=[numbered(2, sound=True), numbered(2)])
    assert numbers(joined)[:4] == [0, 1, 0, 1]
    assert joined["frames"].shape == (8, 4, 4, 3)
    wave = joined["audio"]["waveform"][0, 0]
    assert len(wave) == 1000
    assert wave[:250].any()
    assert not wave[250:].any()
    assert media.concat_video(a=numbered(2), b=numbered(4, 16.0))["frames"].shape[0] == 4
    assert media.concat_video(a=numbered(2))["audio"] is None
    assert code_of(media.concat_video) == "nothing_connected"
    assert code_of(media.concat_video, "error", a=numbered(2), b=numbered(2, 8.0, 6)) == "size_mismatch"


@pytest.mark.parametrize(
    ("length", "frames", "samples"), [("video", 8, 1000), ("shortest", 8, 1000), ("longest", 16, 2000)]
)
def test_mux_a_longer_sound(length: str, frames: int, samples: int) -> None:
    video = media.mux(numbered(8), numbered(16, sound=True)["audio"], length)
    assert len(numbers(video)) == frames
    assert numbers(video)[-1] == 7
    assert video["audio"]["waveform"].shape[-1] == samples


def test_mux_a_shorter_sound_and_mix() -> None:
    short = numbered(4, sound=True)["audio"]
    assert len(media.mux(numbered(8), short)["frames"]) == 8
    assert len(media.mux(numbered(8), short, "shortest")["frames"]) == 4
    mixed = media.mux(numbered(8, sound=True), short, mix=True)["audio"]["waveform"][0, 0]
    assert float(mixed[400]) == pytest.approx(0.008)
    assert float(mixed[800]) == pytest.approx(0.008)


def test_images_to_video_and_info() -> None:
    video = media.images_to_video(torch.rand(5, 4, 6, 4), 10.0, numbered(2, sound=True)["audio"])
    assert VIDEO.check(video)["frames"].shape == (5, 4, 6, 3)
    assert media.video_info(video) == (5, 10.0, 0.5, 6, 4, True)
