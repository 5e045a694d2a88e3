"""Binding: the trunks of the encoder learn one space, contrastively, as ImageBind's did (arXiv 2305.05665).

Pictures, clips and sounds are bound to their captions, and pictures to the sound that the world's law gives them. A
batch holds scenes that differ in one attribute, so that nothing of a caption can be left out. Two readings are
trained: the class token's, and the mean of the patches', because the projector of the mini preset reads patches.
"""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nodes.nextgpt.model.preprocess import pad_text_ids
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import Plan
from nodes.nextgpt.training.senses import Senses
from nodes.nextgpt.training.stage import Losses, Stage
from nodes.nextgpt.training.world import rule
from nodes.nextgpt.training.world.caption import AnyMedium, caption, modality_of
from nodes.nextgpt.training.world.clip import Clip
from nodes.nextgpt.training.world.scene import variations
from nodes.nextgpt.training.world.sound import Sound, random_sound
from nodes.nextgpt.training.world.talk import Talker
from nodes.nextgpt.training.world.terms import LANGUAGES, SYMMETRY
from nodes.nextgpt.training.world.withheld import is_pair_trained, is_sound_withheld
from nodes.nextgpt.words import tokenizer_of

TEMPERATURE = 0.07
RELATIVES = 4
"""Media of a batch that are variations of one another."""


class Binding(Stage):
    def __init__(self, plan: Plan, parts: Parts) -> None:
        self.senses = Senses(parts)
        self.encoder: Any = parts.get("encoder").requires_grad_(True).train()
        self.tokenizer = tokenizer_of(parts.extras("encoder"), parts.models_dir)
        self.modules = {"encoder": self.encoder}
        self.saved = ("encoder",)

    def loss(self, draw: random.Random, count: int) -> Losses:
        told: dict[str, Tensor] = {}
        for modality in ("image", "video", "audio"):
            told[modality] = self.pairs(draw, modality, max(2, count // 3))
        told["law"] = self._law(draw, max(2, count // 6))
        return torch.stack(list(told.values())).sum(), told

    def pairs(self, draw: random.Random, modality: str, count: int) -> Tensor:
        """Contrast of so many media of a modality with their captions."""
        media = relatives(draw, modality, count)
        texts = self._texts([caption(medium, draw.choice(LANGUAGES), style=draw.randrange(12)) for medium in media])
        readings = self._media(media)
        return torch.stack([contrast(reading, texts) for reading in readings]).mean()

    def _law(self, draw: random.Random, count: int) -> Tensor:
        """Scenes of one thing, and how they sound; no two of them sound alike."""
        talker, scenes, sounds = Talker(draw), [], []
        for _ in range(8 * count):
            scene = talker.scene(1)
            sound = rule.sound_of(scene.things[0])
            if sound not in sounds and not is_sound_withheld(sound):
                scenes.append(scene)
                sounds.append(sound)
            if len(scenes) == count:
                break
        seen, heard = self._media(scenes), self._media(sounds)
        return torch.stack([contrast(a, b) for a, b in zip(seen, heard, strict=True)]).mean()

    def _media(self, media: list[Any]) -> tuple[Tensor, Tensor]:
        """Unit vectors "B D": the class token's, and the mean patch's."""
        modality = modality_of(media[0])
        trunk = "audio" if modality == "audio" else "vision"
        rows = self.encoder.unit_rows(trunk, self.senses.encoder_input(modality, media))
        return rows[:, 0], F.normalize(rows[:, 1:].mean(1), dim=-1)

    def _texts(self, texts: list[str]) -> Tensor:
        config = self.encoder.config
        ids = [[self.tokenizer.bos_id, *self.tokenizer.encode(text)] for text in texts]
        padded = pad_text_ids(ids, config.text_vocabulary - 1, config.text_length).to(self.senses.device)
        rows: Tensor = self.encoder.encode("text", padded)
        return rows[:, 0].float()


def contrast(a: Tensor, b: Tensor) -> Tensor:
    """InfoNCE both ways over unit vectors "B D": each of `a` belongs to the one of `b` in its place."""
    # In full precision: relatives differ in the third digit, which bfloat16 does not have.
    with torch.autocast(a.device.type, enabled=False):
        scores = a.float() @ b.float().T / TEMPERATURE
        own = torch.arange(len(a), device=a.device)
        return (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2


def relatives(draw: random.Random, modality: str, count: int) -> list[AnyMedium]:
    """`count` media that differ pairwise in what a caption says, in families that differ in one attribute."""
    talker = Talker(draw)
    found: dict[str, AnyMedium] = {}
    while len(found) < count:
        if modality == "image":
            scene = talker.scene()
            family: list[AnyMedium] = [scene, *islice(variations(scene, draw, is_pair_trained), RELATIVES - 1)]
        elif modality == "audio":
            family = [talker.sound()]
            family += [_varied_sound(family[0], draw) for _ in range(RELATIVES - 1)]  # type: ignore[arg-type]
        else:
            family = [talker.clip()]
            family += [_varied_clip(family[0], draw) for _ in range(RELATIVES - 1)]  # type: ignore[arg-type]
        found.update({caption(medium): medium for medium in family})
    return list(found.values())[:count]


def _varied_sound(sound: Sound, draw: random.Random) -> Sound:
    while True:
        other = random_sound(draw)
        names = (
            ("note", "timbre", "loudness")
            if sound.direction != "steady"
            else ("note", "octave", "timbre", "beats", "loudness")
        )
        name = draw.choice(names)
        changed = replace(sound, **{name: getattr(other, name)})
        if changed != sound and not is_sound_withheld(changed):
            return changed


def _varied_clip(clip: Clip, draw: random.Random) -> Clip:
    while True:
        other = Talker(draw).clip()
        name = draw.choice(("shape", "colour", "motion", "background"))
        values: dict[str, Any] = {
            "shape": clip.shape,
            "colour": clip.colour,
            "motion": clip.motion,
            "background": clip.background,
        }
        values[name] = getattr(other, name)
        if values["motion"] == "turns" and not SYMMETRY[values["shape"]]:
            continue
        changed = Clip(**values, line=clip.line)
        if changed != clip and is_pair_trained(changed.shape, changed.colour):
            return changed
