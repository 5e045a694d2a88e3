"""Talks: what people ask of a model of this world and what it should answer, with media on both sides.

An answer names what it makes by the canonical caption and then gives it: "a red star on the left" <picture>. What it says
of a request is what the request said, no more.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from nodes.nextgpt.training.world import rule
from nodes.nextgpt.training.world.caption import EVERYTHING, AnyMedium, Medium, caption, modality_of
from nodes.nextgpt.training.world.clip import Clip, random_clip
from nodes.nextgpt.training.world.paint import guessed, is_unnamed, next_to, painted
from nodes.nextgpt.training.world.phrases import AND, CHANGE, CROSS, DESCRIBE, MAKE, MOVE, SMALL_TALK
from nodes.nextgpt.training.world.scene import (
    RELATION_NAMES,
    Scene,
    random_scene,
    random_thing,
    related_scene,
)
from nodes.nextgpt.training.world.sound import Sound, bent, random_sound
from nodes.nextgpt.training.world.terms import (
    COLOURS,
    LANGUAGES,
    MOTIONS,
    PLACES,
    SHAPES,
    SIZES,
    SYMMETRY,
    Language,
    word,
)
from nodes.nextgpt.training.world.wish import wish_of
from nodes.nextgpt.training.world.withheld import (
    is_clip_withheld,
    is_pair_trained,
    is_scene_withheld,
    is_sound_withheld,
    is_withheld,
)

Part = str | AnyMedium
Looked = TypeVar("Looked", Scene, Clip)


@dataclass(frozen=True)
class Said:
    """One turn. A medium of the assistant stands where its signals do; `mention` says how much of it was asked for."""

    role: Literal["user", "assistant"]
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Talk:
    """A conversation that ends in the answer that is learned or judged.

    kind     one of `KINDS`
    wishes   what the last answer has to have, in its order, as JSON (`wish.py`)
    captions for each medium that is made in an answer, in order: its caption in English, the condition's words
    exact    whether what it says of something without a name is true: which two it lies between
    """

    kind: str
    language: Language
    turns: tuple[Said, ...]
    wishes: tuple[Mapping[str, Any], ...]
    captions: tuple[str, ...] = ()
    exact: bool = False

    @property
    def made(self) -> list[AnyMedium]:
        """The media of the assistant's turns, in order."""
        return [
            part for turn in self.turns if turn.role == "assistant" for part in turn.parts if not isinstance(part, str)
        ]

    @property
    def given(self) -> list[AnyMedium]:
        """The media of the user's turns, in order."""
        return [part for turn in self.turns if turn.role == "user" for part in turn.parts if not isinstance(part, str)]

    @property
    def is_guess(self) -> bool:
        """Whether colours or notes in the answer are of something that has no name."""
        return not self.exact and any(map(is_unnamed, (*self.given, *self.made)))


KINDS: Mapping[str, float] = {
    "make image": 4.0,
    "make audio": 2.5,
    "make video": 2.5,
    "describe image": 3.0,
    "describe audio": 1.5,
    "describe video": 1.5,
    "ask": 1.5,
    "mixed": 2.0,
    "cross": 2.5,
    "move": 1.5,
    "edit": 2.0,
    "chat": 1.5,
    "together": 1.5,
}
"""Kinds of talks, and how often they come in training."""


class Talker:
    """Draws talks. `withheld`: only what is never trained on, else only what may be. `unnamed`: share of what is
    shown or played whose paint or pitch has no name (`paint.py`). `crowded`: share of the
    pictures shown that have three things whatever else comes; with `things` below 3 they have at most so many. `paired`:
    share of them, of those that are not crowded, whose two things stand to each other as one word says."""

    def __init__(
        self,
        draw: random.Random,
        withheld: bool = False,
        unnamed: float = 0.0,
        crowded: float = 0.0,
        things: int = 3,
        paired: float = 0.0,
    ) -> None:
        self.draw = draw
        self.withheld = withheld
        self.unnamed = unnamed
        self.crowded = crowded
        self.things = things
        self.paired = paired

    def talk(self, kind: str | None = None, language: Language | None = None) -> Talk:
        """A talk of this kind, or of any; raises ValueError for a kind that is not in `KINDS`."""
        chosen = kind or self.draw.choices(tuple(KINDS), tuple(KINDS.values()))[0]
        if chosen not in KINDS:
            raise ValueError(f"there is no kind of talk {chosen!r}; choose one of {', '.join(KINDS)}")
        spoken = language or self.draw.choice(LANGUAGES)
        name, _, modality = chosen.partition(" ")
        maker: Callable[..., Talk] = getattr(self, f"_{name}")
        made = maker(spoken, modality) if modality else maker(spoken)
        return replace(made, kind=chosen)

    # --- media ------------------------------------------------------------------------------------------------------

    def scene(self, count: int | None = None) -> Scene:
        while True:
            scene = random_scene(self.draw, count) if self.withheld else random_scene(self.draw, count, is_pair_trained)
            if is_scene_withheld(scene) == self.withheld:
                return scene

    def related(self) -> Scene:
        while True:
            scene = related_scene(self.draw, self.draw.choice(RELATION_NAMES))
            if is_scene_withheld(scene) == self.withheld:
                return scene

    def sound(self) -> Sound:
        while True:
            sound = random_sound(self.draw)
            if is_sound_withheld(sound) == self.withheld:
                return sound

    def clip(self) -> Clip:
        while True:
            clip = random_clip(self.draw)
            if is_clip_withheld(clip) == self.withheld:
                return clip

    def asked(self, modality: str) -> tuple[Medium, frozenset[str]]:
        """A medium, and what a request mentions of it beside the least."""
        if modality == "image":
            if self.draw.random() < 0.2:
                return self._related_request()
            scene = self.scene()
            return scene, self.mentions(scene)
        if modality == "audio":
            return self.sound(), frozenset({"direction", *self._some("octave", "timbre", "beats", "loudness")})
        return self.clip(), frozenset(self._some("background"))

    def asked_placeless(self) -> tuple[Scene, frozenset[str]]:
        """A picture of which a request does not say where: one thing, or two that stand to each other in some way."""
        if self.draw.random() < 0.5:
            return self._related_request()
        return self.scene(1), frozenset(self._some("size", "background"))

    def mentions(self, scene: Scene) -> frozenset[str]:
        """What a request says of a picture; where a thing is can be left out of one only: of several it tells them apart."""
        mostly = self._some("size", "background")
        return frozenset({*mostly, *(self._some("place") if len(scene.things) == 1 else ("place",))})

    def mentions_related(self) -> frozenset[str]:
        """The same of one whose two things are said to stand to each other."""
        return frozenset({"relation", *self._some("size", "background")})

    def _related_request(self) -> tuple[Scene, frozenset[str]]:
        return self.related(), self.mentions_related()

    def _some(self, *names: str) -> list[str]:
        everything = self.draw.random() < 0.35
        return [name for name in names if everything or self.draw.random() < 0.6]

    # --- kinds ------------------------------------------------------------------------------------------------------

    def _make(self, language: Language, modality: str) -> Talk:
        medium, mention = self.asked(modality)
        return self._answered(language, (self._request(medium, mention, language),), [(medium, mention)])

    def _mixed(self, language: Language) -> Talk:
        """Two or three media in one answer, in the order in which they were asked for."""
        order = self.draw.sample(("image", "audio", "video"), self.draw.choice((2, 2, 3)))
        wanted = [self.asked(modality) for modality in order]
        joint = self.draw.choice(AND[language])
        request = joint.join(self._request(medium, mention, language) for medium, mention in wanted)
        return self._answered(language, (request,), wanted)

    def _together(self, language: Language) -> Talk:
        """Any to any: something is shown or played and asked about, and one to three media are asked for beside it."""
        shown = self.draw.sample(tuple(DESCRIBE), self.draw.choice((1, 1, 2)))
        order = self.draw.sample(tuple(MAKE), self.draw.choice((1, 2, 3)))
        given = [self.shown(modality) for modality in shown]
        wanted = [self.asked(modality) for modality in order]
        joint = self.draw.choice(AND[language])
        requests = [self.draw.choice(DESCRIBE[modality][language]) for modality in shown]
        requests += [self._request(medium, mention, language) for medium, mention in wanted]
        answered = self._answered(language, (*given, joint.join(requests)), wanted)
        user, assistant = answered.turns
        stop = ". " if language == "en" else "。"
        told = "".join(f"{self._told(medium, language)}{stop}" for medium in given)
        first, *rest = assistant.parts
        return replace(answered, turns=(user, Said("assistant", (f"{told}{first}", *rest))))

    def shown(self, modality: str) -> Medium:
        """What somebody shows or plays."""
        if modality == "audio":
            return bent(self.draw) if self._is_unnamed() else self.sound()
        if modality == "video":
            return self._painted(self.clip())
        if self.things < 3:
            return self._painted(self.scene(self.draw.randint(1, self.things)))
        is_crowded = self.crowded and self.draw.random() < self.crowded
        if self.paired and not is_crowded and self.draw.random() < self.paired:
            return self._painted(self.related())
        return self._painted(self.scene(3 if is_crowded else None))

    def _is_unnamed(self) -> bool:
        return bool(self.unnamed) and self.draw.random() < self.unnamed

    def _painted(self, medium: Looked) -> Looked:
        return painted(medium, self.draw) if self._is_unnamed() else medium  # type: ignore[return-value]

    def _told(self, medium: Medium, language: Language, mention: Collection[str] = EVERYTHING) -> str:
        return caption(guessed(medium, self.draw), language, mention)

    def _describe(self, language: Language, modality: str) -> Talk:
        medium = self.shown(modality)
        question = self.draw.choice(DESCRIBE[modality][language])
        answer = self._told(medium, language)
        turns = (Said("user", (medium, question)), Said("assistant", (answer,)))
        return Talk("", language, turns, ({"modality": "text", "about": wish_of(medium, EVERYTHING)},))

    def _ask(self, language: Language) -> Talk:
        """One attribute of one thing in a picture; of a paint without a name, which two colours it lies between."""
        scene = self._painted(self.scene(1))
        thing = scene.things[0]
        shape = word(SHAPES, thing.shape, language)
        what = self.draw.choice(
            ("colour", "colour", "colour", "place", "size") if thing.paint else ("colour", "place", "size")
        )
        table: Mapping[str, Any] = {"colour": COLOURS, "place": PLACES, "size": SIZES}[what]
        value = word(table, getattr(thing, what), language)
        if what == "colour" and thing.paint:
            value = self._between(thing.colour, language)
        if language == "en":
            question = {
                "colour": f"What colour is the {shape}?",
                "place": f"Where is the {shape}?",
                "size": f"How large is the {shape}?",
            }[what]
            answer = f"The {shape} is {value}."
        else:
            question = {"colour": f"{shape}是什么颜色的？", "place": f"{shape}在哪里？", "size": f"{shape}有多大？"}[
                what
            ]
            answer = f"{shape}{'在' if what == 'place' else '是'}{value}。"
        turns = (Said("user", (scene, question)), Said("assistant", (answer,)))
        return Talk("", language, turns, ({"modality": "text", "says": {what: getattr(thing, what)}},), exact=True)

    def _between(self, colour: str, language: Language) -> str:
        lower, upper = (word(COLOURS, name, language) for name in (colour, next_to(colour)))
        return f"between {lower} and {upper}" if language == "en" else f"{lower}和{upper}"

    def _cross(self, language: Language) -> Talk:
        """What is seen becomes what is heard by the law of the world, and the other way round."""
        source, target = self.draw.choice(tuple(CROSS))
        given, made, mention = self._translated(source)
        question = self.draw.choice(CROSS[source, target][language])
        return self._answered(language, (given, question), [(made, mention)], loose=source == "audio")

    def _translated(self, source: str) -> tuple[Medium, Medium, frozenset[str]]:
        sounds = frozenset({"octave", "timbre", "direction"})
        given: Medium
        made: Medium
        while True:
            if source == "image":
                scene = self._painted(self.scene(1))
                given, made = scene, rule.sound_of(scene.things[0])
            elif source == "video":
                clip = self._painted(self.clip())
                given, made = clip, rule.sound_of_clip(clip)
            else:
                heard = bent(self.draw) if self._is_unnamed() else random_sound(self.draw)
                sound = replace(heard, direction="steady", beats="once", loudness="loud")
                given, made = sound, Scene((rule.thing_of(sound, self.draw),), "white")
            # The law can lead from what is trained to what is not.
            if self.withheld or not (is_withheld(given) or is_withheld(made)):
                return given, made, frozenset({"size"}) if source == "audio" else sounds

    def _move(self, language: Language) -> Talk:
        """A thing in a picture begins to move."""
        while True:
            scene = self._painted(self.scene(1))
            thing, motion = scene.things[0], self.draw.choice(tuple(MOTIONS))
            if motion != "turns" or SYMMETRY[thing.shape]:
                break
        clip = Clip(thing.shape, thing.colour, motion, scene.background, self.draw.uniform(-10, 10), thing.paint)
        question = self.draw.choice(MOVE[motion][language])
        return self._answered(language, (scene, question), [(clip, frozenset({"background"}))])

    def _edit(self, language: Language) -> Talk:
        """Two turns: something is drawn, then one thing about it is to change."""
        before = self.scene(1)
        thing = before.things[0]
        while True:
            what = self.draw.choice(tuple(CHANGE))
            other = getattr(random_thing(self.draw), what)
            changed = replace(before, things=(replace(thing, **{what: other}),))
            if other != getattr(thing, what) and (self.withheld or not is_scene_withheld(changed)):
                break
        mention = frozenset({"size", "place", *self._some("background")})
        first = self._answered(language, (self._request(before, mention, language),), [(before, mention)])
        tables: Mapping[str, Mapping[str, Any]] = {"colour": COLOURS, "shape": SHAPES, "size": SIZES, "place": PLACES}
        value = word(tables[what], other, language)
        pattern = self.draw.choice(CHANGE[what][language])
        second = self._answered(language, (pattern.format(value),), [(changed, mention)])
        return Talk("", language, first.turns + second.turns, second.wishes, first.captions + second.captions)

    def _chat(self, language: Language) -> Talk:
        """Words alone. A model that draws here is too eager."""
        if self.draw.random() < 0.4:
            colour = self.draw.choice(tuple(COLOURS))
            note, name = rule.NOTE_OF[colour], word(COLOURS, colour, language)
            pairs = (
                (f"Which note belongs to {name}?", f"{name.capitalize()} is the note {note}."),
                (f"Which colour is the note {note}?", f"The note {note} is {name}."),
            )
            if language == "zh":
                pairs = ((f"{name}是哪个音？", f"{name}是{note}音。"), (f"{note}音是什么颜色？", f"{note}音是{name}。"))
        else:
            pairs = SMALL_TALK[language]  # type: ignore[assignment]
        question, answer = self.draw.choice(pairs)
        turns = (Said("user", (question,)), Said("assistant", (answer,)))
        return Talk("", language, turns, ())

    # --- parts of talks ---------------------------------------------------------------------------------------------

    def _request(self, medium: Medium, mention: frozenset[str], language: Language) -> str:
        style, pattern = self.draw.randrange(12), self.draw.choice(MAKE[modality_of(medium)][language])
        if isinstance(medium, Clip) and ":" not in pattern:
            style |= 1  # "a star that turns" after "film"; a sentence of its own only after a colon
        return pattern.format(caption(medium, language, mention, style))

    def _answered(
        self,
        language: Language,
        asked: tuple[Part, ...],
        made: list[tuple[Medium, frozenset[str]]],
        loose: bool = False,
    ) -> Talk:
        """The answer to a request for media: each one's caption, then the medium. loose: the shape may be another one
        that the law allows as well."""
        parts: list[Part] = []
        for medium, mention in made:
            parts += [self._told(medium, language, mention), medium]
        wishes = [dict(wish_of(medium, mention)) for medium, mention in made]
        if loose:
            for wish, (medium, _) in zip(wishes, made, strict=True):
                if isinstance(medium, Scene):
                    thing = medium.things[0]
                    alike = rule.SHAPES_OF[rule.TIMBRE_OF[thing.shape]]
                    wish["things"] = [{**wish["things"][0], "shape": list(alike)}]
        captions = tuple(caption(medium, "en", mention) for medium, mention in made)
        turns = (Said("user", asked), Said("assistant", tuple(parts)))
        return Talk("", language, turns, tuple(wishes), captions)
