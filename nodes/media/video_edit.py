"""Editing of video. VIDEO is {frames "F H W 3" float32 in 0..1, fps, audio or None}."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

from graph_engine import Audio, Image, NodeContext, NodeError, Skip, Video, Widget, node
from nodes.control.port_order import natural

CATEGORY = "media/video"
Seconds = Annotated[float, Widget(min=0, max=86_400, step=0.1)]
Fps = Annotated[float, Widget(min=0.1, max=240)]
Side = Annotated[int, Widget(min=0, max=16_384, step=8)]


@node(id="media.images_to_video", category=CATEGORY)
def images_to_video(images: Image, fps: Fps = 8.0, audio: Audio | None = None) -> Video:
    """A batch of pictures "B H W C" as the frames of a video, with a sound if one is given."""
    from nodes.media.image_batch import with_channels

    return {"frames": with_channels(images, 3), "fps": fps, "audio": audio}


@node(id="media.extract_frames", category=CATEGORY)
def extract_frames(
    video: Video,
    which: Literal["all", "every nth", "first", "last", "index"] = "all",
    n: Annotated[int, Widget(min=-1_000_000, max=1_000_000)] = 1,
) -> Image:
    """Frames of a video as a batch "B H W 3": all, every `n`th, first, last, or number `n` (0 first, -1 last)."""
    frames = video["frames"]
    if which == "all":
        return frames
    if which == "every nth":
        if n < 1:
            raise NodeError(
                f"there is no every {n}th frame.", remedy="Choose n of 1 or more.", code="out_of_range", port="n"
            )
        return frames[::n].clone()
    index = {"first": 0, "last": -1}.get(which, n)
    if not -len(frames) <= index < len(frames):
        raise NodeError(
            f"there is no frame {index} in a video of {len(frames)}.",
            remedy=f"Choose n in {-len(frames)}..{len(frames) - 1}.",
            code="no_such_item",
            port="n",
        )
    return frames[[index]]


@node(id="media.extract_audio", category=CATEGORY)
def extract_audio(video: Video) -> Audio:
    """The sound of a video; nothing when it has none."""
    return video.get("audio") or Skip("the video has no sound")


@node(id="media.mux", title="Join video and audio", category=CATEGORY)
def mux(
    video: Video,
    audio: Audio,
    length: Literal["video", "shortest", "longest"] = "video",
    mix: bool = False,
) -> Video:
    """Give a video this sound, or with `mix` add it to the one it has.

    length: of the result. "video" cuts the sound or leaves the end silent; "longest" holds the last frame.
    """
    import torch

    from nodes.media.audio_edit import mix_audio

    frames, fps = video["frames"], video["fps"]
    if mix and video.get("audio") is not None:
        audio = mix_audio(video["audio"], audio)
    waveform, rate = audio["waveform"], audio["sample_rate"]
    sound_frames = max(1, round(waveform.shape[-1] / rate * fps))
    if length == "longest" and sound_frames > len(frames):
        frames = torch.cat([frames, frames[-1:].expand(sound_frames - len(frames), -1, -1, -1)])
    elif length == "shortest":
        frames = frames[:sound_frames]
    waveform = waveform[..., : max(1, round(len(frames) / fps * rate))]
    return {**video, "frames": frames, "audio": {**audio, "waveform": waveform}}


@node(id="media.resample_video", category=CATEGORY)
def resample_video(video: Video, fps: Fps = 8.0, blend: bool = False) -> Video:
    """Another frame rate at the same speed: frames are repeated and dropped, or with `blend` mixed."""
    import torch

    frames, old = video["frames"], video["fps"]
    count = max(1, round(len(frames) * fps / old))
    place = torch.arange(count, dtype=torch.float64) * (old / fps)
    first = place.floor().long().clamp(max=len(frames) - 1) if blend else None
    if first is None:
        chosen = frames[((place + 0.5 * old / fps - 1e-6).floor().long()).clamp(max=len(frames) - 1)]
    else:
        share = (place - first).clamp(0, 1).float()[:, None, None, None]
        chosen = torch.lerp(frames[first], frames[(first + 1).clamp(max=len(frames) - 1)], share)
    return {**video, "frames": chosen, "fps": fps}


@node(id="media.trim_video", category=CATEGORY)
def trim_video(video: Video, start_s: Seconds = 0.0, seconds: Seconds = 0.0) -> Video:
    """The part from `start_s` on, `seconds` long (0: to the end), with its sound."""
    frames, fps, audio = video["frames"], video["fps"], video.get("audio")
    start = round(start_s * fps)
    if start >= len(frames):
        raise NodeError(
            f"the video lasts {len(frames) / fps:.3f} s, so nothing is left from second {start_s:g} on.",
            remedy="Start earlier.",
            code="empty_video",
            port="start_s",
        )
    kept = frames[start : start + max(1, round(seconds * fps)) if seconds else None].clone()
    if audio is not None:
        rate = audio["sample_rate"]
        first, last = (round(frame / fps * rate) for frame in (start, start + len(kept)))
        waveform = audio["waveform"][..., first : last if seconds else None]
        audio = {**audio, "waveform": waveform.clone()} if waveform.shape[-1] else None
    return {**video, "frames": kept, "audio": audio}


@node(id="media.resize_video", category=CATEGORY)
def resize_video(
    context: NodeContext,
    video: Video,
    width: Side = 512,
    height: Side = 0,
    mode: Literal["stretch", "fit", "fill", "pad"] = "stretch",
    method: Literal["area", "bilinear", "bicubic", "lanczos", "nearest"] = "bicubic",
) -> Video:
    """Another size for every frame; the modes are those of media.resize_image."""
    import torch

    from nodes.media.image_scale import resize

    frames, scaled = video["frames"], []
    for number, frame in enumerate(frames):
        scaled.append(resize(frame.unsqueeze(0), width, height, mode, method))
        context.progress(number + 1, len(frames))
    return {**video, "frames": torch.cat(scaled)}


@node(id="media.concat_video", category=CATEGORY)
def concat_video(sizes: Literal["resize to first", "error"] = "resize to first", **videos: list[Video]) -> Video:
    """One video after the other, in the natural order of the port names, at the rate and in the size of the first.

    Other sizes are fitted with black borders. A part without sound is silent where another one has any.
    """
    import torch

    from nodes.media.audio_edit import concat_audio
    from nodes.media.image_scale import resize

    parts = [video for name in natural(videos) for video in _as_list(videos[name])]
    if not parts:
        raise NodeError("there are no videos to join.", remedy="Connect at least one.", code="nothing_connected")
    fps, (height, width) = parts[0]["fps"], parts[0]["frames"].shape[1:3]
    different = [part["frames"] for part in parts if part["frames"].shape[1:3] != (height, width)]
    if different and sizes == "error":
        raise NodeError(
            f"the videos differ in size: {width} x {height} and {different[0].shape[2]} x {different[0].shape[1]}.",
            remedy="Resize them with media.resize_video, or set sizes to 'resize to first'.",
            code="size_mismatch",
            port="sizes",
        )
    parts = [part if part["fps"] == fps else resample_video(part, fps) for part in parts]
    frames = [resize(part["frames"], width, height, "pad", "bicubic") for part in parts]
    audio = None
    if any(part.get("audio") is not None for part in parts):
        audio = concat_audio(audio=[_sound(part, parts) for part in parts])
    return {"frames": torch.cat(frames), "fps": fps, "audio": audio}


def _sound(part: Any, parts: list[Any]) -> Any:
    """The sound of a part, exactly as long as its frames; silence if it has none."""
    import torch

    audio = part.get("audio") or next(other["audio"] for other in parts if other.get("audio") is not None)
    waveform = audio["waveform"] if part.get("audio") else torch.zeros_like(audio["waveform"])
    length = max(1, round(len(part["frames"]) / part["fps"] * audio["sample_rate"]))
    return {**audio, "waveform": torch.nn.functional.pad(waveform, (0, length - waveform.shape[-1]))}


class VideoInfo(NamedTuple):
    frames: int
    fps: float
    seconds: float
    width: int
    height: int
    has_audio: bool


@node(id="media.video_info", category=CATEGORY)
def video_info(video: Video) -> VideoInfo:
    """Number of frames, rate, duration, size, and whether there is sound."""
    count, height, width = video["frames"].shape[:3]
    return VideoInfo(
        int(count), video["fps"], count / video["fps"], int(width), int(height), video.get("audio") is not None
    )


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]
