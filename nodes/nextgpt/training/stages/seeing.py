"""Seeing: every patch of a picture or clip says which thing it shows, and all of a sound's together say what is played, by
linear readings that are thrown away at the end.

Contrast alone is a slow teacher of a small encoder: after 700 steps of it colours and sizes could be read from the mean patch,
of shapes and places hardly more than chance. ImageBind begins with an encoder that can see (OpenCLIP's); this is how the
mini encoder comes to. It goes on being bound meanwhile, so that the space stays one.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy

from nodes.nextgpt.model.preprocess_video import frame_indices
from nodes.nextgpt.training.lines import IGNORED
from nodes.nextgpt.training.media import films, pictures
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import Plan
from nodes.nextgpt.training.senses import Senses
from nodes.nextgpt.training.stage import Losses, Stage
from nodes.nextgpt.training.stages.binding import Binding
from nodes.nextgpt.training.world.caption import Medium
from nodes.nextgpt.training.world.clip import FPS, FRAMES, Clip
from nodes.nextgpt.training.world.paint import is_unnamed
from nodes.nextgpt.training.world.scene import SIDE, Scene
from nodes.nextgpt.training.world.sound import Sound
from nodes.nextgpt.training.world.talk import Talker
from nodes.nextgpt.training.world.terms import (
    BEATS,
    COLOURS,
    DIRECTIONS,
    LOUDNESS,
    MOTIONS,
    NOTES,
    OCTAVES,
    PLACES,
    SHAPES,
    SIZES,
    TIMBRES,
)
from nodes.nextgpt.training.world.withheld import is_pair_withheld, is_sound_withheld

TABLES: Mapping[str, tuple[str, ...]] = {
    "shape": tuple(SHAPES),
    "colour": tuple(COLOURS),
    "size": tuple(SIZES),
    "place": tuple(PLACES),
    "motion": tuple(MOTIONS),
    "note": tuple(NOTES),
    "octave": tuple(OCTAVES),
    "timbre": tuple(TIMBRES),
    "beats": tuple(BEATS),
    "direction": tuple(DIRECTIONS),
    "loudness": tuple(LOUDNESS),
}
READ: Mapping[str, tuple[str, ...]] = {
    "image": ("shape", "colour", "size", "place"),
    "video": ("shape", "colour", "motion"),
    "audio": ("note", "octave", "timbre", "beats", "direction", "loudness"),
}
SHARES = {"image": 0.4, "video": 0.25, "audio": 0.35}
"""Of a batch; with a modality in the plan it is all of that one."""
NAMES = {"colour", "note"}
"""What a medium between two of them has none of."""
COVERED = 0.05
"""Mean chroma of a patch from which on it shows a thing."""
NOTHING = 0.3
"""Weight of patches that show none; nine of ten do not."""
BOUND = 0.1
"""Weight of the contrast, over a quarter of the batch."""
SHARP = 10.0
"""Rows of the encoder have length 1; readings want more."""


class Seeing(Stage):
    def __init__(self, plan: Plan, parts: Parts) -> None:
        self.plan = plan
        self.binding = Binding(plan, parts)
        self.senses = Senses(parts)
        self.encoder: Any = self.binding.encoder
        width = int(self.encoder.config.out_dim)
        # Nothing is the last class of each.
        self.readings = nn.ModuleDict({name: nn.Linear(width, len(table) + 1) for name, table in TABLES.items()})
        self.readings.to(parts.device)
        self.shares = SHARES if plan.modality == "all" else {plan.modality: 1.0}
        if plan.modality != "all":
            # So that what reads the other trunks stays true to them.
            trunk = trunk_of(plan.modality)
            for name, parameter in self.encoder.named_parameters():
                parameter.requires_grad_(name.split(".")[1] == trunk)
        self.modules = {"encoder": self.encoder, "readings": self.readings}
        self.saved = ("encoder",)

    def loss(self, draw: random.Random, count: int) -> Losses:
        talker = Talker(draw, unnamed=self.plan.unnamed, crowded=self.plan.crowded)
        told: dict[str, Tensor] = {}
        for modality, share in self.shares.items():
            of = max(1, round(share * count))
            media: list[Any] = [talker.shown(modality) for _ in range(of)]
            rows = SHARP * self.encoder.encode(
                trunk_of(modality), self.senses.encoder_input(modality, media), kind="patch"
            )
            if modality == "audio":
                rows, owner = rows.mean(1, keepdim=True), torch.zeros(of, 1, dtype=torch.long, device=rows.device)
            else:
                owner = owners(media, self.covered(media, rows.shape[1]))
            for name in READ[modality]:
                loss, right = _read(
                    self.readings[name](rows), labels_of(media, name, owner), unseen(media, name, owner)
                )
                told[f"{modality}_{name}"] = loss
                told[f"right_{modality}_{name}"] = right
        seen = torch.stack([value for name, value in told.items() if not name.startswith("right_")]).sum()
        told["binding"] = self._bound(draw, max(2, count // 4))
        return seen + BOUND * told["binding"], told

    def _bound(self, draw: random.Random, count: int) -> Tensor:
        if self.plan.modality == "all":
            return self.binding.loss(draw, count)[0]
        return self.binding.pairs(draw, self.plan.modality, count)

    def covered(self, media: Sequence[Scene | Clip], patches: int) -> Tensor:
        """Which patches show something, "B N", row by row."""
        side = self.encoder.config.image_size
        if isinstance(media[0], Clip):
            shown = frame_indices(FRAMES, FPS, self.encoder.config.vision_frames, clips=1)[0]
            planes = films(media, (side, side), FRAMES, self.senses.device)[:, shown]
        else:
            planes = pictures(media, (side, side), self.senses.device)[:, None]
        chroma = (planes.amax(-1) - planes.amin(-1)).amax(1)
        cells = avg_pool2d(chroma[:, None], round(side / patches**0.5))
        return cells.flatten(1) > COVERED


def trunk_of(modality: str) -> str:
    """Of the encoder: pictures and films share one."""
    return "audio" if modality == "audio" else "vision"


def owners(media: Sequence[Scene | Clip], covered: Tensor) -> Tensor:
    """Which thing each patch shows, "B N": the nearest of a scene's, the only one of a clip; -1 for none."""
    if not isinstance(media[0], Scene):
        return torch.where(covered, 0, -1)
    grid = round(covered.shape[1] ** 0.5)
    most = max(len(medium.things) for medium in media if isinstance(medium, Scene))
    far = (math.inf, math.inf)
    centres = torch.tensor(
        [
            [thing.centre for thing in medium.things] + [far] * (most - len(medium.things))
            for medium in media
            if isinstance(medium, Scene)
        ]
    ).to(covered.device)
    axis = (torch.arange(grid, device=covered.device) + 0.5) * (SIDE / grid)
    across = (axis - centres[..., 0, None]).square()[:, :, None, :]
    down = (axis - centres[..., 1, None]).square()[:, :, :, None]
    return torch.where(covered, (across + down).flatten(2).argmin(1), -1)


def labels_of(media: Sequence[Medium], name: str, owner: Tensor) -> Tensor:
    """Classes "B N" of one attribute; the last one is nothing, and -100 is what has no name."""
    table = TABLES[name]
    places = {value: place for place, value in enumerate(table)}
    rows = [
        [
            IGNORED
            if name in NAMES and (thing.bend if isinstance(thing, Sound) else thing.paint)
            else places[getattr(thing, name)]
            for thing in things_of(medium)
        ]
        for medium in media
    ]
    most = max(map(len, rows))
    # The last column is for patches that show nothing, whose owner is -1.
    found = torch.tensor([row + [len(table)] * (most + 1 - len(row)) for row in rows]).to(owner.device)
    return found.gather(1, owner.remainder(most + 1))


def unseen(media: Sequence[Medium], name: str, owner: Tensor) -> Tensor:
    """Classes "B N C" that are not to be counted as wrong: what a thing or sound lacks beside the rest of it (`unseen.py`)."""
    none = (False,) * (len(TABLES[name]) + 1)
    if name not in ("shape", "colour", "note", "timbre"):
        return torch.zeros(*owner.shape, len(none), dtype=torch.bool, device=owner.device)
    rows = [
        [none if is_unnamed(medium) else _lacking(name, *_kind(thing)) for thing in things_of(medium)]
        for medium in media
    ]
    most = max(map(len, rows))
    found = torch.tensor([row + [none] * (most + 1 - len(row)) for row in rows]).to(owner.device)
    return found.gather(1, owner.remainder(most + 1)[..., None].expand(-1, -1, len(none)))


def things_of(medium: Medium) -> Sequence[Any]:
    return medium.things if isinstance(medium, Scene) else (medium,)


def _kind(thing: Any) -> tuple[Any, ...]:
    """All that a law of what is withheld asks about."""
    return (replace(thing, loudness="loud"),) if isinstance(thing, Sound) else (thing.shape, thing.colour)


@lru_cache(maxsize=4096)
def _lacking(name: str, *kind: Any) -> tuple[bool, ...]:
    """Of each class of an attribute, and of nothing, whether training lacks it beside the rest of a thing."""
    table = TABLES[name]
    if isinstance(kind[0], Sound):
        changed: list[dict[str, Any]] = [{name: other} for other in table]
        return (*(is_sound_withheld(replace(kind[0], **one)) for one in changed), False)
    pair = dict(zip(("shape", "colour"), kind, strict=True))
    return (*(is_pair_withheld(**{**pair, name: other}) for other in table), False)


def _read(logits: Tensor, labels: Tensor, unseen: Tensor) -> tuple[Tensor, Tensor]:
    """Loss over patches that show a thing and, less, over those that show none; share of the former that are right.

    By weights and not by picking them out: how many there are a device would have to be asked, and waited for.
    """
    nothing = labels == logits.shape[-1] - 1
    there = ~nothing & (labels != IGNORED)
    wrong = cross_entropy(
        logits.float().masked_fill(unseen, -torch.inf).flatten(0, 1), labels.flatten(), reduction="none"
    ).view_as(labels)
    of, rest = there.sum().clamp(min=1), nothing.sum().clamp(min=1)
    loss = (wrong * there).sum() / of + NOTHING * (wrong * nothing).sum() / rest
    return loss, ((logits.argmax(-1) == labels) & there).sum() / of
