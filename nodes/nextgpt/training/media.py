"""Media of talks as tensors: drawn from the world, or read from files of a data set, at whatever size a model wants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nodes.nextgpt.training.media_file import MediaFile
from nodes.nextgpt.training.world.caption import AnyMedium
from nodes.nextgpt.training.world.clip import FPS, Clip, film
from nodes.nextgpt.training.world.picture import draw_scenes
from nodes.nextgpt.training.world.scene import Scene
from nodes.nextgpt.training.world.sound import SAMPLE_RATE, Sound, play


def pictures(media: Sequence[AnyMedium], size: tuple[int, int], device: torch.device | str) -> Tensor:
    """Pictures "B H W 3" in 0..1 of `size` (height, width)."""
    drawn = [medium for medium in media if isinstance(medium, Scene)]
    if len(drawn) == len(media) and size[0] == size[1]:
        return draw_scenes(drawn, size[0], device)
    return torch.stack([_resized(_one_picture(medium, device), size) for medium in media])


def films(media: Sequence[AnyMedium], size: tuple[int, int], frames: int, device: torch.device | str) -> Tensor:
    """Films "B F H W 3" in 0..1."""
    drawn = [medium for medium in media if isinstance(medium, Clip)]
    if len(drawn) == len(media) and size[0] == size[1]:
        return film(drawn, size[0], device, frames)
    found = []
    for medium in media:
        if isinstance(medium, Clip):
            found.append(_resized(film([medium], max(size), device, frames)[0], size))
        else:
            whole = _read(medium)["frames"].to(device)
            chosen = torch.linspace(0, len(whole) - 1, frames).round().long()
            found.append(_resized(whole[chosen][..., :3].float(), size))
    return torch.stack(found)


def waves(media: Sequence[AnyMedium], samples: int, device: torch.device | str) -> Tensor:
    """Waveforms "B samples" at 16 kHz: longer ones are cut, shorter ones filled with silence."""
    drawn = [medium for medium in media if isinstance(medium, Sound)]
    if len(drawn) == len(media):
        return _length(play(drawn, device), samples)
    found = []
    for medium in media:
        if isinstance(medium, Sound):
            found.append(_length(play([medium], device), samples)[0])
        else:
            found.append(_length(_one_wave(_read(medium)).to(device), samples))
    return torch.stack(found)


def as_value(medium: AnyMedium) -> Any:
    """The medium as nodes hand it on: IMAGE "1 H W 3", VIDEO or AUDIO."""
    if isinstance(medium, Scene):
        return draw_scenes([medium])
    if isinstance(medium, Clip):
        return {"frames": film([medium])[0], "fps": FPS}
    if isinstance(medium, Sound):
        return {"waveform": play([medium])[:, None], "sample_rate": SAMPLE_RATE}
    return _read(medium)


def _one_picture(medium: AnyMedium, device: torch.device | str) -> Tensor:
    if isinstance(medium, Scene):
        return draw_scenes([medium], device=device)[0]
    return _read(medium)[0, ..., :3].float().to(device)


def _one_wave(audio: Any) -> Tensor:
    from nodes.nextgpt.model.resample import resample

    return resample(audio["waveform"][0, :1].float(), int(audio["sample_rate"]), SAMPLE_RATE)[0]


def _length(wave: Tensor, samples: int) -> Tensor:
    return torch.nn.functional.pad(wave[..., :samples], (0, max(0, samples - wave.shape[-1])))


def _resized(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """ "... H W 3" to another size, by area where it shrinks; the longer side is cut at both ends first."""
    height, width = planes.shape[-3:-1]
    if (height, width) == size:
        return planes
    ratio = size[1] / size[0]
    if width / height > ratio:
        left = (width - round(height * ratio)) // 2
        planes = planes[..., left : left + round(height * ratio), :]
    else:
        top = (height - round(width / ratio)) // 2
        planes = planes[..., top : top + round(width / ratio), :, :]
    flat = planes.reshape(-1, *planes.shape[-3:]).movedim(-1, 1)
    flat = torch.nn.functional.interpolate(flat, size=size, mode="bilinear", antialias=True, align_corners=False)
    return flat.movedim(1, -1).reshape(*planes.shape[:-3], *size, 3).clamp(0, 1)


def _read(medium: AnyMedium) -> Any:
    """IMAGE, VIDEO or AUDIO of a file, by the readers of the load nodes. Raises NodeError that names the file."""
    assert isinstance(medium, MediaFile)
    if medium.modality == "image":
        from nodes.media.image_file import read_image

        return read_image(medium.path)[0]
    if medium.modality == "audio":
        from nodes.media.audio_file import read_audio

        waveform, rate = read_audio(medium.path)
        return {"waveform": waveform, "sample_rate": rate}
    from nodes.media.video_file import read_video

    return read_video(medium.path)
