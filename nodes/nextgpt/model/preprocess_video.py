"""VIDEO to ImageBind's clips: few frames, several crops."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nodes.nextgpt.model.clips import clip_starts
from nodes.nextgpt.model.imagebind_config import ImageBindConfig
from nodes.nextgpt.model.preprocess_image import checked, normalise

# How many clips are taken, and their length in seconds.
CLIPS = 5
CLIP_S = 2

# Places of the square along the longer side: begin, middle, end.
CROPS = 3

# A frame's long side grows with this ratio and all of it is needed, so there is a bound.
LONGEST_RATIO = 16


def video_tensor(
    video: Mapping[str, Any],
    config: ImageBindConfig,
    *,
    clips: int = CLIPS,
    clip_s: int = CLIP_S,
    reach_end: bool = False,
) -> Tensor:
    """VIDEO ``{"frames": "F H W 3" in 0..1, "fps": frames/s}`` -> ``"1 clips*3 3 T S S"``, float32.

    T = ``config.vision_frames`` frames, evenly from the first to the last of each clip; clip-major, then crops from
    left (top) to right (bottom).  The resize is bilinear without antialiasing, as the encoder's own recipe has it.
    A video of one frame gives equal clips.  Raises ValueError for no frames, a wrong shape or fps not above 0.
    """
    frames, fps = checked_video(video)
    height, width = frames.shape[1:3]
    if max(height, width) > LONGEST_RATIO * min(height, width):
        raise ValueError(
            f"cannot encode a video of {width}x{height} pixels: sides may differ {LONGEST_RATIO} times at most; crop it"
        )
    chosen = frame_indices(len(frames), fps, config.vision_frames, clips, clip_s, reach_end=reach_end)
    # Clips of a short video share frames; each is resized once.
    needed = sorted({index for clip in chosen for index in clip})
    planes = normalise(short_side(frames[needed].movedim(-1, 1).float(), config.image_size))
    place = {index: position for position, index in enumerate(needed)}
    views = []
    for clip in chosen:
        moving = planes[[place[index] for index in clip]].movedim(0, 1)  # 3 T H W
        views.extend(crops(moving, config.image_size))
    return torch.stack(views).unsqueeze(0)


def checked_video(video: Mapping[str, Any]) -> tuple[Tensor, float]:
    """Frames and rate of a VIDEO; raises ValueError unless there are some."""
    frames, fps = video["frames"], float(video["fps"])
    if not isinstance(frames, Tensor):
        raise ValueError(f"cannot encode video frames of type {type(frames).__name__}; they must be a tensor 'F H W 3'")
    checked(frames, (3,), "video")
    if not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"cannot encode a video of {fps} frames per second; set the rate it was recorded with")
    return frames, fps


def frame_indices(
    frames: int, fps: float, per_clip: int, clips: int = CLIPS, clip_s: int = CLIP_S, *, reach_end: bool = False
) -> list[list[int]]:
    """Which frames each clip shows."""
    chosen = []
    for start_s in clip_starts(frames / fps, clip_s, clips, reach_end=reach_end):
        # At very low rates a clip may lie between two frames; then it shows the nearest one there is.
        first = min(math.ceil(fps * start_s), frames - 1)
        last = max(min(math.ceil(fps * (start_s + clip_s)), frames) - 1, first)
        chosen.append([first + (last - first) * step // max(per_clip - 1, 1) for step in range(per_clip)])
    return chosen


def short_side(planes: Tensor, size: int) -> Tensor:
    """``"F C H W"`` scaled so that the shorter side is ``size``, bilinear."""
    height, width = planes.shape[-2:]
    short = min(height, width)
    if short == size:
        return planes
    # The quotient first: that is the original's rounding, which now and then loses a row.
    target = tuple(size if side == short else int(side / short * size) for side in (height, width))
    return F.interpolate(planes, size=target, mode="bilinear", align_corners=False)


def crops(planes: Tensor, size: int) -> list[Tensor]:
    """Three squares ``"... S S"`` of ``"... H W"``: left, middle and right, or top, middle and bottom of a tall one."""
    height, width = planes.shape[-2:]
    views = []
    for index in range(CROPS):
        top, left = -(-(height - size) // 2), -(-(width - size) // 2)
        if height > width:
            top = (0, top, height - size)[index]
        else:
            left = (0, left, width - size)[index]
        views.append(planes[..., top : top + size, left : left + size])
    return views
