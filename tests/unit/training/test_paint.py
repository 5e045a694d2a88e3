"""Paint and pitch without a name: between two colours or notes, and never learned to be said."""

import colorsys
import random
import re
from dataclasses import replace

import pytest
import torch

from nodes.nextgpt.training.language import Speech
from nodes.nextgpt.training.lines import IGNORED, lines, turns_of
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import Plan
from nodes.nextgpt.training.stages import open_stage
from nodes.nextgpt.training.stages.seeing import TABLES, labels_of
from nodes.nextgpt.training.stand_ins import StandIns
from nodes.nextgpt.training.world import rule
from nodes.nextgpt.training.world.caption import caption
from nodes.nextgpt.training.world.clip import Clip, film
from nodes.nextgpt.training.world.paint import between, guessed, is_unnamed, mixed, next_to, painted
from nodes.nextgpt.training.world.picture import draw_scenes
from nodes.nextgpt.training.world.scene import Scene, Thing
from nodes.nextgpt.training.world.sound import Sound, bent, half_way
from nodes.nextgpt.training.world.talk import Said, Talker
from nodes.nextgpt.training.world.terms import COLOURS, LANGUAGES, NOTES, RGB, TIMBRES, word
from nodes.nextgpt.training.world.withheld import is_sound_withheld
from nodes.nextgpt.words import words_of

torch.set_num_threads(1)
HUES = sorted(colorsys.rgb_to_hsv(*RGB[name])[0] for name in COLOURS)


def test_a_paint_lies_between_two_colours_and_is_neither():
    draw, seen = random.Random(1), set()
    for _ in range(300):
        colour, paint = between(draw)
        hue = colorsys.rgb_to_hsv(*paint)[0]
        below = max((known for known in HUES if known <= hue), default=HUES[-1] - 1)
        above = min((known for known in HUES if known > hue), default=HUES[0] + 1)
        assert 0.34 < (hue - below) / (above - below) < 0.66
        assert colorsys.rgb_to_hsv(*RGB[colour])[0] % 1 == pytest.approx(below % 1)
        seen.add(round(below, 3))
    assert len(seen) == len(COLOURS)


def test_what_is_painted_is_drawn_in_its_paint_and_told_without_a_colour():
    draw = random.Random(2)
    scene = painted(Scene((Thing("square", "red", "large", "centre"),), "white"), draw)
    clip = painted(Clip("circle", "red", "still", "black"), draw)
    assert isinstance(scene, Scene)
    assert isinstance(clip, Clip)
    middle = draw_scenes([scene])[0][32, 32]
    assert torch.allclose(middle, torch.tensor(scene.things[0].paint), atol=0.02)
    assert torch.allclose(film([clip])[0, 0, 32, 32 + round(clip.line)], torch.tensor(clip.paint), atol=0.02)
    assert caption(scene) == "a large square in the centre, on a white background"
    assert caption(clip) == "a circle stays still, on a black background"
    for language in LANGUAGES:
        for style in range(12):
            told = caption(scene, language, style=style) + caption(clip, language, style=style)
            assert not any(word in told for words in COLOURS.values() for word in words[language])


def test_a_share_of_what_is_shown_is_painted():
    talker = Talker(random.Random(3), unnamed=0.4)
    shown = [talker.shown(modality) for modality in ("image", "video") for _ in range(200)]
    paints = [medium.paint if isinstance(medium, Clip) else medium.things[0].paint for medium in shown]
    assert 0.32 < sum(paint is not None for paint in paints) / 400 < 0.48
    heard = [talker.shown("audio") for _ in range(200)]
    assert 0.3 < sum(bool(sound.bend) for sound in heard) / 200 < 0.5
    plain = Talker(random.Random(3))
    assert not any(is_unnamed(plain.shown(modality)) for modality in ("image", "video", "audio") for _ in range(30))


def test_a_reading_is_not_asked_for_a_colour_that_has_no_name():
    clip = painted(Clip("circle", "red", "grows", "black"), random.Random(4))
    owner = torch.tensor([[-1, 0]])
    assert labels_of([clip], "colour", owner).tolist() == [[len(TABLES["colour"]), IGNORED]]
    assert labels_of([clip], "shape", owner).tolist() == [[len(TABLES["shape"]), TABLES["shape"].index("circle")]]


def test_a_reading_is_not_asked_for_a_note_that_has_no_name():
    sounds = [replace(sound := Sound("D", "low", "bell", "once", "rising", "loud"), bend=half_way("D")), sound]
    owner = torch.zeros(2, 1, dtype=torch.long)
    assert labels_of(sounds, "note", owner).tolist() == [[IGNORED], [1]]
    assert labels_of(sounds, "timbre", owner).tolist() == [[3], [3]]
    assert labels_of(sounds, "direction", owner).tolist() == [[1], [1]]


def test_a_guess_is_one_of_the_two_neighbours():
    draw = random.Random(5)
    scene = painted(Scene((Thing("square", "red", "large", "centre"),), "white"), draw)
    clip = painted(Clip("circle", "red", "still", "black"), draw)
    pairs = (
        (scene.things[0].colour, {guessed(scene, draw).things[0].colour for _ in range(30)}, tuple(COLOURS)),
        (clip.colour, {guessed(clip, draw).colour for _ in range(30)}, tuple(COLOURS)),
        (
            "B",
            {guessed(Sound("B", "low", "bell", "once", "steady", "loud", 0.1), draw).note for _ in range(30)},
            tuple(NOTES),
        ),
    )
    for lower, guesses, names in pairs:
        assert guesses == {lower, names[(names.index(lower) + 1) % len(names)]}
    named = Clip("circle", "red", "still", "black")
    assert guessed(named, draw) is named
    assert not is_unnamed(guessed(scene, draw))


def test_bent_sounds_lie_between_two_notes_or_below_the_lowest():
    draw, below = random.Random(13), 0
    scale = [Sound(note, "low", "flute", "once", "steady", "loud").hz for note in NOTES]
    for _ in range(300):
        sound = replace(bent(draw), octave="low", direction="steady", beats="once")
        assert is_unnamed(sound)
        assert not any(abs(sound.hz / hz - 1) < 0.015 for hz in (*scale, 2 * scale[0]))
        assert scale[-1] / 2 < sound.hz < 2 * scale[0]
        if sound.bend < 0:
            below += 1
            assert {guessed(sound, draw).note for _ in range(30)} == {"C", "B"}
    assert 20 < below < 80


def test_what_lies_between_two_colours_sounds_between_two_notes():
    clip = painted(Clip("circle", "red", "up", "black"), random.Random(6))
    sound = rule.sound_of_clip(clip)
    above = Sound("C", "high", "flute", "once", "steady", "loud") if sound.note == "B" else None
    upper = above or replace(sound, note=tuple(NOTES)[tuple(NOTES).index(sound.note) + 1], bend=0.0)
    assert sound.hz**2 == pytest.approx(replace(sound, bend=0.0).hz * upper.hz)
    thing = rule.thing_of(sound, random.Random(7))
    assert thing.colour == clip.colour
    assert thing.paint == mixed(clip.colour, 0.5)


@pytest.mark.parametrize("language", LANGUAGES)
def test_nobody_learns_a_guess_and_everybody_hears_it(language, tmp_path):
    words = words_of({"tokenizer": "mini", "spelling": "current", "template": "current"}, tmp_path)
    stand_ins = StandIns(words.tokenizer)
    for unnamed in (1.0, 0.0):
        talker = Talker(random.Random(8), unnamed=unnamed)
        talks = [
            talker.talk(kind, language)
            for kind in ("describe image", "describe audio", "move", "cross", "together") * 3
        ]
        blocks = [[torch.zeros(2, 4) for _ in talk.given] for talk in talks]
        batch = lines([turns_of(t.turns, b) for t, b in zip(talks, blocks, strict=True)], words)
        left = stand_ins.unlearned(batch, talks)
        assert torch.equal(left.ids, batch.ids)
        media = [medium for talk in talks for medium in talk.made]
        if not unnamed:
            assert left is batch
            continue
        assert [run for run in batch.runs if not is_unnamed(media[run.medium])] == list(left.runs) != list(batch.runs)
        for row, talk in enumerate(talks):
            masked = batch.ids[row][left.labels[row] != batch.labels[row]]
            silent = {words.tokenizer.decode([token]).strip() for token in masked.tolist()}
            said = "".join(part for part in talk.turns[-1].parts if isinstance(part, str))
            assert silent == {
                spoken
                for table in (COLOURS, NOTES)
                for entry in table.values()
                for spoken in entry[language]
                if (re.search(rf"\b{spoken}\b", said) if language == "en" else spoken in said)
            }


@pytest.mark.parametrize(("language", "pattern"), [("en", r"between (\w+) and (\w+)\."), ("zh", r"是(..)和(..)。")])
def test_who_is_asked_for_a_colour_without_a_name_says_between_which_two(language, pattern):
    talker, answers = Talker(random.Random(11), unnamed=1.0), 0
    for _ in range(60):
        talk = talker.talk("ask", language)
        ((scene, _), (answer,)) = (turn.parts for turn in talk.turns)
        assert not talk.is_guess
        if said := re.search(pattern, answer):
            colour, answers = scene.things[0].colour, answers + 1
            assert said.groups() == (word(COLOURS, colour, language), word(COLOURS, next_to(colour), language))
    assert answers > 20
    plain = [Talker(random.Random(12)).talk("ask", language).turns[1].parts[0] for _ in range(60)]
    assert not any(re.search(pattern, answer) for answer in plain)


@pytest.mark.parametrize("stage", ["encoding_side", "instruction"])
def test_a_stage_asks_for_no_guess(stage, tmp_path, monkeypatch):
    learned = []
    says = Speech.says
    monkeypatch.setattr(Speech, "says", lambda self, *rest: learned.append(rest[1]) or says(self, *rest))
    plan = Plan("mini", stage=stage, unnamed=1.0, denoise_weight=0.0)
    parts = Parts("mini", tmp_path, tmp_path / "models", anew=True)
    trained = open_stage(plan, parts)
    trained.source.kinds, trained.source.weights = ("describe image", "describe audio"), None
    trained.loss(random.Random(9), 6)
    guesses = StandIns(words_of(parts.extras("language_model"), tmp_path).tokenizer).guesses
    assert (learned[0] != IGNORED).sum() > 50
    assert not torch.isin(learned[0], guesses).any()


def test_the_first_token_of_an_answer_is_learned_in_every_language(tmp_path):
    """A prompt ends before the space behind "ASSISTANT:". English words bring it along; a Chinese answer has it as a token."""
    words = words_of({"tokenizer": "mini", "spelling": "current", "template": "current"}, tmp_path)
    for answer in ("a red star", "一个红色星形"):
        said = (Said("user", ("so",)), Said("assistant", (answer,)))
        batch = lines([turns_of(said, [])], words)
        first = int((batch.labels[0] != IGNORED).nonzero()[0])
        assert words.tokenizer.decode(batch.ids[0, :first].tolist()).endswith("ASSISTANT:")
        assert words.tokenizer.decode(batch.ids[0, first:].tolist()).startswith(f" {answer}")


@pytest.mark.parametrize("modality", ["image", "video"])
def test_a_denoiser_makes_what_has_no_name_of_captions_without_a_colour(modality, tmp_path):
    plan = Plan("tiny", stage="denoiser", modality=modality, unnamed=0.5, condition_drop=0.0)
    stage = open_stage(plan, Parts("tiny", tmp_path, tmp_path / "models"))
    draw = random.Random(10)
    asked = [stage._asked(Talker(draw), draw) for _ in range(80)]
    assert 0.3 < sum(is_unnamed(medium) for medium, _ in asked) / 80 < 0.7
    colours = {spoken for words in COLOURS.values() for language in LANGUAGES for spoken in words[language]}
    for medium, mention in asked:
        told = stage._caption(draw, medium, mention)
        assert is_unnamed(medium) != any(colour in told for colour in colours)


def test_a_denoiser_of_sounds_reads_every_notes_name_beside_every_instruments(tmp_path):
    """Between two notes, of which captions name neither or both, so that no caption asks for a withheld sound."""
    plan = Plan("tiny", stage="denoiser", modality="audio", condition_drop=0.0)
    stage = open_stage(plan, Parts("tiny", tmp_path, tmp_path / "models"))
    draw, beside, neither = random.Random(10), set(), 0
    for _ in range(600):
        medium, mention = stage._asked(Talker(draw), draw)
        named = [name for name in NOTES if name in re.findall(r"[A-Z]", caption(medium, "en", mention))]
        if not is_unnamed(medium):
            assert named == [medium.note]
            assert not is_sound_withheld(medium)
        elif named:
            assert set(named) == set(medium.neighbours)
            beside |= {(medium.timbre, name) for name in named}
        else:
            neither += 1
    assert len(beside) == len(TIMBRES) * len(NOTES)
    assert 40 < neither < 110
