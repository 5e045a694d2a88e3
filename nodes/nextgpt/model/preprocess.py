"""One door from Anyloom's media conventions to the tensors that `ImageBind.encode` takes.

=========  ==========================================================  ==========================
medium     value                                                       tensor
=========  ==========================================================  ==========================
image      IMAGE ``"B H W C"`` in 0..1                                 ``"B 3 224 224"``
video      VIDEO ``{"frames": "F H W 3", "fps"}``                      ``"1 15 3 2 224 224"``
audio      AUDIO ``{"waveform": "B C T", "sample_rate"}``              ``"B 3 1 128 204"``
text       ids ``"B 77"`` from `pad_text_ids`                          the same, int64
depth      depth maps ``"B H W 1"``                                    ``"B 1 224 224"``
thermal    IMAGE ``"B H W C"`` in 0..1                                 ``"B 1 224 224"``
imu        recordings ``"B 6 2000"``                                   the same, float32
=========  ==========================================================  ==========================

The sizes shown are those of `ImageBindConfig`'s defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nodes.nextgpt.model import preprocess_audio, preprocess_video
from nodes.nextgpt.model.imagebind_config import ImageBindConfig
from nodes.nextgpt.model.preprocess_audio import audio_tensor
from nodes.nextgpt.model.preprocess_image import depth_tensor, image_tensor, thermal_tensor
from nodes.nextgpt.model.preprocess_video import video_tensor

# Which trunk reads a medium.
TRUNK_OF: Mapping[str, str] = {
    "image": "vision",
    "video": "vision",
    "audio": "audio",
    "text": "text",
    "depth": "depth",
    "thermal": "thermal",
    "imu": "imu",
}

# Clips along time of what has a time.
CLIPS: Mapping[str, int] = {"video": preprocess_video.CLIPS, "audio": preprocess_audio.CLIPS}


def preprocess(medium: str, value: Any, config: ImageBindConfig) -> Tensor:
    """Prepare one medium for ``ImageBind.encode(TRUNK_OF[medium], ...)``; ValueError says what does not fit."""
    if medium not in _PREPARE:
        raise ValueError(f"ImageBind does not read {medium!r}; choose one of {list(TRUNK_OF)}")
    return _PREPARE[medium](value, config)


def pad_text_ids(ids: Sequence[Sequence[int]], eos: int, length: int = 77, *, pad: int = 0) -> Tensor:
    """Token ids of several texts, start token included -> int64 ``"B length"``.

    Each row ends in ``eos``, also where the text was cut, and is then filled with ``pad``.  The encoder finds the end
    of a text by its largest id, so ValueError is raised if an id exceeds ``eos``, and if there is no text at all.
    """
    if not ids or length < 1:
        raise ValueError(f"cannot pad {len(ids)} texts to {length} ids: there must be at least one of each")
    rows = torch.full((len(ids), length), pad, dtype=torch.int64)
    for row, text in enumerate(ids):
        body = list(text)
        while body and body[-1] == eos:
            body.pop()
        largest = max([pad, *body])
        if largest > eos:
            raise ValueError(
                f"text {row} holds id {largest}, above the end-of-text id {eos}; ImageBind takes the largest id for "
                "the end: use a vocabulary whose end-of-text id is its last"
            )
        body = [*body[: length - 1], eos]
        rows[row, : len(body)] = torch.tensor(body)
    return rows


def text_tensor(ids: Tensor, config: ImageBindConfig) -> Tensor:
    """Ids ``"B 77"``, checked against the vocabulary; an id outside would crash a GPU kernel."""
    if ids.ndim != 2 or 0 in ids.shape or ids.shape[1] != config.text_length or ids.is_floating_point():
        raise ValueError(
            f"cannot encode text ids of shape {tuple(ids.shape)} and type {ids.dtype}: they must be integers "
            f"'B {config.text_length}'; prepare them with pad_text_ids"
        )
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= config.text_vocabulary:
        raise ValueError(
            f"cannot encode text ids in {low}..{high}: the vocabulary is 0..{config.text_vocabulary - 1}; "
            "use the CLIP tokenizer that belongs to these weights"
        )
    return ids.long()


def imu_tensor(recording: Tensor, config: ImageBindConfig) -> Tensor:
    """Recordings ``"B 6 2000"`` (accelerometer, then gyroscope), float32; no unit is prescribed, values stay."""
    expected = (config.imu_channels, config.imu_samples)
    if recording.ndim != 3 or len(recording) == 0 or tuple(recording.shape[1:]) != expected:
        raise ValueError(
            f"cannot encode IMU recordings of shape {tuple(recording.shape)}: they must be "
            f"'B {expected[0]} {expected[1]}'; cut or resample them to that length"
        )
    recording = recording.float()
    if not bool(torch.isfinite(recording).all()):
        raise ValueError(
            "cannot encode an IMU recording with samples that are not finite numbers; fill the gaps, for instance with "
            "the sample before"
        )
    return recording


_PREPARE: Mapping[str, Callable[[Any, ImageBindConfig], Tensor]] = {
    "image": image_tensor,
    "video": video_tensor,
    "audio": audio_tensor,
    "text": text_tensor,
    "depth": depth_tensor,
    "thermal": thermal_tensor,
    "imu": imu_tensor,
}
