"""The table of modalities: everything that differs between them is a row here, so that a fifth one is a new row.

Nodes, families and presets read this table; none of them asks which modality it has before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nodes.nextgpt.model.signals import DEFAULT_COUNTS as _RUN


@dataclass(frozen=True)
class Modality:
    """One row.

    name       as on wires: `modality` of EMBEDDING, TOKENS and SIGNALS
    trunk      which ImageBind trunk reads it
    scaled     whether NExT-GPT multiplies its embedding by the trunk's logit scale

    For what the language model can ask for (`is_spoken`):

    signals    tokens of one run of signals
    condition  shape of the condition its decoder takes: (rows, width); the width is that of the legacy generation
    decoder    family of the decoder
    module     the file under `model/` with its `sample` and `decode`
    noun       how a person calls one of them
    """

    name: str
    trunk: str
    scaled: bool = False
    signals: int = 0
    condition: tuple[int, int] = (0, 0)
    decoder: str = ""
    module: str = ""
    noun: str = ""

    @property
    def is_spoken(self) -> bool:
        """Whether the language model can ask for it."""
        return self.signals > 0

    @property
    def projector(self) -> str:
        """Family of its output projector."""
        return f"nextgpt.output_projector.{self.name}"


TABLE: tuple[Modality, ...] = (
    Modality("image", "vision", False, _RUN["image"], (77, 768), "nextgpt.image_decoder", "image_decoder", "picture"),
    Modality("video", "vision", False, _RUN["video"], (77, 1024), "nextgpt.video_decoder", "video_decoder", "video"),
    Modality("audio", "audio", False, _RUN["audio"], (1, 512), "nextgpt.audio_decoder", "audio_decoder", "sound"),
    Modality("text", "text", True),
    Modality("depth", "depth", True),
    Modality("thermal", "thermal", True),
    Modality("imu", "imu", True),
)

MODALITIES: Mapping[str, Modality] = {row.name: row for row in TABLE}
SPOKEN: Mapping[str, Modality] = {row.name: row for row in TABLE if row.is_spoken}
TRUNKS: tuple[str, ...] = tuple(dict.fromkeys(row.trunk for row in TABLE))
