"""The attention calls of the production models, one denoising step each with guidance (batch 2), traced with diffusers.

Stable Diffusion 1.5 at 512², Stable Diffusion 2 at 768², Zeroscope 576x320 with 24 frames, AudioLDM s, m and l with 10 s.
"""

from __future__ import annotations

from typing import NamedTuple


class AttentionCall(NamedTuple):
    """`calls` times per step: B x H heads of Lq queries and Lk keys of D. The keys have B / repeat rows."""

    model: str
    batch: int
    heads: int
    lq: int
    lk: int
    head_dim: int
    calls: int
    repeat: int = 1

    @property
    def flops(self) -> float:
        """Of the two matrix products; padding does not count."""
        return 4.0 * self.batch * self.heads * self.lq * self.lk * self.head_dim

    @property
    def exponentials(self) -> float:
        return 1.0 * self.batch * self.heads * self.lq * self.lk

    def bytes(self, element_bytes: int = 2) -> float:
        """q and the result once, k and v once."""
        width = self.heads * self.head_dim
        return float(element_bytes * width * (2 * self.batch * self.lq + 2 * self.batch // self.repeat * self.lk))


FRAMES = 24
ATTENTION = (
    AttentionCall("sd15", 2, 8, 4096, 4096, 40, 5),
    AttentionCall("sd15", 2, 8, 1024, 1024, 80, 5),
    AttentionCall("sd15", 2, 8, 256, 256, 160, 5),
    AttentionCall("sd15", 2, 8, 64, 64, 160, 1),
    AttentionCall("sd15", 2, 8, 4096, 77, 40, 5),
    AttentionCall("sd15", 2, 8, 1024, 77, 80, 5),
    AttentionCall("sd15", 2, 8, 256, 77, 160, 5),
    AttentionCall("sd15", 2, 8, 64, 77, 160, 1),
    AttentionCall("sd2", 2, 5, 9216, 9216, 64, 5),
    AttentionCall("sd2", 2, 10, 2304, 2304, 64, 5),
    AttentionCall("sd2", 2, 20, 576, 576, 64, 5),
    AttentionCall("sd2", 2, 20, 144, 144, 64, 1),
    AttentionCall("sd2", 2, 5, 9216, 77, 64, 5),
    AttentionCall("sd2", 2, 10, 2304, 77, 64, 5),
    AttentionCall("sd2", 2, 20, 576, 77, 64, 5),
    AttentionCall("zeroscope", 48, 5, 2880, 2880, 64, 5),
    AttentionCall("zeroscope", 48, 10, 720, 720, 64, 5),
    AttentionCall("zeroscope", 48, 20, 180, 180, 64, 5),
    AttentionCall("zeroscope", 48, 20, 45, 45, 64, 1),
    AttentionCall("zeroscope", 48, 5, 2880, 77, 64, 5, repeat=FRAMES),
    AttentionCall("zeroscope", 48, 10, 720, 77, 64, 5, repeat=FRAMES),
    AttentionCall("zeroscope", 48, 20, 180, 77, 64, 5, repeat=FRAMES),
    AttentionCall("zeroscope", 48, 20, 45, 77, 64, 1, repeat=FRAMES),
    AttentionCall("zeroscope", 5760, 5, FRAMES, FRAMES, 64, 10),
    AttentionCall("zeroscope", 1440, 10, FRAMES, FRAMES, 64, 10),
    AttentionCall("zeroscope", 5760, 8, FRAMES, FRAMES, 64, 2),
    AttentionCall("zeroscope", 360, 20, FRAMES, FRAMES, 64, 10),
    AttentionCall("zeroscope", 90, 20, FRAMES, FRAMES, 64, 2),
    AttentionCall("audioldm_s", 2, 8, 1000, 1000, 32, 10),
    AttentionCall("audioldm_s", 2, 8, 252, 252, 48, 10),
    AttentionCall("audioldm_s", 2, 8, 64, 64, 80, 12),
    AttentionCall("audioldm_m", 2, 8, 1000, 1000, 48, 10),
    AttentionCall("audioldm_m", 2, 8, 252, 252, 72, 10),
    AttentionCall("audioldm_m", 2, 8, 64, 64, 120, 12),
    AttentionCall("audioldm_l", 2, 8, 1000, 1000, 64, 10),
    AttentionCall("audioldm_l", 2, 8, 252, 252, 96, 10),
    AttentionCall("audioldm_l", 2, 8, 64, 64, 160, 12),
)
# Enough to see every kernel and every bar of issue and documents once.
QUICK = (
    AttentionCall("sd15", 2, 8, 4096, 4096, 40, 5),
    AttentionCall("sd15", 2, 8, 1024, 1024, 80, 5),
    AttentionCall("sd15", 2, 8, 256, 256, 160, 5),
    AttentionCall("sd15", 2, 8, 4096, 77, 40, 5),
    AttentionCall("zeroscope", 48, 5, 2880, 2880, 64, 5),
    AttentionCall("zeroscope", 48, 5, 2880, 77, 64, 5, repeat=FRAMES),
    AttentionCall("zeroscope", 5760, 5, FRAMES, FRAMES, 64, 10),
)


class NormCall(NamedTuple):
    """Group normalisation of "N C H W" with 32 groups, followed by SiLU."""

    model: str
    batch: int
    channels: int
    height: int
    width: int
    calls: int


GROUP_NORMS = (
    NormCall("sd15", 2, 320, 64, 64, 13),
    NormCall("sd15", 2, 640, 32, 32, 11),
    NormCall("sd15", 2, 1280, 16, 16, 11),
    NormCall("zeroscope", 48, 320, 40, 72, 13),
    NormCall("zeroscope", 48, 640, 40, 72, 2),
    NormCall("zeroscope", 48, 640, 20, 36, 11),
    NormCall("audioldm_l", 2, 256, 250, 16, 8),
    NormCall("zeroscope", 2, 320, FRAMES, 40 * 72, 26),  # over whole films: the frames by the places of a frame
)
QUICK_GROUP_NORMS = (GROUP_NORMS[3], GROUP_NORMS[7])


class GegluCall(NamedTuple):
    """GEGLU of "rows 2·width"."""

    model: str
    rows: int
    width: int
    calls: int


GEGLUS = (
    GegluCall("sd15", 8192, 1280, 5),
    GegluCall("sd15", 2048, 2560, 5),
    GegluCall("zeroscope", 138_240, 1280, 10),
    GegluCall("zeroscope", 34_560, 2560, 10),
    GegluCall("audioldm_l", 2000, 2048, 5),
)
QUICK_GEGLUS = (GEGLUS[2],)
