"""Evaluation: a model that answers with the truth reaches every bar, one that does not misses those it should."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from graph_engine.errors import RequestError
from nodes.nextgpt.training.curve import curve
from nodes.nextgpt.training.evaluation.distance import frechet
from nodes.nextgpt.training.evaluation.evaluate import evaluate, verdicts
from nodes.nextgpt.training.evaluation.figures import BARS, Outcome, bleu, figures, missed
from nodes.nextgpt.training.evaluation.page import write_page
from nodes.nextgpt.training.evaluation.prompts import COUNTS, Prompt, read_prompts, withheld
from nodes.nextgpt.training.evaluation.speaker import Answer, Made, Speaker
from nodes.nextgpt.training.evaluation.speakers import answers
from nodes.nextgpt.training.media import as_value, pictures
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.seeds import drawer
from nodes.nextgpt.training.world.caption import modality_of
from nodes.nextgpt.training.world.scene import Scene, Thing
from nodes.nextgpt.training.world.talk import KINDS, Talk, Talker
from nodes.nextgpt.training.world.wish import fault_of
from web.cli import main

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def truth(talk: Talk) -> Answer:
    """The talk's own answer, its media drawn by the world."""
    last, made, before = talk.turns[-1], [], ""
    for part in last.parts:
        if isinstance(part, str):
            before = part
            continue
        value = as_value(part)
        bare = {"image": lambda v: v[0], "video": lambda v: v["frames"], "audio": lambda v: v["waveform"][0, 0]}
        made.append(Made(modality_of(part), bare[modality_of(part)](value), before))
    return Answer(" ".join(part for part in last.parts if isinstance(part, str)), tuple(made), 1.0)


def outcome(talk: Talk, answer: Answer) -> Outcome:
    words = " ".join(part for part in talk.turns[-1].parts if isinstance(part, str))
    prompt = Prompt(talk.kind, talk.language, talk.turns[:-1], talk.wishes, words)
    given = tuple(made.modality for made in answer.made)
    return Outcome(prompt, answer.text, given, verdicts(prompt, answer), answer.seconds)


@pytest.fixture(scope="module")
def talks() -> Sequence[Talk]:
    return [
        Talker(drawer("test", kind, number), withheld=True).talk(kind, ("en", "zh")[number % 2])
        for kind in COUNTS
        for number in range(2)
    ]


def test_the_truth_reaches_every_bar(talks):
    found = figures([outcome(talk, truth(talk)) for talk in talks])
    assert missed(found) == []
    shares = {name: value for name, value in found.items() if name in BARS and BARS[name][0] == ">="}
    assert set(shares.values()) == {1.0}
    assert found["caption_exact"] == found["caption_bleu"] == 1.0


def test_silence_misses_what_asks_for_media_and_only_that(talks):
    found = figures([outcome(talk, Answer("", (), 20.0)) for talk in talks])
    assert {"router_recall", "text_to_image_colour", "mixed_order", "turn_seconds", "image_to_text"} <= set(
        missed(found)
    )
    assert found["router_recall"] == 0
    assert found["text_to_image_colour"] == 0


def test_a_medium_that_nobody_asked_for_costs_precision(talks):
    chat = next(talk for talk in talks if talk.kind == "chat")
    extra = Answer("here", (Made("image", torch.zeros(64, 64, 3), "here"),), 1.0)
    results = [outcome(talk, extra if talk is chat else truth(talk)) for talk in talks]
    found = figures(results)
    assert found["router_precision"] < 1 == found["router_recall"]
    assert "router_precision" in missed(found)


def test_the_order_of_a_mixed_answer_counts(talks):
    mixed = next(talk for talk in talks if talk.kind == "mixed")
    right = truth(mixed)
    turned = replace(right, made=right.made[::-1])
    assert figures([outcome(mixed, right)])["mixed_order"] == 1
    assert figures([outcome(mixed, turned)])["mixed_order"] == 0


def test_each_way_across_media_has_a_figure_of_its_own(talks):
    """Beside the one with a bar, which is of all together."""
    crossing = [talk for talk in talks if talk.kind in ("cross", "move")]
    ways = {f"{modality_of(talk.given[0])}_to_{talk.wishes[0]['modality']}" for talk in crossing}
    assert "image_to_video" in ways
    assert len(ways) >= 2
    right = figures([outcome(talk, truth(talk)) for talk in talks])
    assert {right[way] for way in ways} == {1.0}
    mixed = [outcome(talk, truth(talk) if talk.kind == "move" else Answer("", (), 1.0)) for talk in talks]
    found = figures(mixed)
    assert 0 < found["cross_modal"] < 1
    assert {way: found[way] for way in ways} == {way: float(way == "image_to_video") for way in ways}


def test_a_lacking_figure_is_a_missed_bar():
    assert missed({}) == list(BARS)
    assert missed({name: bar for name, (_, bar) in BARS.items()}) == []


def test_prompts_are_enough_the_same_every_time_and_end_with_the_user():
    prompts = withheld()
    assert len(prompts) == sum(COUNTS.values()) >= 300
    assert prompts == withheld()
    assert all(prompt.turns[-1].role == "user" for prompt in prompts)
    assert {prompt.language for prompt in prompts} == {"en", "zh"}


def test_bleu_and_distance():
    assert bleu([("a large red star on the left", "a large red star on the left")]) == pytest.approx(1)
    assert bleu([("a large red star on the right", "a large red star on the left")]) == pytest.approx(
        (6 / 7 * 5 / 6 * 4 / 5 * 3 / 4) ** 0.25
    )
    assert bleu([("左边有一个红色星形", "左边有一个红色星形")]) == pytest.approx(1)
    assert bleu([("nothing alike", "a red star")]) == 0
    points = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    assert frechet(points, points) == pytest.approx(0, abs=1e-6)
    assert frechet(points, points + 2) == pytest.approx(12, rel=1e-4)
    assert frechet(points, 3 * points) == pytest.approx(4 * 3 + 4 * float(points.mean(0).square().sum()), rel=0.15)
    with pytest.raises(ValueError, match="two of each"):
        frechet(points[:1], points)


def test_several_processes_answer_as_one_does(tmp_path):
    """In the same order, with the same media; the figures are those of the answers that are given."""
    prompts = [prompt for prompt in withheld(scale=0.01) if prompt.kind == "make image"]
    speaker = Speaker(Parts("mini", tmp_path, tmp_path))
    alone = evaluate(speaker, prompts)
    shared = list(answers(2, "mini", tmp_path, tmp_path, prompts))
    together = evaluate(speaker, prompts, given=shared)
    assert [answer.text for answer in alone.answers] == [answer.text for answer in together.answers]
    for one, other in zip(alone.answers, together.answers, strict=True):
        assert len(one.made) == len(other.made) == 1
        assert torch.allclose(one.made[0].value, other.made[0].value, atol=1e-3)
    assert together.outcomes == tuple(
        replace(o, seconds=a.seconds) for o, a in zip(alone.outcomes, shared, strict=True)
    )


@pytest.mark.parametrize(
    ("flags", "told"),
    [(("2", "--device", "cuda:0"), "--processes 2 is for the CPU"), (("0",), "--processes must be at least 1")],
)
def test_processes_that_cannot_be_are_refused(tmp_path, capsys, flags, told):
    assert main(["evaluate", "mini", "--data", str(tmp_path), "--processes", *flags]) != 0
    assert told in capsys.readouterr().err


def test_an_untrained_model_is_evaluated_and_reported(tmp_path):
    """The whole way: prompts, answers, verdicts, figures, page. An untrained model must not look like a good one."""
    parts = Parts("mini", tmp_path, tmp_path, anew=True)
    prompts = [prompt for prompt in withheld(scale=0.01) if prompt.kind in ("make image", "describe audio")][:3]
    speaker = Speaker(parts)
    shown = speaker.decode("audio", torch.randn(1, 1, 128), 0)
    assert shown.shape == (32_000,)
    found = evaluate(speaker, prompts)
    assert len(found.answers) == 3
    assert found.figures["all"] < 1
    assert missed(found.figures)
    # Pictures and films as well, without waiting for an untrained model to say signals.
    made = (
        Made("image", torch.rand(64, 64, 3), "x"),
        Made("video", torch.rand(8, 64, 64, 3), "y"),
        Made("audio", shown, "z"),
    )
    page = write_page(
        replace(found, answers=(replace(found.answers[0], made=made), *found.answers[1:])), tmp_path / "page", "T", "c"
    )
    text = page.read_text()
    assert "missed" in text
    assert (tmp_path / "page" / "make_image.png").stat().st_size > 1000
    assert "<script" not in text


def test_other_prompts_are_read_and_bad_ones_named(tmp_path):
    file = tmp_path / "p.json"
    wish = {"modality": "image", "things": [{"colour": "red", "shape": "star"}]}
    file.write_text(json.dumps([{"text": "Draw a red star.", "wishes": [wish]}, {"text": "Hello!", "wishes": []}]))
    draw, chat = read_prompts(file)
    assert (draw.kind, draw.wanted, chat.kind) == ("make image", ["image"], "chat")
    star = {"shape": "star"}
    for content, told in (
        ({}, "no list of prompts"),
        ([], "no list of prompts"),
        ([1], "prompt 1 has no text or no wishes"),
        ([{"text": "x"}], "prompt 1 has no text or no wishes"),
        ("nonsense", "cannot be read"),
        (asking({"modality": "smell"}), "prompt 2, wish 1: its modality 'smell' is none of image, audio, video, text"),
        (asking(["image"]), "prompt 2, wish 1: it is no object"),
        (asking({"modality": "image"}), "prompt 2, wish 1: its things are no list of one to three objects"),
        (asking({"modality": "image", "things": [star] * 4}), "its things are no list of one to three"),
        (
            asking({"modality": "image", "things": [star, {"color": "red"}]}),
            "'color' of thing 2 is none of shape, colour",
        ),
        (
            asking({"modality": "image", "things": [{"colour": "pink"}]}),
            "colour 'pink' of thing 1 is none of red, orange",
        ),
        (asking({"modality": "image", "things": [{"place": []}]}), "place of thing 1 is an empty list"),
        (
            asking({"modality": "image", "things": [{"size": ["small", 3]}]}),
            "size 3 of thing 1 is none of small, large",
        ),
        (
            asking({"modality": "image", "things": [star, star], "relation": "beside"}),
            "relation 'beside' is none of left of, right of, above, below",
        ),
        (asking({"modality": "image", "things": [star], "relation": "above"}), "a relation is one of two things"),
        (asking({"modality": "audio", "note": "H"}), "note 'H' is none of C, D, E"),
        (asking({"modality": "audio", "pitch": "A"}), "'pitch' is none of note, octave, timbre, beats, direction"),
        (asking({"modality": "video", "motion": "jumps"}), "motion 'jumps' is none of right, left"),
        (asking({"modality": "text"}), "has neither about nor says"),
        (asking({"modality": "text", "says": {"smell": "sweet"}}), "'smell' is none of shape, colour, size, place"),
        (
            asking({"modality": "text", "about": {"modality": "text"}}),
            "about: its modality 'text' is none of image, audio",
        ),
        ([{"text": "x", "wishes": [], "language": "fr"}], "prompt 1: its language 'fr' is none of en, zh"),
        ([{"text": "x", "wishes": [], "kind": "describe"}], "prompt 1: its kind 'describe' is none of make image"),
    ):
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        with pytest.raises(RequestError, match=re.escape(told)) as caught:
            read_prompts(file)
        assert caught.value.problem.code == "bad_prompts"


def asking(wish):
    """Two prompts, of which the second has this one wish."""
    return [{"text": "Hello!", "wishes": []}, {"text": "x", "wishes": [wish]}]


def test_prompts_are_in_the_language_that_they_are_written_in(tmp_path):
    entries = [{"text": "画一个红色星形。"}, {"text": "Draw."}, {"text": "红", "language": "en"}]
    (tmp_path / "p.json").write_text(json.dumps([{**entry, "wishes": []} for entry in entries]))
    assert [prompt.language for prompt in read_prompts(tmp_path / "p.json")] == ["zh", "en", "en"]


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_is_wished_for_in_whatever_kind_has_its_figures(tmp_path, kind):
    """Words beside media, too: nothing that is read breaks off once it was answered."""
    star = {"shape": "star", "colour": "red"}
    wishes = [
        {"modality": "text", "says": {"colour": ["red", "orange"]}},
        {"modality": "image", "things": [star, star], "relation": ["above", "below"], "background": "white"},
        {"modality": "audio", "note": "A", "direction": "rising"},
        {"modality": "video", **star, "motion": "turns"},
        {"modality": "text", "about": {"modality": "video", **star}},
    ]
    (tmp_path / "p.json").write_text(json.dumps([{"text": "x", "kind": kind, "wishes": wishes}]))
    (prompt,) = read_prompts(tmp_path / "p.json")
    picture = pictures(
        [Scene((Thing("star", "red", "small", "top"), Thing("star", "red", "small", "bottom")), "white")],
        (64, 64),
        "cpu",
    )
    answer = Answer("a red star", (Made("image", picture[0], "x"),), 1.0)
    found = verdicts(prompt, answer)
    assert found[0] == {"colour": True}
    assert all(found[1].values()), found[1]
    assert not any(found[2].values())
    told = figures([Outcome(prompt, "a red star", ("image",), found, 1.0)])
    assert all(isinstance(value, float) for value in told.values())
    assert not any("_to_text_" in name or name.startswith("text_to_text") for name in told)


def test_every_wish_of_the_world_is_one(talks):
    drawn = [Talker(drawer("wish", number), number % 2 == 0).talk() for number in range(300)]
    assert {talk.kind for talk in drawn} == set(KINDS)
    assert {fault_of(wish) for talk in (*talks, *drawn) for wish in talk.wishes} == {""}


def test_commands_train_stop_resume_and_refuse(tmp_path, capsys, monkeypatch):
    values = {"preset": "tiny", "folder": "x", "stage": "wording", "steps": 3, "batch": 2}
    nodes = {
        "words": {"type": "nextgpt.train", "values": values},
        "see": {
            "type": "nextgpt.train",
            "values": {**values, "stage": "encoding_side", "steps": 2},
            "links": {"after": "words.json"},
        },
    }
    recipe = tmp_path / "r.json"
    recipe.write_text(json.dumps({"format": "anyloom", "version": 1, "nodes": nodes}))
    common = ["train", str(recipe), "--data", str(tmp_path / "d"), "--device", "cpu"]
    assert main([*common, "--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["words", "see"]
    assert main([*common, "--steps", "2"]) == 2
    assert main(common) == 1
    assert "holds step 2" in capsys.readouterr().err
    assert main([*common, "--resume", "--json"]) == 0
    reports = json.loads(capsys.readouterr().out)
    assert [(report["stage"], report["status"], report["steps"]) for report in reports] == [
        ("words", "finished", 3),
        ("see", "finished", 2),
    ]
    assert (tmp_path / "d" / "models" / "training" / "r" / "weights" / "input_projector.safetensors").is_file()
    assert main(["train", "no-such-recipe", "--data", str(tmp_path / "d")]) == 1
    monkeypatch.setattr("nodes.nextgpt.locate.SHIPPED", tmp_path / "nothing")
    assert main(["evaluate", "mini", "--data", str(tmp_path / "d")]) == 1
    assert "lacks the weights" in capsys.readouterr().err


def test_a_curve_is_a_picture_of_losses():
    shown = curve({"a": [3.0, 2.0, 1.5, float("nan"), 1.0], "b": [0.5]}, 320, 200)
    assert shown.shape == (1, 200, 320, 3)
    assert 0.5 < float(shown.mean()) < 1
    assert not torch.equal(shown, curve({"a": [1.0, 2.0, 3.0]}, 320, 200))


def test_losses_go_to_tensorboard_where_it_is_installed(tmp_path):
    pytest.importorskip("tensorboard")
    from nodes.nextgpt.training.board import Board

    board = Board(tmp_path)
    for step in (1, 2):
        board.add({"stage": "words", "step": step, "steps": 2, "loss": 1.0 / step})
    board.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "words"))
    events.Reload()
    assert [event.value for event in events.Scalars("loss")] == [1.0, 0.5]


def test_gates_judge_each_part_alone(tmp_path):
    """An identity for an autoencoder is right in everything; an untrained denoiser is not."""
    from nodes.nextgpt.training.evaluation.gates import gates

    speaker = Speaker(Parts("mini", tmp_path, tmp_path, anew=True))
    vae = speaker.parts.get("image_decoder").vae
    for name in ("image", "video", "audio"):
        decoder = speaker.parts.get(f"{name}_decoder")
        decoder.config = replace(decoder.config, steps=1)

    class Same:
        def __init__(self, value):
            self.latent_dist, self.sample, self.value = self, value, value

        def mode(self):
            return self.value

    vae.encode = lambda target: Same(target)
    real = vae.decode
    vae.decode = lambda latent, **given: Same(latent) if latent.shape[1] == 3 else real(latent, **given)
    found, samples = gates(speaker, 2)
    assert found["rebuilt_image_all"] == 1
    assert found["drawn_image_all"] == found["rebuilt_video_all"] == 0
    assert len(samples) == 12
    assert {name.split("_")[1] for name in found} == {"image", "video", "audio"}
    one, shown = gates(speaker, 2, modalities=("image",))
    assert len(shown) == 4
    assert {name: found[name] for name in one} == one
    assert {name.split("_")[1] for name in one} == {"image"}
