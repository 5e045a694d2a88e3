"""A medium of a data set: a file that is read when it is needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class MediaFile:
    """modality: image, video or audio. caption: what its data set says of it."""

    modality: str
    path: Path
    caption: str = ""
