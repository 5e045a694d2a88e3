"""The training loop: interrupted anywhere it goes on to the same losses; what is frozen stays; faults lose nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from graph_engine.errors import ModelError, StoreError
from nodes.nextgpt.training import loop, snapshot
from nodes.nextgpt.training.average import Average
from nodes.nextgpt.training.crew import Crew
from nodes.nextgpt.training.ledger import Rows, frozen_digest, ledger, parameters
from nodes.nextgpt.training.loop import train
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import Plan
from nodes.nextgpt.training.seeds import drawer, seed_of
from nodes.nextgpt.training.stages import open_stage
from nodes.nextgpt.training.stages.encoding_side import EncodingSide
from nodes.nextgpt.training.stages.wording import Wording

torch.set_num_threads(1)

PLAN = Plan(
    preset="tiny", stage="wording", steps=6, batch=4, accumulate=2, learning_rate=1e-3, ema=0.9, checkpoint_every=2
)


def parts(folder: Path) -> Parts:
    return Parts("tiny", folder, folder / "models")


def weights(folder: Path, part: str = "language_model") -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "weights" / f"{part}.safetensors")


def snapshots(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("step-*"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The stage trained in one go: its folder and report."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, train(PLAN, parts(folder), "words")


def test_a_loss_falls_and_the_report_says_what_was_done(whole):
    folder, report = whole
    assert report.status == "finished"
    assert report.steps == len(report.losses) == 6
    assert report.losses[-1] < report.losses[0]
    assert report.ledger.trained == report.ledger.total > 300_000
    assert [Path(file).name for file in report.files] == ["language_model.safetensors"]
    lines = [json.loads(line) for line in (folder / "words" / "trace.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert {"loss", "answers", "tokens", "accuracy", "gradient", "rate"} <= set(lines[0])
    assert snapshots(folder / "words") == ["step-00000004.safetensors", "step-00000006.safetensors"]


@pytest.mark.parametrize("stops", [[1, 3], [2, 2, 1]])
def test_resumed_training_gives_the_same_losses_and_weights(whole, tmp_path, stops):
    for steps in stops:
        part = train(PLAN, parts(tmp_path), "words", resume=True, steps=steps)
        assert part.status == "stopped"
    last = train(PLAN, parts(tmp_path), "words", resume=True)
    assert last.losses == whole[1].losses
    ours, theirs = weights(tmp_path), weights(whole[0])
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_what_is_begun_is_not_overwritten_and_another_recipe_is_refused(whole, tmp_path):
    train(PLAN, parts(tmp_path), "words", steps=1)
    with pytest.raises(StoreError, match="holds step 1") as caught:
        train(PLAN, parts(tmp_path), "words")
    assert caught.value.problem.code == "training_exists"
    other = replace(PLAN, learning_rate=2e-3)
    for folder in (tmp_path, whole[0]):
        with pytest.raises(StoreError, match="another recipe") as caught:
            train(other, parts(folder), "words", resume=True)
        assert caught.value.problem.code == "other_recipe"
    again = train(PLAN, parts(whole[0]), "words", resume=True)
    assert (again.status, again.losses) == ("before", whole[1].losses)


def test_a_loss_that_is_no_number_stops_before_the_weights_move(tmp_path, monkeypatch):
    real, calls = Wording.loss, []

    def broken(self, draw, count):
        calls.append(1)
        loss, told = real(self, draw, count)
        return (loss * float("nan"), told) if len(calls) == 7 else (loss, told)

    monkeypatch.setattr(Wording, "loss", broken)
    with pytest.raises(ModelError, match="loss of step 4 is no number") as caught:
        train(PLAN, parts(tmp_path), "words")
    assert caught.value.problem.code == "loss_not_finite"
    saved = snapshot.latest(tmp_path / "words", PLAN.digest)
    assert saved is not None
    assert saved.step == 2
    assert all(bool(torch.isfinite(tensor).all()) for tensor in saved.tensors.values())


def test_frozen_weights_that_change_are_found_out(tmp_path, monkeypatch):
    plan = Plan(preset="tiny", stage="encoding_side", steps=1, batch=2)
    real = EncodingSide.loss

    def careless(self, draw, count):
        with torch.no_grad():
            self.speech.model.causal.model.norm.weight[0] += 1e-3
        return real(self, draw, count)

    monkeypatch.setattr(EncodingSide, "loss", careless)
    with pytest.raises(ModelError, match="to stay frozen") as caught:
        train(plan, parts(tmp_path), "one")
    assert caught.value.problem.code == "frozen_changed"
    assert not (tmp_path / "weights").exists()


def test_only_the_rows_of_signals_move(tmp_path):
    plan = Plan(preset="tiny", stage="encoding_side", steps=2, batch=2, learning_rate=1e-2, weight_decay=0.1)
    opened = parts(tmp_path)
    before = {key: tensor.clone() for key, tensor in opened.get("language_model").state_dict().items()}
    report = train(plan, opened, "one")
    after = opened.get("language_model").state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    # The input embeddings of signals are read by nobody in stage 1, and the output layer pushes them all down.
    assert changed <= {"causal.model.embed_tokens.weight", "causal.lm_head.weight"}
    assert changed
    first = 1947
    assert all(torch.equal(before[key][:first], after[key][:first]) for key in changed)
    assert report.ledger.embeddings == 2 * 38 * 64
    assert report.ledger.trained == report.ledger.embeddings + report.ledger.by_part["input_projector"]


def test_the_loss_that_is_shown_is_what_it_is_made_of(tmp_path):
    events = []
    plan = replace(PLAN, steps=1, ema=0.0)
    train(plan, parts(tmp_path), "words", on_event=events.append)
    assert events[0]["loss"] == pytest.approx(0.8 * events[0]["answers"] + 0.2 * events[0]["tokens"], rel=1e-5)
    assert events[0]["stage"] == "words"


def test_passes_of_a_batch_add_up_to_its_gradient(tmp_path):
    """One step of two passes has the mean of the two passes' gradients, each by its own draws."""
    plan = replace(PLAN, clip=1e6)
    stage = open_stage(plan, parts(tmp_path))
    tensors = dict(parameters(stage.modules))
    with torch.enable_grad():
        told = loop._gradients(plan, stage, "words", 3, tensors, Crew())
        found = {key: tensor.grad.clone() for key, tensor in tensors.items() if tensor.grad is not None}
        each, losses = [], []
        for part in range(2):
            for tensor in tensors.values():
                tensor.grad = None
            facts = (plan.seed, "words", 3, part, 0)
            torch.manual_seed(seed_of(*facts))
            loss, _ = stage.loss(drawer(*facts), 2)
            loss.backward()
            losses.append(loss.item())
            each.append({key: tensor.grad for key, tensor in tensors.items() if tensor.grad is not None})
    assert losses[0] != losses[1]
    assert told["loss"] == pytest.approx(sum(losses) / 2)
    assert found.keys() == each[0].keys() == each[1].keys()
    for key, gradient in found.items():
        torch.testing.assert_close(gradient, (each[0][key] + each[1][key]) / 2, rtol=1e-4, atol=1e-6)


def test_what_is_saved_is_the_average(whole):
    folder = whole[0]
    last = snapshot.latest(folder / "words", PLAN.digest)
    saved = weights(folder)
    assert last is not None
    assert last.step == 6
    own = {
        key.removeprefix("average/language_model."): t for key, t in last.tensors.items() if key.startswith("average/")
    }
    assert own
    assert all(torch.equal(saved[key], tensor) for key, tensor in own.items())
    assert any(not torch.equal(saved[key], last.tensors[f"weights/language_model.{key}"]) for key in own)


def test_the_average_is_that_of_the_weights():
    tensors = {"a": torch.zeros(2)}
    average = Average(tensors, 0.5)
    tensors["a"] += 1
    average.update(tensors, 100)
    assert average.shadow["a"].tolist() == [0.5, 0.5]
    with average.in_place(tensors):
        assert tensors["a"].tolist() == [0.5, 0.5]
    assert tensors["a"].tolist() == [1, 1]


def test_the_ledger_counts_every_tensor_once_and_rows_as_rows():
    layer, other = torch.nn.Linear(3, 4), torch.nn.Linear(3, 4, bias=False)
    other.weight = layer.weight
    layer.bias.requires_grad_(False)
    account = ledger({"a": layer, "b": other}, {"a.weight": Rows(1)})
    assert (account.total, account.trained, account.embeddings) == (16, 9, 9)
    digest = frozen_digest({"a": layer}, {"a.weight": Rows(1)})
    with torch.no_grad():
        layer.weight[1:] += 1
    assert frozen_digest({"a": layer}, {"a.weight": Rows(1)}) == digest
    with torch.no_grad():
        layer.weight[0] += 1
    assert frozen_digest({"a": layer}, {"a.weight": Rows(1)}) != digest


def test_a_limit_of_time_stops_with_a_snapshot(tmp_path):
    report = train(PLAN, parts(tmp_path), "words", seconds=0.0)
    assert (report.status, report.steps) == ("stopped", 0)
    assert train(PLAN, parts(tmp_path), "words", resume=True, steps=1).steps == 1


def test_generators_are_given_back_as_they_were(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    train(PLAN, parts(tmp_path), "words", steps=1)
    assert torch.equal(torch.rand(1), expected)


def test_a_stage_that_learns_from_random_weights_says_so(tmp_path, caplog):
    """A condition of a text encoder that nobody taught can be imitated to the last digit; only its use would tell."""
    plan = Plan(preset="tiny", stage="decoding_side", modality="image", steps=1, batch=2, denoise_weight=0.0)
    made = parts(tmp_path)
    train(plan, made, "one")
    (said,) = [record.getMessage() for record in caplog.records if record.name == "anyloom.training"]
    assert "one learns from weights that are random: image_text_encoder." in said
    assert str(tmp_path / "weights") in said
    caplog.clear()
    made.save(["image_text_encoder"], {})
    train(plan, parts(tmp_path), "two")
    assert not [record for record in caplog.records if record.name == "anyloom.training"]
