"""Judges: right about the truth, also when it is blurred, noisy or coarse as a decoder may leave it; never about a lie."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from nodes.nextgpt.training.judges import clip as clips
from nodes.nextgpt.training.judges import picture as pictures
from nodes.nextgpt.training.judges import sound as sounds
from nodes.nextgpt.training.judges.verdict import judge
from nodes.nextgpt.training.world.clip import film, random_clip
from nodes.nextgpt.training.world.picture import draw_scenes
from nodes.nextgpt.training.world.scene import Scene, Thing, random_scene
from nodes.nextgpt.training.world.sound import Sound, play, random_sound

torch.set_num_threads(1)


def degraded(frames: torch.Tensor, how: str) -> torch.Tensor:
    """ "N H W 3" as a decoder might give it."""
    planes = frames.movedim(-1, 1)
    if how == "noise":
        noise = torch.randn(planes.shape, generator=torch.Generator().manual_seed(1))
        planes = (planes + 0.06 * noise).clamp(0, 1)
    if how == "blur":
        taps = torch.exp(-0.5 * (torch.arange(-3, 4) / 1.2) ** 2)
        taps = (taps / taps.sum()).repeat(3, 1)
        wide = torch.nn.functional.pad(planes, (3, 3, 3, 3), mode="replicate")
        planes = torch.nn.functional.conv2d(wide, taps[:, None, :, None] * taps[:, None, None, :], groups=3)
    if how == "coarse":
        small = torch.nn.functional.interpolate(planes, size=40, mode="area")
        planes = torch.nn.functional.interpolate(small, size=64, mode="bilinear")
    return planes.movedim(1, -1)


@pytest.mark.parametrize("how", ["clean", "noise", "blur", "coarse"])
def test_pictures_are_seen_as_they_were_drawn(how):
    draw = random.Random(11)
    scenes = [random_scene(draw) for _ in range(24)]
    shown = degraded(draw_scenes(scenes), how)
    wrong = [
        (scene, facts)
        for scene, picture in zip(scenes, shown, strict=True)
        if not all((facts := pictures.agrees(pictures.look(picture), scene)).values())
    ]
    # One of 24 may be wrong where the picture was spoiled; measured over 400: none (docs/training.md).
    assert len(wrong) <= (0 if how == "clean" else 1), wrong


@pytest.mark.parametrize("how", ["clean", "blur"])
def test_clips_are_seen_as_they_were_filmed(how):
    draw = random.Random(12)
    made = [
        random_clip(draw, motion=motion)
        for motion in ("right", "left", "up", "down", "grows", "shrinks", "turns", "still")
    ]
    shown = film(made)
    for number, clip in enumerate(made):
        assert all(clips.agrees(clips.watch(degraded(shown[number], how)), clip).values()), clip


@pytest.mark.parametrize("noise", [0.0, 0.04])
def test_sounds_are_heard_as_they_were_played(noise):
    draw = random.Random(13)
    made = [random_sound(draw) for _ in range(40)]
    waves = play(made)
    waves = waves + noise * waves.abs().amax(1, keepdim=True) * torch.randn(
        waves.shape, generator=torch.Generator().manual_seed(2)
    )
    for sound, wave in zip(made, waves, strict=True):
        facts = sounds.agrees(sounds.listen(wave), sound)
        assert all(facts.values()), (sound, facts)


def test_a_picture_with_one_thing_changed_is_not_accepted():
    scene = Scene((Thing("star", "red", "large", "top left"), Thing("cross", "blue", "small", "right")), "grey")
    wish = {
        "modality": "image",
        "things": [{"shape": t.shape, "colour": t.colour, "size": t.size, "place": t.place} for t in scene.things],
        "background": "grey",
    }
    assert all(judge(wish, draw_scenes([scene])[0]).values())
    for name, value in (("shape", "heart"), ("colour", "green"), ("size", "small"), ("place", "bottom left")):
        changed = replace(scene, things=(replace(scene.things[0], **{name: value}), scene.things[1]))
        facts = judge(wish, draw_scenes([changed])[0])
        assert not facts[name]
        assert all(facts[other] for other in facts if other != name), (name, facts)
    assert not judge(wish, draw_scenes([replace(scene, background="white")])[0])["background"]
    assert not judge(wish, draw_scenes([replace(scene, things=scene.things[:1])])[0])["count"]


def test_relations_are_of_the_things_that_are_named():
    first, second = Thing("star", "red", "small", "left"), Thing("ring", "blue", "small", "right")
    wish = {
        "modality": "image",
        "things": [{"shape": "ring", "colour": "blue"}, {"shape": "star", "colour": "red"}],
        "relation": "right of",
    }
    assert judge(wish, draw_scenes([Scene((first, second), "black")])[0])["place"]
    turned = Scene((replace(second, place="left"), replace(first, place="right")), "black")
    assert not judge(wish, draw_scenes([turned])[0])["place"]


def test_another_note_or_direction_is_not_accepted():
    sound = Sound("E", "low", "organ", "once", "steady", "loud")
    wish = {"modality": "audio", "note": "E", "direction": "steady", "beats": "once"}
    assert all(judge(wish, play([sound])[0]).values())
    assert not judge(wish, play([replace(sound, note="F")])[0])["note"]
    assert not judge(wish, play([replace(sound, direction="rising")])[0])["direction"]
    assert not judge(wish, play([replace(sound, beats="twice")])[0])["beats"]


def test_nothing_is_nothing():
    wish = {"modality": "image", "things": [{"shape": "star", "colour": "red"}]}
    assert not any(judge(wish, None).values())
    assert not any(judge(wish, torch.full((64, 64, 3), 0.5)).values())
    noise = torch.rand(64, 64, 3, generator=torch.Generator().manual_seed(0))
    assert not all(judge(wish, noise).values())
    assert not any(judge({"modality": "audio", "note": "C"}, torch.zeros(16_000)).values())
    assert not any(judge({"modality": "video", "motion": "up"}, torch.zeros(8, 64, 64, 3)).values())
    with pytest.raises(ValueError, match="square"):
        pictures.look(torch.zeros(64, 32, 3))
    with pytest.raises(ValueError, match="samples a second"):
        sounds.listen(torch.ones(9000), 8000)
    with pytest.raises(ValueError, match="not 'smell'"):
        judge({"modality": "smell"}, None)


def test_a_wish_may_leave_a_choice():
    wish = {"modality": "image", "things": [{"shape": ["circle", "ring"], "colour": "green"}]}
    for shape, right in (("circle", True), ("ring", True), ("square", False)):
        scene = Scene((Thing(shape, "green", "large", "centre"),), "white")
        assert judge(wish, draw_scenes([scene])[0])["shape"] is right
