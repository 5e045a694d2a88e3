"""Every size of an ImageBind encoder, as one value that survives JSON.

ImageBind (Girdhar et al., CVPR 2023, arXiv 2305.05665) has one transformer trunk per modality.  What differs between
"huge" and a test model is width, depth and heads; what never differs is the geometry of the input (patch sizes, token
counts, mel bins), because a checkpoint's position embeddings fix it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

MODALITIES: tuple[str, ...] = ("vision", "text", "audio", "depth", "thermal", "imu")


@dataclass(frozen=True)
class TrunkSize:
    """Width (channels), number of blocks and number of attention heads of one trunk."""

    width: int
    blocks: int
    heads: int

    def __post_init__(self) -> None:
        if min(self.width, self.blocks, self.heads) < 1 or self.width % self.heads:
            raise ValueError(
                f"ImageBind trunk size {self}: width must be a positive multiple of heads and blocks at least 1; "
                "choose a width that the number of heads divides"
            )


@dataclass(frozen=True)
class ImageBindConfig:
    """Sizes of the six trunks, of their inputs and of the shared output space.

    Images are squares of ``image_size`` pixels; a video clip is ``vision_frames`` such images; audio is a
    ``mel_bins x audio_frames`` spectrogram; an IMU recording is ``imu_channels x imu_samples``.
    ``modalities`` says which trunks are built, so that a graph which needs only images does not hold the rest.
    """

    vision: TrunkSize = TrunkSize(1280, 32, 16)
    text: TrunkSize = TrunkSize(1024, 24, 16)
    audio: TrunkSize = TrunkSize(768, 12, 12)
    depth: TrunkSize = TrunkSize(384, 12, 8)
    thermal: TrunkSize = TrunkSize(768, 12, 12)
    imu: TrunkSize = TrunkSize(512, 6, 8)
    modalities: tuple[str, ...] = MODALITIES
    out_dim: int = 1024
    mlp_ratio: int = 4
    image_size: int = 224
    vision_patch: int = 14
    vision_frames: int = 2
    plane_patch: int = 16  # depth and thermal: one-channel pictures
    mel_bins: int = 128
    audio_frames: int = 204
    audio_patch: int = 16
    audio_stride: int = 10  # smaller than the patch: audio patches overlap
    text_vocabulary: int = 49408
    text_length: int = 77
    imu_channels: int = 6
    imu_samples: int = 2000
    imu_window: int = 8

    def __post_init__(self) -> None:
        unknown = [name for name in self.modalities if name not in MODALITIES]
        if unknown or not self.modalities or len(set(self.modalities)) != len(self.modalities):
            raise ValueError(
                f"ImageBind modalities {list(self.modalities)}: each must be one of {list(MODALITIES)}, named once "
                "(images and videos share 'vision'); name at least one of them"
            )
        for size, step, what in (
            (self.image_size, self.vision_patch, "image_size by vision_patch"),
            (self.image_size, self.plane_patch, "image_size by plane_patch"),
            (self.imu_samples, self.imu_window, "imu_samples by imu_window"),
        ):
            if size % step:
                raise ValueError(f"ImageBind config: {what} must divide without rest, got {size} / {step}")

    @classmethod
    def huge(cls, modalities: Sequence[str] = MODALITIES) -> ImageBindConfig:
        """The published ``imagebind_huge``: 1,200,781,057 parameters with all trunks."""
        return cls(modalities=tuple(modalities))

    @classmethod
    def tiny(cls, modalities: Sequence[str] = MODALITIES) -> ImageBindConfig:
        """A test model: the same classes, inputs and token counts, two narrow blocks per trunk, output width 32."""
        small = TrunkSize(24, 2, 4)
        return cls(
            vision=TrunkSize(48, 2, 4),
            text=small,
            audio=TrunkSize(36, 2, 4),
            depth=small,
            thermal=small,
            imu=small,
            modalities=tuple(modalities),
            out_dim=32,
        )

    def trunk(self, modality: str) -> TrunkSize:
        """The size of one trunk."""
        size: TrunkSize = getattr(self, modality)
        return size

    @property
    def audio_grid(self) -> tuple[int, int]:
        """Patches along (mel, time)."""
        rows = (self.mel_bins - self.audio_patch) // self.audio_stride + 1
        columns = (self.audio_frames - self.audio_patch) // self.audio_stride + 1
        return rows, columns

    def token_count(self, modality: str) -> int:
        """Length of the sequence inside the trunk; the class token, where there is one, is included."""
        match modality:
            case "vision":
                return 1 + (self.image_size // self.vision_patch) ** 2
            case "audio":
                rows, columns = self.audio_grid
                return 1 + rows * columns
            case "depth" | "thermal":
                return 1 + (self.image_size // self.plane_patch) ** 2
            case "imu":
                return 1 + self.imu_samples // self.imu_window
            case "text":
                return self.text_length
        raise ValueError(f"ImageBind has no modality {modality!r}; it has {list(MODALITIES)}")

    def feature_count(self, modality: str, kind: str) -> int:
        """Rows of ``encode(..., kind=kind)``: one for "global" (and always for text), else all patches."""
        return 1 if kind == "global" or modality == "text" else self.token_count(modality) - 1

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types only."""
        return {**asdict(self), "modalities": list(self.modalities)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ImageBindConfig:
        """The inverse of `to_dict`; a missing entry takes the size of "huge".

        Raises ValueError on an entry that is not a field, since a misspelt size must not pass as the default.
        """
        names = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - names)
        if unknown:
            raise ValueError(f"ImageBind config has no entries {unknown}; it has {sorted(names)}")
        given = dict(values)
        for modality in MODALITIES:
            if isinstance(given.get(modality), Mapping):
                given[modality] = TrunkSize(**given[modality])
        if "modalities" in given:
            given["modalities"] = tuple(given["modalities"])
        return cls(**given)
