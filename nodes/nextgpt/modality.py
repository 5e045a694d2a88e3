"""The table of modalities: everything that differs between them is a row here, so that a fifth one is a new row.

Nodes, families and presets read this table; none of them asks which modality it has before it. A package adds rows of
its own by entry points of the group `nodes.nextgpt.modalities` (docs/adding-a-modality.md).
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Annotated, Any

from graph_engine.errors import RegistryError
from graph_engine.graph.kinds import AUDIO, IMAGE, VIDEO, Kind
from nodes.nextgpt.model.signals import DEFAULT_COUNTS as _RUN

ENTRY_POINT_GROUP = "nodes.nextgpt.modalities"
"""Entry points `NAME = "module:ROW"`, where ROW is a dict with the fields of `Modality`."""

_MODEL = "nodes.nextgpt.model"


@dataclass(frozen=True)
class Modality:
    """One row.

    name       as on wires: `modality` of EMBEDDING, TOKENS and SIGNALS; also the name of its ports
    trunk      which ImageBind trunk reads it
    scaled     whether NExT-GPT multiplies its embedding by the trunk's logit scale

    For what the language model can ask for (`is_spoken`):

    signals    tokens of one run of signals
    condition  shape of the condition its decoder takes: (rows, width); the width is that of the legacy generation
    decoder    family of the decoder
    module     the file with its `sample`, its `decode` and the class NAMEDecoder
    noun       how a person calls one of them
    kind       what its decoder makes
    limit      name of the widget for the most items of one answer; `max_NAMEs` by default
    like       the modality in whose form it is prepared for its trunk and built in the tiny presets; itself by default
    """

    name: str
    trunk: str
    scaled: bool = False
    signals: int = 0
    condition: tuple[int, int] = (0, 0)
    decoder: str = ""
    module: str = ""
    noun: str = ""
    kind: Kind | None = None
    limit: str = ""
    like: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "limit", self.limit or f"max_{self.name}s")
        object.__setattr__(self, "like", self.like or self.name)
        lacking = [
            field for field in ("condition", "decoder", "module", "noun", "kind") if not _filled(getattr(self, field))
        ]
        if self.is_spoken and lacking:
            raise ValueError(f"the modality {self.name!r} has signal tokens but no {', no '.join(lacking)}")
        if not self.name.isidentifier():
            raise ValueError(f"the modality {self.name!r} needs a name in letters, digits and underscores")

    @property
    def is_spoken(self) -> bool:
        """Whether the language model can ask for it."""
        return self.signals > 0

    @property
    def projector(self) -> str:
        """Family of its output projector."""
        return f"nextgpt.output_projector.{self.name}"

    @property
    def media(self) -> Any:
        """What its decoder makes, as an annotation of a port."""
        return Annotated[Any, self.kind]

    @property
    def a_noun(self) -> str:
        return f"{'an' if self.noun[0] in 'aeiou' else 'a'} {self.noun}"

    def implementation(self) -> ModuleType:
        """The module with `sample` and `decode`. Importing it imports torch."""
        return import_module(self.module)


def _filled(value: Any) -> bool:
    return bool(all(value) if isinstance(value, tuple) else value)


def table(shipped: Iterable[Modality], more: Iterable[tuple[str, Modality]]) -> tuple[Modality, ...]:
    """The shipped rows, then those of packages (package, row) by name, so that no shipped signal token moves.

    Raises RegistryError for a name that is claimed twice.
    """
    rows = {row.name: row for row in shipped}
    for package, row in sorted(more, key=lambda entry: entry[1].name):
        if row.name in rows:
            raise RegistryError(
                f"the modality {row.name!r} of the package {package} is in the table already.",
                remedy="Rename it, or remove one of the packages.",
                code="claimed_twice",
            )
        rows[row.name] = row
    return tuple(rows.values())


def _installed() -> list[tuple[str, Modality]]:
    """The rows of installed packages. A row that cannot be read is an error: its signal tokens would be missing."""
    found = []
    for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        package = entry.dist.name if entry.dist is not None else entry.value
        try:
            found.append((package, Modality(**entry.load())))
        except Exception as error:
            raise RegistryError(
                f"the modality {entry.name!r} of the package {package} cannot be read: {error}.",
                remedy=f"Correct {entry.value}, or remove the package.",
                code="bad_modality",
            ) from error
    return found


SHIPPED: tuple[Modality, ...] = (
    Modality(
        "image",
        "vision",
        signals=_RUN["image"],
        condition=(77, 768),
        decoder="nextgpt.image_decoder",
        module=f"{_MODEL}.image_decoder",
        noun="picture",
        kind=IMAGE,
    ),
    Modality(
        "video",
        "vision",
        signals=_RUN["video"],
        condition=(77, 1024),
        decoder="nextgpt.video_decoder",
        module=f"{_MODEL}.video_decoder",
        noun="video",
        kind=VIDEO,
    ),
    Modality(
        "audio",
        "audio",
        signals=_RUN["audio"],
        condition=(1, 512),
        decoder="nextgpt.audio_decoder",
        module=f"{_MODEL}.audio_decoder",
        noun="sound",
        kind=AUDIO,
        limit="max_sounds",
    ),
    Modality("text", "text", scaled=True),
    Modality("depth", "depth", scaled=True),
    Modality("thermal", "thermal", scaled=True),
    Modality("imu", "imu", scaled=True),
)
TABLE: tuple[Modality, ...] = table(SHIPPED, _installed())
MODALITIES: Mapping[str, Modality] = {row.name: row for row in TABLE}
SPOKEN: Mapping[str, Modality] = {row.name: row for row in TABLE if row.is_spoken}
TRUNKS: tuple[str, ...] = tuple(dict.fromkeys(row.trunk for row in TABLE))


def noun_of(name: str) -> str:
    """How a person calls one of this modality; its own name where this table does not have it."""
    return SPOKEN[name].noun if name in SPOKEN else name


def stamped(version: str) -> str:
    """The version of a node that has a port per modality: another table is another version, because links into cached
    results count ports."""
    return "+".join([version, *(f"{row.name}{row.signals}" for row in TABLE[len(SHIPPED) :])])
