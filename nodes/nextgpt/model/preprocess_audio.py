"""AUDIO to ImageBind's spectrogram clips."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nodes.nextgpt.model.clips import clip_starts
from nodes.nextgpt.model.filterbank import frame_samples, log_mel
from nodes.nextgpt.model.imagebind_config import ImageBindConfig
from nodes.nextgpt.model.resample import resample, resampled_length

SAMPLE_RATE = 16_000

# How many clips are taken, and their length in seconds.
CLIPS = 3
CLIP_S = 2

# Statistics of the filter bank over AudioSet, from the AST recipe that ImageBind follows.
MEL_MEAN = -4.268
MEL_STD = 9.138


def audio_tensor(
    audio: Mapping[str, Any],
    config: ImageBindConfig,
    *,
    clips: int = CLIPS,
    clip_s: int = CLIP_S,
    reach_end: bool = False,
) -> Tensor:
    """AUDIO ``{"waveform": "B C T" in -1..1, "sample_rate": Hz}`` -> ``"B clips 1 mel frames"``, float32.

    Only the first channel is heard, as in the original.  A recording shorter than a clip fills the rest of its
    spectrogram with zeros (before normalisation); one shorter than a filter-bank frame is first padded with silence.
    Raises ValueError for an empty waveform, a waveform of other than three axes or a sample rate below 1 Hz.
    """
    waveform, rate = audio["waveform"], int(audio["sample_rate"])
    if not isinstance(waveform, Tensor) or waveform.ndim != 3 or 0 in waveform.shape:
        shape = tuple(waveform.shape) if isinstance(waveform, Tensor) else type(waveform).__name__
        raise ValueError(
            f"cannot encode audio of shape {shape}: it must be a tensor 'B C T' with at least one item, one channel "
            "and one sample; check that the file has an audio track and that trimming did not remove all of it"
        )
    if rate < 1:
        raise ValueError(f"cannot encode audio with a sample rate of {rate} Hz; set the rate it was recorded with")
    mono = waveform[:, 0].float()
    length = resampled_length(mono.shape[-1], rate, SAMPLE_RATE)
    spectrograms = []
    for start_s in clip_starts(length / SAMPLE_RATE, clip_s, clips, reach_end=reach_end):
        start = int(start_s * SAMPLE_RATE)
        stop = min(int((start_s + clip_s) * SAMPLE_RATE), length)
        clip = resample(mono, rate, SAMPLE_RATE, start=start, stop=stop)
        spectrograms.append(spectrogram(clip, config))
    return torch.stack(spectrograms, dim=1)


def spectrogram(clip: Tensor, config: ImageBindConfig) -> Tensor:
    """One clip ``"B T"`` at 16 kHz -> ``"B 1 mel frames"``, normalised."""
    clip = clip - clip.mean(dim=-1, keepdim=True)
    clip = F.pad(clip, (0, max(0, frame_samples(SAMPLE_RATE) - clip.shape[-1])))
    features = log_mel(clip, SAMPLE_RATE, config.mel_bins).transpose(-1, -2)
    # A negative pad cuts.  The zeros come before the normalisation: the encoder knows padding as 0.467.
    features = F.pad(features, (0, config.audio_frames - features.shape[-1]))
    return ((features - MEL_MEAN) / MEL_STD).unsqueeze(-3)
