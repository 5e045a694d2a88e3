"""Editing of sound. AUDIO is {waveform "B C T" float32 with 1.0 as full scale, sample_rate}."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

from graph_engine import Audio, NodeError, Widget, node
from nodes.control.port_order import natural

CATEGORY = "media/audio"
Seconds = Annotated[float, Widget(min=0, max=86_400, step=0.1)]
Rate = Annotated[int, Widget(min=1_000, max=768_000)]
Decibels = Annotated[float, Widget(min=-120, max=60, step=0.5)]


@node(id="media.resample_audio", category=CATEGORY)
def resample_audio(audio: Audio, sample_rate: Rate = 16_000) -> Audio:
    """Another sample rate, by windowed-sinc interpolation without aliases; the duration stays."""
    from nodes.media.audio_resample import resample

    return {
        **audio,
        "waveform": resample(audio["waveform"], audio["sample_rate"], sample_rate),
        "sample_rate": sample_rate,
    }


@node(id="media.trim_audio", category=CATEGORY)
def trim_audio(audio: Audio, start_s: Seconds = 0.0, seconds: Seconds = 0.0) -> Audio:
    """The part from `start_s` on, `seconds` long (0: to the end)."""
    waveform, rate = audio["waveform"], audio["sample_rate"]
    start = round(start_s * rate)
    if start >= waveform.shape[-1]:
        raise NodeError(
            f"the sound lasts {waveform.shape[-1] / rate:.3f} s, so nothing is left from second {start_s:g} on.",
            remedy="Start earlier.",
            code="empty_audio",
            port="start_s",
        )
    stop = start + max(1, round(seconds * rate)) if seconds else None
    return {**audio, "waveform": waveform[..., start:stop].clone()}


@node(id="media.convert_channels", category=CATEGORY)
def convert_channels(audio: Audio, channels: Literal["mono", "stereo"] = "mono") -> Audio:
    """Average all channels into one, or copy the average into two (a stereo sound stays as it is)."""
    from nodes.media.audio_resample import to_channels

    return {**audio, "waveform": to_channels(audio["waveform"], 1 if channels == "mono" else 2)}


@node(id="media.gain_audio", category=CATEGORY)
def gain_audio(audio: Audio, gain_db: Decibels = 0.0, normalise: bool = False) -> Audio:
    """Louder or softer; with `normalise` the loudest sample of the batch is brought to full scale first."""
    waveform = audio["waveform"]
    peak = float(waveform.abs().max())
    factor: float = 10 ** (gain_db / 20) / (peak if normalise and peak > 0 else 1.0)
    return {**audio, "waveform": waveform * factor}


@node(id="media.fade_audio", category=CATEGORY)
def fade_audio(audio: Audio, in_s: Seconds = 0.0, out_s: Seconds = 0.0) -> Audio:
    """Fade in and out along a quarter of a sine, which keeps the loudness even where two fades overlap."""
    waveform = audio["waveform"].clone()
    length = waveform.shape[-1]
    rise, fall = (min(length, round(span * audio["sample_rate"])) for span in (in_s, out_s))
    if rise:
        waveform[..., :rise] *= _quarter_sine(rise)
    if fall:
        waveform[..., length - fall :] *= _quarter_sine(fall).flip(0)
    return {**audio, "waveform": waveform}


@node(id="media.mix_audio", category=CATEGORY)
def mix_audio(
    first: Audio,
    second: Audio,
    first_gain_db: Decibels = 0.0,
    second_gain_db: Decibels = 0.0,
    second_start_s: Seconds = 0.0,
    length: Literal["longest", "first", "shortest"] = "longest",
    limit: bool = True,
) -> Audio:
    """Play two sounds at once, at the rate of the first and with the larger number of channels.

    length: of the result; the shorter one is followed by silence. limit: turn the result down if it would clip.
    """
    import torch

    (one, two), rate = _matched([first, second])
    two = torch.nn.functional.pad(two, (round(second_start_s * rate), 0))
    lengths = one.shape[-1], two.shape[-1]
    total = {"longest": max(lengths), "first": lengths[0], "shortest": min(lengths)}[length]
    mixed = _of_length(one, total) * 10 ** (first_gain_db / 20) + _of_length(two, total) * 10 ** (second_gain_db / 20)
    peak = float(mixed.abs().max())
    return {"waveform": mixed / peak if limit and peak > 1 else mixed, "sample_rate": rate}


@node(id="media.concat_audio", category=CATEGORY)
def concat_audio(gap_s: Seconds = 0.0, crossfade_s: Seconds = 0.0, **audios: list[Audio]) -> Audio:
    """One sound after the other, in the natural order of the port names, at the rate of the first.

    gap_s: silence between them. crossfade_s: how long neighbours overlap (then there is no gap).
    """
    import torch

    tracks = [track for name in natural(audios) for track in _as_list(audios[name])]
    if not tracks:
        raise NodeError("there are no sounds to join.", remedy="Connect at least one.", code="nothing_connected")
    waveforms, rate = _matched(tracks)
    joined = waveforms[0]
    for waveform in waveforms[1:]:
        overlap = min(round(crossfade_s * rate), joined.shape[-1], waveform.shape[-1])
        if overlap:
            rise = _quarter_sine(overlap)
            seam = joined[..., -overlap:] * rise.flip(0) + waveform[..., :overlap] * rise
            parts = [joined[..., :-overlap], seam, waveform[..., overlap:]]
        else:
            parts = [joined, joined.new_zeros((*joined.shape[:2], round(gap_s * rate))), waveform]
        joined = torch.cat(parts, dim=-1)
    return {"waveform": joined, "sample_rate": rate}


@node(id="media.silence", category=CATEGORY)
def silence(
    seconds: Annotated[float, Widget(min=0.001, max=3600, step=0.1)] = 1.0,
    sample_rate: Rate = 44_100,
    channels: Literal["mono", "stereo"] = "mono",
) -> Audio:
    """A sound "1 C T" of nothing."""
    import torch

    shape = (1, 1 if channels == "mono" else 2, max(1, round(seconds * sample_rate)))
    return {"waveform": torch.zeros(shape), "sample_rate": sample_rate}


class AudioInfo(NamedTuple):
    seconds: float
    sample_rate: int
    channels: int
    batch: int


@node(id="media.audio_info", category=CATEGORY)
def audio_info(audio: Audio) -> AudioInfo:
    """Duration, rate, channels and batch size."""
    count, channels, length = audio["waveform"].shape
    return AudioInfo(length / audio["sample_rate"], audio["sample_rate"], int(channels), int(count))


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _quarter_sine(length: int) -> Any:
    import torch

    return torch.sin((torch.arange(length) + 0.5) * (torch.pi / 2 / length))


def _of_length(waveform: Any, length: int) -> Any:
    """ "B C T" cut, or followed by silence."""
    import torch

    return torch.nn.functional.pad(waveform, (0, length - waveform.shape[-1]))


def _matched(tracks: list[Any]) -> tuple[list[Any], int]:
    """Waveforms "B C T" with the rate of the first, the largest number of channels and the largest batch."""
    from nodes.media.audio_resample import resample, to_channels

    rate = tracks[0]["sample_rate"]
    channels = max(track["waveform"].shape[1] for track in tracks)
    count = max(track["waveform"].shape[0] for track in tracks)
    sizes = [track["waveform"].shape[0] for track in tracks]
    if any(size not in (1, count) for size in sizes):
        raise NodeError(
            f"batches of {', '.join(map(str, sizes))} sounds do not match.",
            remedy="Give equal batches, or single sounds.",
            code="batch_mismatch",
        )
    waveforms = (to_channels(resample(track["waveform"], track["sample_rate"], rate), channels) for track in tracks)
    return [waveform.expand(count, -1, -1) for waveform in waveforms], rate
