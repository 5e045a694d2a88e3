"""Filter bank and resampling against torchaudio and independent numpy and scipy code, and AUDIO preparation."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
import scipy.signal
import torch
from safetensors.torch import load_file

from nodes.nextgpt.model.filterbank import log_mel
from nodes.nextgpt.model.imagebind_config import ImageBindConfig
from nodes.nextgpt.model.preprocess_audio import audio_tensor
from nodes.nextgpt.model.resample import resample, resampled_length

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("error")

GOLDEN = load_file(Path(__file__).parents[2] / "golden" / "data" / "torchaudio.safetensors")
CONFIG = ImageBindConfig.tiny()
RATE = 16_000
PADDED = (0 + 4.268) / 9.138


def kaldi_log_mel(wave: np.ndarray, bins: int) -> np.ndarray:
    """Frame by frame and triangle by triangle, in float64."""

    def to_mel(hertz: float) -> float:
        return 1127.0 * math.log(1.0 + hertz / 700.0)

    window = scipy.signal.get_window("hann", 400, fftbins=False)
    step = (to_mel(8000.0) - to_mel(20.0)) / (bins + 1)
    banks = np.zeros((bins, 257))
    for b in range(bins):
        left = to_mel(20.0) + b * step
        for k in range(256):
            pitch = to_mel(k * RATE / 512)
            if left < pitch <= left + step:
                banks[b, k] = (pitch - left) / step
            elif left + step < pitch < left + 2 * step:
                banks[b, k] = (left + 2 * step - pitch) / step
    rows = []
    for start in range(0, len(wave) - 400 + 1, 160):
        frame = wave[start : start + 400].astype(np.float64)
        frame = frame - frame.mean()
        shifted = np.concatenate([frame[:1], frame[:-1]])
        spectrum = scipy.fft.rfft((frame - 0.97 * shifted) * window, n=512)
        rows.append(np.log(np.maximum(banks @ np.abs(spectrum) ** 2, np.finfo(np.float32).eps)))
    return np.stack(rows)


def waves() -> dict[str, np.ndarray]:
    time = np.arange(2 * RATE) / RATE
    rng = np.random.default_rng(3)
    return {
        "noise": rng.uniform(-1, 1, 2 * RATE),
        "quiet noise": 1e-3 * rng.standard_normal(2 * RATE),
        "sweep": 0.5 * scipy.signal.chirp(time, 50, 2.0, 7500),
        "offset tone": 0.3 + 0.2 * np.sin(2 * np.pi * 440 * time),
    }


@pytest.mark.parametrize("name", waves())
@pytest.mark.parametrize("bins", [128, 23])
def test_filter_bank_equals_the_reference(name: str, bins: int) -> None:
    wave = waves()[name].astype(np.float32)
    ours = log_mel(torch.from_numpy(wave), RATE, bins).numpy()
    reference = kaldi_log_mel(wave, bins)
    assert ours.shape == reference.shape == (198, bins)
    assert np.abs(ours - reference).max() / np.abs(reference).max() < 1e-4


def test_filter_bank_equals_torchaudios() -> None:
    wave = GOLDEN["wave"]
    ours = log_mel(wave - wave.mean(dim=-1, keepdim=True), RATE, 128)
    assert ours.shape == GOLDEN["fbank"].shape == (4, 28, 128)
    assert float((ours - GOLDEN["fbank"]).abs().max() / GOLDEN["fbank"].abs().max()) < 1e-4


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_resampling_equals_torchaudios(rate: int) -> None:
    torch.testing.assert_close(resample(GOLDEN["source"], rate, RATE), GOLDEN[f"resampled.{rate}"], rtol=0, atol=1e-6)


def test_silence_is_the_floor() -> None:
    features = log_mel(torch.zeros(1, 4000), RATE, 128)
    torch.testing.assert_close(features, torch.full_like(features, math.log(torch.finfo(torch.float32).eps)))


def test_less_than_a_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 400 samples"):
        log_mel(torch.zeros(399), RATE, 128)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000, 44_101])
def test_resampled_tone_is_the_tone(rate: int) -> None:
    tone = torch.sin(2 * math.pi * 440 * torch.arange(rate, dtype=torch.float64) / rate).float()
    ours = resample(tone, rate, RATE)
    expected = torch.sin(2 * math.pi * 440 * torch.arange(RATE, dtype=torch.float64) / RATE).float()
    assert ours.shape == expected.shape and ours.dtype == torch.float32
    middle = slice(200, -200)  # the ends see silence beyond them
    assert (ours - expected)[middle].abs().max() < 2e-3


def test_what_lies_above_the_new_nyquist_frequency_is_removed() -> None:
    tone = torch.sin(2 * math.pi * 11_000 * torch.arange(44_100) / 44_100)
    assert resample(tone, 44_100, RATE)[200:-200].abs().max() < 0.01


def test_resampling_equals_the_defining_sum() -> None:
    rng = np.random.default_rng(4)
    wave, rate_in, rate_out = rng.standard_normal(300), 44_100, 16_000
    ours = resample(torch.from_numpy(wave), rate_in, rate_out).numpy()
    cutoff = 0.99 * min(1.0, rate_out / rate_in)
    for n in range(len(ours)):
        t = (np.arange(len(wave)) - n * rate_in / rate_out) * cutoff
        hann = np.where(np.abs(t) < 6, np.cos(np.pi * t / 12) ** 2, 0.0)
        assert ours[n] == pytest.approx(float((wave * np.sinc(t) * hann).sum() * cutoff), abs=1e-9)


@pytest.mark.parametrize("rate", [11_025, 16_000, 96_000])
def test_a_part_equals_the_part_of_the_whole(rate: int) -> None:
    wave = torch.rand(2, 5_000)
    whole = resample(wave, rate, RATE)
    assert whole.shape[-1] == resampled_length(5_000, rate, RATE) == math.ceil(5_000 * RATE / rate)
    torch.testing.assert_close(resample(wave, rate, RATE, start=100, stop=300), whole[:, 100:300])


def test_long_audio_is_resampled_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    wave = torch.rand(3_000)
    whole = resample(wave, 44_100, RATE)
    monkeypatch.setattr("nodes.nextgpt.model.resample.BLOCK_TAPS", 1_000)
    torch.testing.assert_close(resample(wave, 44_100, RATE), whole, rtol=0, atol=0)


@pytest.mark.parametrize("rates", [(0, 16_000), (16_000, 0), (-1, 16_000)])
def test_rates_below_one_hertz_are_refused(rates: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1 Hz"):
        resample(torch.zeros(10), *rates)


def audio(samples: int, rate: int = RATE, batch: int = 1, channels: int = 1) -> dict[str, object]:
    return {"waveform": torch.rand(batch, channels, samples) - 0.5, "sample_rate": rate}


@pytest.mark.parametrize(
    ("samples", "rate"), [(1, RATE), (399, RATE), (7_000, RATE), (32_000, RATE), (150_000, 44_100), (5, 48_000)]
)
def test_audio_of_any_length(samples: int, rate: int) -> None:
    out = audio_tensor(audio(samples, rate, batch=2, channels=2), CONFIG)
    assert out.shape == (2, 3, 1, 128, 204) and out.dtype == torch.float32
    assert bool(out.isfinite().all())


def test_audio_clip_is_its_normalised_filter_bank_padded_with_zeros() -> None:
    sound = audio(32_000)
    out = audio_tensor(sound, CONFIG)
    wave = sound["waveform"][0, 0].numpy()  # type: ignore[index]
    reference = (kaldi_log_mel(wave, 128).T + 4.268) / 9.138
    assert np.abs(out[0, 0, 0, :, :198].numpy() - reference).max() < 1e-3
    torch.testing.assert_close(out[..., 198:], torch.full_like(out[..., 198:], PADDED))


def test_short_audio_gives_equal_clips_and_padding() -> None:
    out = audio_tensor(audio(8_000), CONFIG)
    assert torch.equal(out[:, 0], out[:, 1]) and torch.equal(out[:, 0], out[:, 2])
    frames = 1 + (8_000 - 400) // 160
    torch.testing.assert_close(out[..., frames:], torch.full_like(out[..., frames:], PADDED))
    assert not torch.allclose(out[..., frames - 1], torch.tensor(PADDED))


def test_clips_begin_at_thirds_of_the_free_time() -> None:
    sound = audio(5 * RATE)
    out = audio_tensor(sound, CONFIG)
    wave = sound["waveform"]
    for index, start_s in enumerate((0, 1, 2)):  # (5 s - 2 s) / 3 apart
        part = {"waveform": wave[..., start_s * RATE : (start_s + 2) * RATE], "sample_rate": RATE}  # type: ignore[index]
        torch.testing.assert_close(out[:, index], audio_tensor(part, CONFIG, clips=1)[:, 0])
    last = {"waveform": wave[..., -2 * RATE :], "sample_rate": RATE}  # type: ignore[index]
    reaching = audio_tensor(sound, CONFIG, reach_end=True)
    torch.testing.assert_close(reaching[:, 2], audio_tensor(last, CONFIG, clips=1)[:, 0])


def test_only_the_first_channel_is_heard() -> None:
    sound = audio(20_000, channels=2)
    left = {**sound, "waveform": sound["waveform"][:, :1]}  # type: ignore[index]
    assert torch.equal(audio_tensor(sound, CONFIG), audio_tensor(left, CONFIG))


@pytest.mark.parametrize("shape", [(1, 1, 0), (1, 0, 10), (0, 1, 10), (1, 10)])
def test_empty_audio_is_refused_with_a_remedy(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="audio track"):
        audio_tensor({"waveform": torch.zeros(shape), "sample_rate": RATE}, CONFIG)


def test_audio_without_a_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="sample rate of 0 Hz"):
        audio_tensor(audio(100, rate=0), CONFIG)
