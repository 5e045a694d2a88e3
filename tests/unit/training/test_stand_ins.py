"""Words that stand in for those of the world: a language model that copies what it is told."""

import random

import torch

from nodes.nextgpt.model.tokenizer import Tokenizer
from nodes.nextgpt.training.lines import IGNORED, lines, turns_of
from nodes.nextgpt.training.loop import train
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import Plan
from nodes.nextgpt.training.stand_ins import StandIns
from nodes.nextgpt.training.world.talk import Talker
from nodes.nextgpt.training.world.terms import COLOURS, NOTES, SHAPES, TIMBRES
from nodes.nextgpt.words import words_of

torch.set_num_threads(1)
WORLD = {
    spoken for table in (COLOURS, SHAPES, NOTES, TIMBRES) for entry in table.values() for said in entry.values()
    for spoken in said
}  # fmt: skip


def batch_of(kinds, count=8, seed=0):
    talker = Talker(random.Random(seed))
    talks = [talker.talk(kind, language) for kind in kinds for language in ("en", "zh") for _ in range(count)]
    words = words_of({"tokenizer": "mini"}, None)
    return lines([turns_of(talk.turns, None) for talk in talks], words), words


def test_what_is_repeated_is_replaced_for_both_and_by_no_word_of_the_world():
    batch, words = batch_of(("make image", "make audio", "make video"))
    found = StandIns(words.tokenizer).replaced(batch, random.Random(1), 1.0)
    changed = found.ids != batch.ids
    assert changed.any(1).float().mean() > 0.9
    assert torch.equal(found.labels != IGNORED, batch.labels != IGNORED)
    spoken = found.labels != IGNORED
    assert torch.equal(found.labels[spoken], found.ids[spoken])
    for row in range(len(batch.ids)):
        pairs = set(zip(batch.ids[row][changed[row]].tolist(), found.ids[row][changed[row]].tolist(), strict=True))
        assert len(pairs) == len({old for old, _ in pairs}), "one stand-in for each word of a talk"
        for old, new in pairs:
            old_text, new_text = words.tokenizer.decode([old]), words.tokenizer.decode([new])
            assert old_text.strip() in WORLD
            assert new_text.strip() not in WORLD
            assert old_text.startswith(" ") == new_text.startswith(" ")
            assert {True, False} == set((batch.labels[row][batch.ids[row] == old] != IGNORED).tolist())


def test_no_medium_is_like_a_talk_with_stand_ins():
    batch, words = batch_of(("make image",))
    found = StandIns(words.tokenizer).replaced(batch, random.Random(1), 0.5)
    strange = {row for row in range(len(batch.ids)) if not torch.equal(batch.ids[row], found.ids[row])}
    assert 0 < len(strange) < len(batch.ids)
    assert {run.row for run in found.runs} == {run.row for run in batch.runs} - strange


def test_slips_are_wrong_colours_in_what_is_heard_and_not_in_what_is_to_be_said():
    batch, words = batch_of(("make image", "make video"))
    found = StandIns(words.tokenizer).slipped(batch, random.Random(1), 1.0)
    assert torch.equal(found.labels, batch.labels)
    slips = found.ids != batch.ids
    assert slips.any(1).float().mean() > 0.6
    assert bool((batch.labels[slips] != IGNORED).all()), "only what the assistant says"
    colours = {spoken for entry in COLOURS.values() for said in entry.values() for spoken in said}
    for old, new in zip(batch.ids[slips].tolist(), found.ids[slips].tolist(), strict=True):
        assert {words.tokenizer.decode([token]).strip().lower() for token in (old, new)} <= colours
    assert found.runs == batch.runs


def test_without_a_share_nothing_changes():
    batch, words = batch_of(("make video",))
    found = StandIns(words.tokenizer).replaced(batch, random.Random(1), 0.0)
    assert torch.equal(found.ids, batch.ids)
    assert found.runs == batch.runs


def test_every_vocabulary_that_ships_has_stand_ins():
    for tokenizer in (Tokenizer.mini(), Tokenizer.tiny()):
        others = StandIns(tokenizer).others
        assert all(not set(found) & others.keys() for found in others.values())


def test_language_and_instruction_are_trained_with_both(tmp_path):
    for stage in ("wording", "instruction"):
        parts = Parts("tiny", tmp_path, tmp_path)
        losses = []
        for share in (0.0, 1.0):
            plan = Plan(preset="tiny", stage=stage, steps=1, batch=4, rank=2, stand_ins=share, slips=share)
            losses += train(plan, parts, f"{stage} {share}").losses
        assert all(0 < loss < 1e3 for loss in losses)
