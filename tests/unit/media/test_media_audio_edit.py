"""Editing of sound: lengths to the sample, pitch by Fourier transform, no aliases."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graph_engine import NodeError
from graph_engine.graph.kinds import AUDIO
from nodes.media import (
    audio_info,
    concat_audio,
    convert_channels,
    fade_audio,
    gain_audio,
    mix_audio,
    resample_audio,
    silence,
    trim_audio,
)

torch.set_num_threads(1)


def tone(hertz: float, rate: int, seconds: float = 1.0, channels: int = 1) -> dict[str, object]:
    time = torch.arange(round(rate * seconds), dtype=torch.float64) / rate
    wave = (0.5 * torch.sin(2 * torch.pi * hertz * time)).float()
    return {"waveform": wave.expand(1, channels, -1).clone(), "sample_rate": rate}


@pytest.mark.parametrize("rate", [44_100, 16_000])
@pytest.mark.parametrize("new_rate", [8_000, 16_000, 22_050, 44_100, 48_000, 44_101])
def test_resampling_keeps_duration_pitch_and_shape(rate: int, new_rate: int) -> None:
    """A resampled sine is the sine sampled anew, to 100 dB, away from the ends."""
    audio = AUDIO.check(resample_audio(tone(1000, rate, 0.5), new_rate))
    waveform = audio["waveform"][0, 0]
    assert audio["sample_rate"] == new_rate
    assert len(waveform) == math.ceil(rate // 2 * new_rate / rate)
    expected = tone(1000, new_rate, 0.51)["waveform"][0, 0, : len(waveform)]  # type: ignore[index]
    middle = slice(new_rate // 20, -new_rate // 20)
    error = (waveform - expected)[middle]
    assert 10 * math.log10(expected[middle].square().mean() / error.square().mean().clamp(min=1e-20)) > 100
    spectrum = torch.fft.rfft(waveform * torch.hann_window(len(waveform)), 8 * len(waveform)).abs()
    assert abs(float(spectrum.argmax()) * new_rate / (8 * len(waveform)) - 1000) < 1


def test_what_lies_above_the_new_nyquist_is_removed() -> None:
    audio = resample_audio(tone(10_000, 44_100), 16_000)["waveform"][..., 1000:-1000]
    assert 20 * math.log10(float(audio.abs().max()) + 1e-12) < -90


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3000), st.sampled_from([8_000, 11_025, 16_000, 44_100]), st.sampled_from([8_000, 22_050, 48_000]))
def test_resampling_any_length(length: int, rate: int, new_rate: int) -> None:
    constant = {"waveform": torch.full((2, 2, length), 0.5), "sample_rate": rate}
    waveform = resample_audio(constant, new_rate)["waveform"]
    assert waveform.shape == (2, 2, math.ceil(length * new_rate / rate))
    assert waveform.isfinite().all()
    assert waveform.abs().max() < 0.75


def test_trim() -> None:
    audio = tone(440, 8_000)
    assert torch.equal(trim_audio(audio, 0.25, 0.5)["waveform"], audio["waveform"][..., 2000:6000])  # type: ignore[index]
    assert trim_audio(audio, 0.9)["waveform"].shape[-1] == 800
    with pytest.raises(NodeError, match=r"lasts 1\.000 s") as caught:
        trim_audio(audio, 1.0)
    assert caught.value.problem.code == "empty_audio"
    assert caught.value.problem.remedy


@pytest.mark.parametrize(("length", "samples"), [("longest", 8_000), ("first", 4_000), ("shortest", 4_000)])
def test_mix_lengths_and_gains(length: str, samples: int) -> None:
    one = {"waveform": torch.full((1, 1, 4_000), 0.25), "sample_rate": 8_000}
    two = {"waveform": torch.full((1, 2, 6_000), 0.5), "sample_rate": 8_000}
    mixed = mix_audio(one, two, 0.0, -20 * math.log10(2), 0.25, length)
    waveform = mixed["waveform"]
    assert waveform.shape == (1, 2, samples)
    assert torch.allclose(waveform[..., :2000], torch.tensor(0.25))
    assert torch.allclose(waveform[..., 2000:4000], torch.tensor(0.5))
    assert torch.allclose(waveform[..., 4000:], torch.tensor(0.25))


def test_mix_limits_and_matches_rates() -> None:
    loud = {"waveform": torch.full((1, 1, 100), 0.9), "sample_rate": 8_000}
    assert float(mix_audio(loud, loud)["waveform"].max()) == 1.0
    assert float(mix_audio(loud, loud, limit=False)["waveform"].max()) == pytest.approx(1.8)
    assert mix_audio(tone(1, 8_000), tone(1, 16_000))["waveform"].shape[-1] == 8_000


def test_concat_orders_gaps_and_crossfades() -> None:
    ones = {"waveform": torch.ones(1, 1, 1000), "sample_rate": 1000}
    halves = {"waveform": torch.full((1, 1, 500), 0.5), "sample_rate": 1000}
    joined = concat_audio(audio10=halves, audio2=ones, gap_s=0.1)["waveform"][0, 0]
    assert len(joined) == 1600
    assert joined[0] == 1
    assert joined[-1] == 0.5
    assert not joined[1000:1100].any()
    faded = concat_audio(crossfade_s=0.2, audios=[ones, ones])["waveform"][0, 0]
    assert len(faded) == 1800
    power = torch.sin(torch.linspace(0, math.pi / 2, 200)) + torch.cos(torch.linspace(0, math.pi / 2, 200))
    assert torch.allclose(faded[800:1000], power, atol=0.01)
    with pytest.raises(NodeError) as caught:
        concat_audio()
    assert caught.value.problem.code == "nothing_connected"


def test_batches_that_do_not_match() -> None:
    with pytest.raises(NodeError) as caught:
        mix_audio(*({"waveform": torch.zeros(size, 1, 9), "sample_rate": 8_000} for size in (2, 3)))
    assert caught.value.problem.code == "batch_mismatch"
    assert "2, 3" in caught.value.message


def test_channels_gain_fade_silence_info() -> None:
    stereo = {"waveform": torch.tensor([[[1.0, 1.0], [0.0, 0.5]]]), "sample_rate": 8_000}
    assert convert_channels(stereo)["waveform"].tolist() == [[[0.5, 0.75]]]
    assert convert_channels(stereo, "stereo")["waveform"] is stereo["waveform"]
    assert gain_audio(tone(440, 8_000), -6.0, True)["waveform"].abs().max() == pytest.approx(10**-0.3, abs=1e-4)
    assert not gain_audio(silence(0.1), 0.0, True)["waveform"].any()
    faded = fade_audio({"waveform": torch.ones(1, 1, 100), "sample_rate": 1000}, 0.05, 0.05)["waveform"][0, 0]
    assert faded[0] < 0.05
    assert faded[-1] < 0.05
    assert faded[49] > 0.99
    assert torch.allclose(faded, faded.flip(0), atol=1e-6)
    assert audio_info(silence(1.5, 8_000, "stereo")) == (1.5, 8_000, 2, 1)
