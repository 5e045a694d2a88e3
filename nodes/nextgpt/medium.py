"""Medium: a picture, a film or a sound as part of a turn: told apart, written without loss, read back.

What a medium is written as follows from its value (IMAGE, VIDEO, AUDIO), not from its modality: a modality whose
values are pictures is written as pictures are, whatever it is called.

    picture   PNG, 8 bits a channel (a decoder's picture is rounded to them once; what came from a file is exact)
    film      Matroska with FFV1 (RFC 9043), 8 bits a channel, any size; its sound as 32-bit float PCM
    sound     WAV, 32-bit float
    features  safetensors

Reading gives what was written, bit by bit, so a conversation that is saved once per turn does not wear out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from graph_engine.errors import NodeError
from graph_engine.graph.kinds import AUDIO, IMAGE, VIDEO, Kind

FEATURES = ".safetensors"


@dataclass(frozen=True)
class Form:
    """One row: a value of the form `holds(value)`; `single` takes a batch apart; `content` is what a digest is made of."""

    modality: str
    kind: Kind
    suffix: str
    holds: Callable[[Any], bool]
    single: Callable[[Any], list[Any]]
    content: Callable[[Any], Iterator[Any]]
    write: Callable[[Path, Any], None]
    read: Callable[[Path], Any]


def form_of(value: Any) -> Form | None:
    """The row of a value; None for what is no medium."""
    return next((form for form in FORMS if form.holds(value)), None)


def reader_of(modality: str, path: Path) -> Callable[[Path], Any]:
    """How a medium of a modality is read: as the form that has its name (the sound of a film, say), else as what it is."""
    named = next((form for form in FORMS if form.modality == modality), None)
    return (named or recognise(path)).read


def digest(value: Any) -> str:
    """80 bits that follow from the content: as many as names need, so that equal media are written once."""
    form = form_of(value)
    found = hashlib.blake2b(digest_size=10)
    for piece in (form.content if form else _tensor_content)(value):
        found.update(repr(piece).encode() if isinstance(piece, tuple) else piece.tobytes())
    return found.hexdigest()


def recognise(path: Path) -> Form:
    """What a file holds, by its content: Pillow's picture, else FFmpeg's film, else sound. An animated GIF is a film.

    Raises NodeError for a file that is none of them.
    """
    import av
    from PIL import Image

    from nodes.media.file_faults import refuse_empty, unknown

    refuse_empty(path, "media")
    try:
        with Image.open(path) as image:
            moves = image.format == "GIF" and getattr(image, "is_animated", False)
            return _FILM if moves else _PICTURE
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        pass  # no picture; a picture that is too large says so when it is read
    try:
        with av.open(str(path)) as container:
            cover = av.stream.Disposition.attached_pic
            if any(not stream.disposition & cover for stream in container.streams.video):
                return _FILM
            if container.streams.audio:
                return _SOUND
    except (av.error.FFmpegError, ValueError):
        pass
    raise unknown(path, "media", "PNG, WAV or MP4")


# --- pictures ---------------------------------------------------------------------------------------------------


def _picture_content(value: Any) -> Iterator[Any]:
    from nodes.media.image_file import bytes_of

    yield tuple(value.shape)
    yield bytes_of(value)


def _write_picture(path: Path, value: Any) -> None:
    from nodes.media.image_file import write_image

    write_image(path, value[0], "png")


def _read_picture(path: Path) -> Any:
    from nodes.media.image_file import read_image

    return read_image(path)[0]


# --- films ------------------------------------------------------------------------------------------------------


def _film_content(value: Any) -> Iterator[Any]:
    from nodes.media.image_file import bytes_of

    yield (*value["frames"].shape, value["fps"])
    for frame in value["frames"]:
        yield bytes_of(frame)
    if value.get("audio") is not None:
        yield from _sound_content(value["audio"])


def _write_film(path: Path, value: Any) -> None:
    import av

    from nodes.media.file_faults import complete_or_gone
    from nodes.media.image_file import bytes_of

    rate = Fraction(value["fps"]).limit_denominator(1001)
    with complete_or_gone(path, "video"), av.open(str(path), "w", format="matroska") as container:
        stream: Any = container.add_stream("ffv1", rate=rate)
        stream.height, stream.width = (int(side) for side in value["frames"].shape[1:3])
        stream.pix_fmt = "bgr0"
        sound = _Pcm(container, value["audio"]) if value.get("audio") is not None else None
        for number, picture in enumerate(value["frames"]):
            frame = av.VideoFrame.from_ndarray(bytes_of(picture), format="rgb24").reformat(format="bgr0")
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            sound.write()


class _Pcm:
    """The sound track of a film, sample by sample as it is; of a batch the first entry."""

    def __init__(self, container: Any, audio: Mapping[str, Any]) -> None:
        from nodes.media.audio_file import layout_of

        self.container, self.rate = container, int(audio["sample_rate"])
        self.samples = audio["waveform"][0].detach().cpu().numpy()
        self.layout = layout_of(len(self.samples))
        self.stream = container.add_stream("pcm_f32le", rate=self.rate, layout=self.layout)

    def write(self) -> None:
        import av
        import numpy as np

        for start in range(0, self.samples.shape[1], self.rate):
            piece = np.ascontiguousarray(self.samples[:, start : start + self.rate].T.reshape(1, -1))
            frame = av.AudioFrame.from_ndarray(piece, "flt", self.layout)
            frame.sample_rate, frame.pts, frame.time_base = self.rate, start, Fraction(1, self.rate)
            self.container.mux(self.stream.encode(frame))
        self.container.mux(self.stream.encode(None))


def _read_film(path: Path) -> Any:
    from nodes.media.video_file import read_video

    return read_video(path)


# --- sounds -----------------------------------------------------------------------------------------------------


def _sound_content(value: Any) -> Iterator[Any]:
    yield (*value["waveform"].shape, value["sample_rate"])
    yield value["waveform"].detach().cpu().contiguous().numpy()


def _write_sound(path: Path, value: Any) -> None:
    from nodes.media.audio_file import write_audio

    write_audio(path, value["waveform"][0], value["sample_rate"], "wav", 32)


def _read_sound(path: Path) -> Any:
    from nodes.media.audio_file import read_audio

    waveform, rate = read_audio(path)
    return {"waveform": waveform, "sample_rate": rate}


def _each_sound(value: Any) -> list[Any]:
    return [{**value, "waveform": entry[None]} for entry in value["waveform"]]


# --- features ---------------------------------------------------------------------------------------------------


def _tensor_content(value: Any) -> Iterator[Any]:
    yield tuple(value.shape)
    yield value.detach().cpu().float().contiguous().numpy()


def write_features(path: Path, tensor: Any) -> None:
    """Features "M H" as one tensor of a safetensors file."""
    from safetensors.torch import save_file

    from nodes.media.file_faults import complete_or_gone

    with complete_or_gone(path, "features"):
        save_file({"features": tensor.detach().cpu().float().contiguous()}, path)


def read_features(path: Path) -> Any:
    """Features "M H". Raises NodeError for another file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensor = load_file(path).get("features")
    except (SafetensorError, OSError) as error:
        tensor, reason = None, str(error)
    else:
        reason = "it has no tensor `features` of two axes"
    if tensor is None or tensor.ndim != 2:
        raise NodeError(
            f"the features file {path.name} cannot be read: {reason}.",
            remedy="Save the conversation again.",
            code="damaged_file",
            port="file",
        )
    return tensor.float()


def _has(value: Any, field: str) -> bool:
    return isinstance(value, Mapping) and field in value


_PICTURE = Form(
    "image", IMAGE, ".png", lambda value: getattr(value, "ndim", 0) == 4, lambda value: [picture[None] for picture in value],
    _picture_content, _write_picture, _read_picture,
)  # fmt: skip
_FILM = Form(
    "video", VIDEO, ".mkv", lambda value: _has(value, "frames"), lambda value: [value],
    _film_content, _write_film, _read_film,
)  # fmt: skip
_SOUND = Form(
    "audio", AUDIO, ".wav", lambda value: _has(value, "waveform"), _each_sound,
    _sound_content, _write_sound, _read_sound,
)  # fmt: skip
FORMS = (_PICTURE, _FILM, _SOUND)
"""`modality` is what a file of this form is taken for when nobody says otherwise."""
