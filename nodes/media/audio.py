"""Sound in and out of files."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from graph_engine import Audio, Effect, File, NodeContext, Widget, node

CATEGORY = "media/audio"
Seconds = Annotated[float, Widget(min=0, max=86_400, step=0.1)]


@node(id="media.load_audio", category=CATEGORY)
def load_audio(
    context: NodeContext,
    file: Annotated[str, Widget(upload="audio")],
    start_s: Seconds = 0.0,
    seconds: Seconds = 0.0,
) -> Audio:
    """Read a sound: WAV, FLAC, MP3, Ogg, AAC, the track of a video, and what else libsndfile and FFmpeg know.

    Returns {waveform "1 C T" float32 with 1.0 as full scale, sample_rate}. seconds: 0 reads to the end.
    """
    from nodes.media.audio_file import read_audio

    waveform, rate = read_audio(context.input_path(file), start_s, seconds)
    return {"waveform": waveform, "sample_rate": rate}


@node(id="media.save_audio", category=CATEGORY, effect=Effect.EXTERNAL, output=True)
def save_audio(
    context: NodeContext,
    audio: Audio,
    name: str = "audio",
    format: Literal["wav", "flac", "mp3"] = "wav",
    bits: Literal["16", "24", "32 float"] = "16",
    bitrate_kbps: Annotated[int, Widget(min=32, max=320, step=32)] = 192,
    embed_workflow: bool = True,
) -> list[File]:
    """Write every entry of the batch "B C T" to a file of its own in the output folder; beyond 1.0 it is clipped.

    bits: of WAV and FLAC (FLAC stops at 24). bitrate_kbps: of MP3. embed_workflow: the file carries this workflow.
    """
    return _write(context, audio, name, format, int(bits[:2]), bitrate_kbps, embed_workflow, temporary=False)


@node(id="media.preview_audio", category=CATEGORY, effect=Effect.EXTERNAL, output=True)
def preview_audio(context: NodeContext, audio: Audio) -> list[File]:
    """Play every entry of the batch "B C T" on the canvas; the files are temporary."""
    return _write(context, audio, "preview", "wav", 16, 192, False, temporary=True)


def _write(
    context: NodeContext,
    audio: Any,
    name: str,
    format: str,
    bits: int,
    bitrate_kbps: int,
    embed_workflow: bool,
    *,
    temporary: bool,
) -> list[Any]:
    from nodes.media.audio_file import MEDIA_TYPES, write_audio

    waveform, rate = audio["waveform"], audio["sample_rate"]
    document = context.document if embed_workflow else None
    files = []
    for number, samples in enumerate(waveform):
        path = context.output_path(name, format, temporary=temporary)
        write_audio(path, samples, rate, format, bits, bitrate_kbps, document)
        channels, length = samples.shape
        facts = {"seconds": round(length / rate, 3), "sample_rate": rate, "channels": channels}
        files.append(context.file(path, MEDIA_TYPES[format], **facts))
        context.progress(number + 1, len(waveform))
    return files
