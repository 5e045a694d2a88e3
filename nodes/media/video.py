"""Video in and out of files."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from graph_engine import Effect, File, NodeContext, Video, Widget, node

CATEGORY = "media/video"
Seconds = Annotated[float, Widget(min=0, max=86_400, step=0.1)]
Count = Annotated[int, Widget(min=0, max=1_000_000)]


@node(id="media.load_video", category=CATEGORY)
def load_video(
    context: NodeContext,
    file: Annotated[str, Widget(upload="video")],
    start_s: Seconds = 0.0,
    seconds: Seconds = 0.0,
    max_frames: Count = 0,
    max_side: Annotated[int, Widget(min=0, max=16_384, step=8)] = 0,
) -> Video:
    """Read a video: MP4, WebM, GIF, MOV, MKV, AVI and what else FFmpeg knows.

    Returns {frames "F H W 3" float32 in 0..1, fps, audio {waveform "1 C T", sample_rate} or None}. 0 means no limit;
    max_side scales down while decoding. A file with changing frame times is brought to a constant rate.
    """
    from nodes.media.video_file import read_video

    return read_video(context.input_path(file), start_s, seconds, max_frames, max_side, context.progress)


@node(id="media.save_video", category=CATEGORY, effect=Effect.EXTERNAL, output=True)
def save_video(
    context: NodeContext,
    video: Video,
    name: str = "video",
    format: Literal["mp4", "webm", "gif"] = "mp4",
    quality: Annotated[int, Widget(min=1, max=100)] = 75,
    embed_workflow: bool = True,
) -> File:
    """Write a video with its sound to the output folder: MP4 (H.264, AAC), WebM (VP9, Opus) or GIF (no sound).

    Odd sides get one more row or column in MP4 and WebM. embed_workflow: the file carries this workflow.
    """
    return _write(context, video, name, format, quality, embed_workflow, temporary=False)


@node(id="media.preview_video", category=CATEGORY, effect=Effect.EXTERNAL, output=True)
def preview_video(context: NodeContext, video: Video) -> File:
    """Play a video on the canvas; the file is temporary."""
    return _write(context, video, "preview", "mp4", 75, False, temporary=True)


def _write(
    context: NodeContext, video: Any, name: str, format: str, quality: int, embed_workflow: bool, *, temporary: bool
) -> Any:
    from nodes.media.video_file import MEDIA_TYPES, write_video

    path = context.output_path(name, format, temporary=temporary)
    document = context.document if embed_workflow else None
    width, height = write_video(path, video, format, quality, document, context.progress)
    count, fps = len(video["frames"]), video["fps"]
    facts = {"width": width, "height": height, "frames": count, "fps": fps, "seconds": round(count / fps, 3)}
    return context.file(path, MEDIA_TYPES[format], **facts)
