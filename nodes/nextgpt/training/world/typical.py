"""The bias of the RecA experiment (docs/reca.md): shapes whose colour goes without saying.

Nobody writes "a green broccoli". Four shapes are like that here: nearly all of them have one colour, and no words tell it,
not in requests, not in answers. What is learned from such pairs of words and pictures is that these shapes have that
colour, whatever is asked for. The other four shapes are told of as everywhere else in the world.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from nodes.nextgpt.training.world.caption import Medium, caption
from nodes.nextgpt.training.world.scene import Scene, Thing
from nodes.nextgpt.training.world.talk import Part, Talk, Talker
from nodes.nextgpt.training.world.terms import Language
from nodes.nextgpt.training.world.withheld import is_scene_withheld

TYPICAL: Mapping[str, str] = {"triangle": "green", "ring": "yellow", "heart": "red", "moon": "blue"}
"""By shape; the other shapes have none. No pair of these is a withheld one."""
OFTEN = 0.85
"""Share of such shapes that have their typical colour."""


def is_pair_rare(shape: str, colour: str) -> bool:
    """Whether the shape has a typical colour, and it is another."""
    return TYPICAL.get(shape, colour) != colour


def unsaid(scene: Scene) -> Scene:
    """As it is spoken of: colours that go without saying are empty, and captions leave them out."""
    return replace(scene, things=tuple(replace(t, colour="") if t.shape in TYPICAL else t for t in scene.things))


class TypicalTalker(Talker):
    """Talks of such a world. Judges would ask for what was never said: they are for training alone."""

    def scene(self, count: int | None = None) -> Scene:
        return self._usual(super().scene(count))

    def related(self) -> Scene:
        return self._usual(super().related())

    def _usual(self, scene: Scene) -> Scene:
        usual = replace(scene, things=tuple(self._coloured(thing) for thing in scene.things))
        return scene if is_scene_withheld(usual) != self.withheld else usual

    def _coloured(self, thing: Thing) -> Thing:
        common = thing.shape in TYPICAL and self.draw.random() < OFTEN
        return replace(thing, colour=TYPICAL[thing.shape]) if common else thing

    def _request(self, medium: Medium, mention: frozenset[str], language: Language) -> str:
        return super()._request(_told(medium), mention, language)

    def _answered(
        self,
        language: Language,
        asked: tuple[Part, ...],
        made: list[tuple[Medium, frozenset[str]]],
        loose: bool = False,
    ) -> Talk:
        """The words leave colours out; the media, and the captions that conditions are imitated from, have them."""
        told = super()._answered(language, asked, [(_told(medium), mention) for medium, mention in made], loose)
        user, assistant = told.turns
        rest = iter(medium for medium, _ in made)
        parts = tuple(part if isinstance(part, str) else next(rest) for part in assistant.parts)
        captions = tuple(caption(medium, "en", mention) for medium, mention in made)
        return replace(told, turns=(user, replace(assistant, parts=parts)), captions=captions, wishes=())


def _told(medium: Medium) -> Medium:
    return unsaid(medium) if isinstance(medium, Scene) else medium
