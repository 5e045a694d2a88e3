"""Audio files: decode any that libsndfile or FFmpeg know, encode WAV, FLAC and MP3."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
import torch

from graph_engine.errors import NodeError
from nodes.media import riff, workflow_metadata
from nodes.media.file_faults import complete_or_gone, damaged, refuse_empty, too_large, unknown

MEDIA_TYPES = {"wav": "audio/wav", "flac": "audio/flac", "mp3": "audio/mpeg"}
LIMIT_BYTES = 4 << 30
"""Of decoded samples as float32: three hours of stereo at 48 kHz."""
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
MAX_PADDING = 4096
"""Samples of the longest frame of a lossy codec."""
_LAYOUTS = ("mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1")
_SUBTYPES = {16: "PCM_16", 24: "PCM_24", 32: "FLOAT"}

Samples = np.ndarray[Any, Any]


def read_audio(path: Path, start_s: float = 0.0, seconds: float = 0.0) -> tuple[torch.Tensor, int]:
    """The samples "1 C T", float32 with 1.0 as full scale, and the rate. `seconds` = 0 reads to the end."""
    refuse_empty(path, "audio")
    if missing := riff.missing_bytes(path):
        raise damaged(path, "audio", f"it ends {missing:,} bytes before its sound does")
    try:
        samples, rate = _read_sndfile(path, start_s, seconds)
    except soundfile.LibsndfileError:
        samples, rate = read_track(path, start_s, seconds)
    if samples.shape[1] == 0:
        raise NodeError(
            f"the audio file {path.name} holds no sound"
            + (f" from second {start_s:g} on." if start_s else ": its length is 0 samples."),
            remedy="Start earlier." if start_s else "Choose another file, or record it again.",
            code="empty_audio",
            port="start_s" if start_s else "file",
        )
    if not np.isfinite(samples).all():
        raise damaged(path, "audio", "it holds samples that are not finite numbers")
    return torch.from_numpy(np.ascontiguousarray(samples)).unsqueeze(0), rate


def _read_sndfile(path: Path, start_s: float, seconds: float) -> tuple[Samples, int]:
    """ "C T" and the rate; raises LibsndfileError for a format that the library does not know."""
    with soundfile.SoundFile(path) as file:
        rate = int(file.samplerate)
        start = min(round(start_s * rate), file.frames)
        count = min(round(seconds * rate), file.frames - start) if seconds else file.frames - start
        check_size(path, count, file.channels)
        try:
            file.seek(start)
            samples = file.read(count, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise damaged(path, "audio", error) from error
        if len(samples) < count and file.format != "MP3":  # an MP3 header only estimates
            raise damaged(
                path, "audio", f"it should have {file.frames:,} samples and ends after {start + len(samples):,}"
            )
    return samples.T, rate


def read_track(path: Path, start_s: float = 0.0, seconds: float = 0.0) -> tuple[Samples, int]:
    """The first audio track of any file that FFmpeg knows, as "C T" and the rate."""
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise NodeError(
                    f"{path.name} has no audio track.", remedy="Choose another file.", code="no_audio", port="file"
                )
            return decode_track(path, container, start_s, seconds)
    except av.error.InvalidDataError as error:
        known = path.suffix.lower() in (
            ".wav",
            ".flac",
            ".mp3",
            ".m4a",
            ".mp4",
            ".ogg",
            ".opus",
            ".webm",
            ".weba",
            ".aac",
        )
        raise (damaged(path, "audio", error) if known else unknown(path, "audio", "WAV, FLAC or MP3")) from error
    except (av.error.FFmpegError, ValueError) as error:
        raise damaged(path, "audio", error) from error


def decode_track(path: Path, container: Any, start_s: float, seconds: float) -> tuple[Samples, int]:
    """Decode the first audio track from `start_s` on: "C T" at its own rate. A late start is filled with silence."""
    stream = container.streams.audio[0]
    rate, channels = int(stream.rate), int(stream.channels)
    origin = round(max(0, container.start_time or 0) / av.time_base * rate)
    resampler = av.AudioResampler(format="fltp", rate=rate)
    first = round(start_s * rate)
    limit = round(seconds * rate) if seconds else None
    if start_s > 1:
        container.seek(int((start_s - 1) / stream.time_base), stream=stream)
    pieces: list[Samples] = []
    place: int | None = None
    for frame in container.decode(stream):
        begin = round(float(frame.pts * frame.time_base) * rate) - origin if frame.pts is not None else place or 0
        for part in resampler.resample(frame):
            piece = part.to_ndarray().astype(np.float32, copy=False)
            if place is None:
                if begin > first:
                    pieces.append(np.zeros((piece.shape[0], begin - first), np.float32))
                place = begin
            drop = min(max(0, first - place), piece.shape[1])
            place += piece.shape[1]
            pieces.append(piece[:, drop:])
            check_size(path, place - first, channels)
        if limit is not None and place is not None and place - first >= limit:
            break
    samples = np.concatenate(pieces, axis=1) if pieces else np.zeros((channels, 0), np.float32)
    if limit is None and stream.duration:  # what the encoder added to fill its last frame
        end = round(float(((stream.start_time or 0) + stream.duration) * stream.time_base) * rate) - origin - first
        if 0 < samples.shape[1] - end < MAX_PADDING:
            limit = end
    return samples[:, :limit], rate


def check_size(path: Path, samples: int, channels: int) -> None:
    """Raise before a decoded track outgrows the memory."""
    if samples * channels * 4 > LIMIT_BYTES:
        raise too_large(
            f"{path.name} ({samples:,} samples, {channels} channels)",
            f"{samples * channels * 4 / 2**30:.1f} GiB",
            f"{LIMIT_BYTES / 2**30:.0f} GiB",
            "Read a part of it: set start_s and seconds.",
            "seconds",
        )


def write_audio(
    path: Path,
    samples: torch.Tensor,
    rate: int,
    format: str,
    bits: int = 16,
    bitrate_kbps: int = 192,
    document: Mapping[str, Any] | None = None,
) -> None:
    """Write "C T" as "wav" (16 or 24 bits, 32 = float), "flac" (16 or 24 bits) or "mp3"; samples beyond 1 are clipped.

    A 32-bit WAV keeps every sample as it is. MP3 knows nine rates and two channels; others are refused by name.
    """
    data = samples.detach().cpu().numpy()
    with complete_or_gone(path, "audio"):
        if format == "wav":
            soundfile.write(
                path, data.T if bits == 32 else quantised(data, bits).T, rate, _SUBTYPES[bits], format="WAV"
            )
            if document:
                workflow_metadata.add_to_wav(path, document)
        else:
            if format == "mp3":
                _check_mp3(data.shape[0], rate)
            try:
                _encode(path, data, rate, format, bits, bitrate_kbps, document)
            except (av.error.FFmpegError, ValueError) as error:
                if isinstance(error, OSError):
                    raise
                raise NodeError(
                    f"{data.shape[0]} channels at {rate} Hz cannot be written as {format.upper()}: {error}.",
                    remedy="Resample to 48000 Hz and two channels, or save as WAV.",
                    code="cannot_encode",
                ) from error


def quantised(data: Samples, bits: int) -> Samples:
    """Whole samples: int16, or for 24 bits int32 whose lowest byte is 0. The inverse of what reading does, exactly."""
    scale = 2.0 ** (bits - 1)
    whole = np.clip(np.round(data.astype(np.float64) * scale), -scale, scale - 1)
    return whole.astype(np.int16) if bits == 16 else whole.astype(np.int32) << 8


def layout_of(channels: int) -> str:
    """FFmpeg's name of the usual loudspeaker layout with so many channels."""
    return _LAYOUTS[channels - 1] if channels <= len(_LAYOUTS) else f"{channels} channels"


def _check_mp3(channels: int, rate: int) -> None:
    if rate not in MP3_RATES or channels > 2:
        raise NodeError(
            f"MP3 cannot hold {channels} channels at {rate} Hz.",
            remedy=f"Resample to one of {', '.join(map(str, MP3_RATES))} Hz and at most two channels, or save as FLAC.",
            code="cannot_encode",
        )


def _encode(
    path: Path, data: Samples, rate: int, format: str, bits: int, bitrate_kbps: int, document: Mapping[str, Any] | None
) -> None:
    codec, sample_format = {"flac": ("flac", "s16" if bits == 16 else "s32"), "mp3": ("libmp3lame", "fltp")}[format]
    channels, length = data.shape
    layout = layout_of(channels)
    with av.open(str(path), "w", format=format) as container:
        if document:
            container.metadata[workflow_metadata.KEY] = workflow_metadata.as_text(document)
        stream: Any = container.add_stream(codec, rate=rate, layout=layout, format=sample_format)
        if format == "mp3":
            stream.bit_rate = bitrate_kbps * 1000
        for start in range(0, length, rate):
            piece = data[:, start : start + rate]
            if sample_format == "fltp":
                array = np.ascontiguousarray(np.clip(piece, -1, 1))
            else:
                array = quantised(piece, 16 if bits == 16 else 24).T.reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(array, format=sample_format, layout=layout)
            frame.sample_rate, frame.pts = rate, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
