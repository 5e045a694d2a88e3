"""Video files: decode any that FFmpeg knows into float frames, encode MP4, WebM and GIF."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange, Colorspace

from graph_engine.errors import NodeError
from nodes.media import workflow_metadata
from nodes.media.audio_file import check_size as check_audio_size
from nodes.media.audio_file import decode_track
from nodes.media.file_faults import complete_or_gone, damaged, refuse_empty, too_large, unknown
from nodes.media.gif_file import gif_rate, write_gif
from nodes.media.image_file import bytes_of
from nodes.media.sound_track import SoundTrack

MEDIA_TYPES = {"mp4": "video/mp4", "webm": "video/webm", "gif": "image/gif"}
LIMIT_BYTES = 8 << 30
"""Of decoded frames as float32: 24 seconds of full HD at 14 frames per second."""
_KNOWN = (".mp4", ".webm", ".gif", ".mkv", ".mov", ".avi", ".m4v")

Progress = Callable[[float, float], None]


def _quiet(done: float, total: float) -> None: ...


def read_video(
    path: Path,
    start_s: float = 0.0,
    seconds: float = 0.0,
    max_frames: int = 0,
    max_side: int = 0,
    progress: Progress = _quiet,
) -> dict[str, Any]:
    """{frames "F H W 3" float32 in 0..1, fps, audio or None}.

    0 means no limit. A file with changing frame times is brought to its mean rate by repeating and dropping frames.
    max_side: scale down while decoding, so that neither side is longer.
    """
    refuse_empty(path, "video")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise NodeError(
                    f"{path.name} has no picture track.",
                    remedy="Load it with media.load_audio." if container.streams.audio else "Choose another file.",
                    code="no_video",
                    port="file",
                )
            frames, fps = _read_frames(path, container, start_s, seconds, max_frames, max_side, progress)
        audio = _read_audio(path, start_s, len(frames) / fps if seconds or max_frames else 0.0)
    except av.error.InvalidDataError as error:
        known = path.suffix.lower() in _KNOWN
        raise (damaged(path, "video", error) if known else unknown(path, "video", "MP4, WebM or GIF")) from error
    except (av.error.FFmpegError, ValueError) as error:
        raise damaged(path, "video", error) from error
    return {"frames": torch.from_numpy(frames).float().div_(255), "fps": fps, "audio": audio}


def _read_frames(
    path: Path, container: Any, start_s: float, seconds: float, max_frames: int, max_side: int, progress: Progress
) -> tuple[np.ndarray[Any, Any], float]:
    """uint8 "F H W 3" and the rate, on a regular grid of times from `start_s` on."""
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    rate = (gif_rate(path) if container.format.name == "gif" else stream.average_rate) or Fraction(25)
    origin_s = max(0, container.start_time or 0) / av.time_base + start_s
    size = _scaled(stream.codec_context.width, stream.codec_context.height, max_side)
    length_s = (
        float(stream.duration * stream.time_base) if stream.duration else (container.duration or 0) / av.time_base
    )
    wanted = [max_frames] * (max_frames > 0) + [max(1, round(seconds * rate))] * (seconds > 0)
    limit = min(wanted, default=sys.maxsize)
    expected = min(limit, round(max(0.0, length_s - start_s) * rate))
    _check_size(path, expected, *size, float(rate))
    if start_s > 0:
        container.seek(int(origin_s / stream.time_base), stream=stream)
    arrays: list[np.ndarray[Any, Any]] = []
    shown: Any = None
    end, packets = 0, 0
    place, gap = -1, 1  # of AVI, whose times are numbers of frames
    for packet in container.demux(stream):
        packets += packet.size > 0
        if packet.pts is not None and packet.pts > place:
            place, gap = packet.pts, max(gap, packet.pts - place)
        for frame in packet.decode():
            # the place of this frame on the grid; the frame before it stays up to there
            time_s = frame.time - origin_s if frame.pts is not None else len(arrays) / rate
            end = round((time_s + (frame.duration or 0) * frame.time_base) * rate)
            for _ in range(len(arrays), min(round(time_s * rate), limit)):
                arrays.append(arrays[-1] if arrays else _pixels(shown or frame, *size))
            if len(arrays) == round(time_s * rate) < limit:
                arrays.append(_pixels(frame, *size))
                _check_size(path, len(arrays), arrays[0].shape[1], arrays[0].shape[0], float(rate))
                progress(len(arrays), max(expected, len(arrays)))
            shown = frame
        if len(arrays) >= limit:
            break
    else:
        # AVI counts frames that were dropped, as cameras do in the dark: it is whole if nothing is missing at its end.
        whole = container.format.name == "avi" and place + gap >= stream.frames
        if start_s == 0 and packets < stream.frames and not whole:
            raise damaged(path, "video", f"it should have {stream.frames} frames and ends after {packets}")
        arrays += arrays[-1:] * (min(end, limit) - len(arrays))
    if not arrays:
        raise NodeError(
            f"{path.name} has no frames"
            + (f" from second {start_s:g} on; it lasts {length_s:g} s." if start_s else "."),
            remedy="Start earlier." if start_s else "Choose another file.",
            code="empty_video",
            port="start_s" if start_s else "file",
        )
    return np.stack(arrays), float(rate)


def _pixels(frame: Any, width: int, height: int) -> np.ndarray[Any, Any]:
    """uint8 "H W 3", scaled, then turned as a phone's rotation mark says."""
    array = frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="AREA")
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(array, turns)) if turns else array


def _scaled(width: int, height: int, max_side: int) -> tuple[int, int]:
    factor = min(1.0, max_side / max(width, height)) if max_side else 1.0
    return max(1, round(width * factor)), max(1, round(height * factor))


def _check_size(path: Path, frames: int, width: int, height: int, rate: float) -> None:
    size = frames * width * height * 12
    if size > LIMIT_BYTES:
        fitting = LIMIT_BYTES // (width * height * 12)
        raise too_large(
            f"{path.name} ({frames:,} frames of {width} x {height})",
            f"{size / 2**30:.1f} GiB of memory",
            f"{LIMIT_BYTES / 2**30:.0f} GiB",
            f"Load at most {fitting:,} frames ({fitting / rate:.0f} s) with max_frames or seconds, or set max_side.",
            "max_frames",
        )


def _read_audio(path: Path, start_s: float, seconds: float) -> dict[str, Any] | None:
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return None
        stream = container.streams.audio[0]
        length_s = seconds or (container.duration or 0) / av.time_base
        check_audio_size(path, round(length_s * stream.rate), stream.channels)
        samples, rate = decode_track(path, container, start_s, seconds)
    if samples.shape[1] == 0:
        return None
    return {"waveform": torch.from_numpy(samples).unsqueeze(0), "sample_rate": rate}


# --- writing ----------------------------------------------------------------------------------------------------


def write_video(
    path: Path,
    video: Mapping[str, Any],
    format: str,
    quality: int = 75,
    document: Mapping[str, Any] | None = None,
    progress: Progress = _quiet,
) -> tuple[int, int]:
    """Write VIDEO as "mp4" (H.264, AAC), "webm" (VP9, Opus) or "gif" (no sound); the width and height written.

    Odd sides get one more row or column, a copy of the last, because chroma is stored at half the resolution.
    """
    frames = video["frames"]
    with complete_or_gone(path, "video"):
        if format == "gif":
            write_gif(path, frames, video["fps"], document, progress)
            return int(frames.shape[2]), int(frames.shape[1])
        try:
            return _write_container(path, video, format, quality, document, progress)
        except (av.error.FFmpegError, ValueError) as error:
            if isinstance(error, OSError):
                raise
            raise NodeError(
                f"the video cannot be written as {format}: {error}.",
                remedy="Try the other format, or another size.",
                code="cannot_encode",
            ) from error


def _write_container(
    path: Path,
    video: Mapping[str, Any],
    format: str,
    quality: int,
    document: Mapping[str, Any] | None,
    progress: Progress,
) -> tuple[int, int]:
    frames, fps, audio = video["frames"], Fraction(video["fps"]).limit_denominator(1001), video.get("audio")
    height, width = (int(side + side % 2) for side in frames.shape[1:3])
    codec, options = _video_codec(format, quality)
    flags = {"movflags": "faststart+use_metadata_tags"} if format == "mp4" else {}
    with av.open(str(path), "w", format=format, options=flags) as container:
        if document:
            container.metadata[workflow_metadata.KEY] = workflow_metadata.as_text(document)
        stream: Any = container.add_stream(codec, rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.color_range = ColorRange.MPEG
        stream.codec_context.colorspace = Colorspace.ITU709
        sound = SoundTrack(container, audio, format) if audio is not None else None
        for number, picture in enumerate(frames):
            array = bytes_of(picture)
            if array.shape[:2] != (height, width):
                array = np.pad(array, ((0, height - array.shape[0]), (0, width - array.shape[1]), (0, 0)), "edge")
            frame = av.VideoFrame.from_ndarray(array, format="rgb24").reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            frame.pts, frame.time_base = number, 1 / fps
            container.mux(stream.encode(frame))
            if sound is not None:
                sound.write_until(number / float(fps) + 1.0)
            progress(number + 1, len(frames))
        container.mux(stream.encode(None))
        if sound is not None:
            sound.close()
    return width, height


def _video_codec(format: str, quality: int) -> tuple[str, dict[str, str]]:
    """Codec and options; quality 0..100 becomes the constant rate factor, where less is better."""
    if format == "webm":
        crf = str(round(60 - quality * 0.5))
        return "libvpx-vp9", {"crf": crf, "b:v": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}
    if "libx264" in av.codecs_available:
        # Where frames between others are allowed (B), libx264 gives equal pictures different bits now and then.
        return "libx264", {"crf": str(round(45 - quality * 0.35)), "preset": "medium", "bf": "0"}
    return "mpeg4", {"qscale": str(round(31 - quality * 0.29))}
