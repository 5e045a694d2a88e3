"""The training loop: interrupted anywhere it goes on to the same losses; what is frozen stays; faults lose nothing."""

from __future__ import annotations

import errno
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from graph_engine.errors import ModelError, NodeError, StoreError
from nodes.nextgpt.training import loop, snapshot
from nodes.nextgpt.training.average import Average
from nodes.nextgpt.training.ledger import Rows, frozen_digest, ledger
from nodes.nextgpt.training.loop import train
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import Plan
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


def test_an_interruption_between_snapshots_loses_nothing(whole, tmp_path, monkeypatch):
    real, calls = Wording.loss, []

    def interrupted(self, draw, count):
        calls.append(1)
        if len(calls) == 8:  # the second pass of step 4; the last snapshot by number is from step 2
            raise KeyboardInterrupt
        return real(self, draw, count)

    monkeypatch.setattr(Wording, "loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(PLAN, parts(tmp_path), "words")
    assert snapshots(tmp_path / "words") == ["step-00000002.safetensors", "step-00000003.safetensors"]
    assert train(PLAN, parts(tmp_path), "words", resume=True).losses == whole[1].losses
    assert len((tmp_path / "words" / "trace.jsonl").read_text().splitlines()) == 6


@pytest.fixture
def pythons_own_handler():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def pressed(monkeypatch, times, at=3):
    """Ctrl-C so many times in a step, when its weights have moved and its average and losses have not."""
    real = Average.update

    def update(self, tensors, step):
        if step + 1 == at:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        real(self, tensors, step)

    monkeypatch.setattr(Average, "update", update)


@pytest.mark.usefixtures("pythons_own_handler")
def test_an_interruption_while_weights_move_counts_behind_the_step(whole, tmp_path, monkeypatch):
    pressed(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        train(PLAN, parts(tmp_path), "words")
    assert snapshots(tmp_path / "words")[-1] == "step-00000003.safetensors"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    monkeypatch.undo()
    assert train(PLAN, parts(tmp_path), "words", resume=True).losses == whole[1].losses


@pytest.mark.usefixtures("pythons_own_handler")
def test_a_second_interruption_ends_at_once_and_saves_nothing_half_done(whole, tmp_path, monkeypatch):
    pressed(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        train(PLAN, parts(tmp_path), "words")
    assert snapshots(tmp_path / "words") == ["step-00000002.safetensors"]
    monkeypatch.undo()
    assert train(PLAN, parts(tmp_path), "words", resume=True).losses == whole[1].losses


@pytest.mark.usefixtures("pythons_own_handler")
def test_an_interruption_of_the_last_step_saves_it_and_leaves_the_end_to_the_next_call(whole, tmp_path, monkeypatch):
    pressed(monkeypatch, 1, at=6)
    with pytest.raises(KeyboardInterrupt):
        train(PLAN, parts(tmp_path), "words")
    assert snapshots(tmp_path / "words")[-1] == "step-00000006.safetensors"
    assert not (tmp_path / "weights").exists()
    monkeypatch.undo()
    again = train(PLAN, parts(tmp_path), "words", resume=True)
    assert (again.status, again.losses) == ("finished", whole[1].losses)


def test_a_handler_of_somebody_else_stays(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        found = []
        train(PLAN, parts(tmp_path), "words", steps=1, on_event=lambda _: found.append(signal.getsignal(signal.SIGINT)))
    finally:
        signal.signal(signal.SIGINT, before)
    assert found == [signal.SIG_IGN]


def test_a_damaged_medium_costs_no_step_before_it(whole, tmp_path, monkeypatch):
    real, calls = Wording.loss, []

    def damaged(self, draw, count):
        calls.append(1)
        if len(calls) == 8:  # the second pass of step 4
            raise NodeError("a.png cannot be read.")
        return real(self, draw, count)

    monkeypatch.setattr(Wording, "loss", damaged)
    with pytest.raises(NodeError, match=r"a\.png"):
        train(PLAN, parts(tmp_path), "words")
    assert snapshots(tmp_path / "words")[-1] == "step-00000003.safetensors"
    assert train(PLAN, parts(tmp_path), "words", resume=True).losses == whole[1].losses


def test_a_killed_process_goes_on_from_its_last_snapshot(whole, tmp_path):
    train(PLAN, parts(tmp_path), "words", steps=4)
    folder = tmp_path / "words"
    # Killed while it wrote the next one: half a draft, and lines of the trace that no snapshot has.
    (folder / "step-00000006.safetensors.123.part").write_bytes(b"half")
    with (folder / "trace.jsonl").open("a") as file:
        file.write('{"step": 5}\n{"step"')
    again = train(PLAN, parts(tmp_path), "words", resume=True)
    assert again.losses == whole[1].losses
    assert [json.loads(line)["step"] for line in (folder / "trace.jsonl").read_text().splitlines()] == [
        1,
        2,
        3,
        4,
        5,
        6,
    ]


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


def test_a_full_disk_is_named_and_the_snapshot_before_it_stays(whole, tmp_path, monkeypatch):
    real = os.fsync

    def full(file):
        if snapshots := list((tmp_path / "words").glob("step-*.safetensors")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(snapshots[0]))
        real(file)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left") as caught:
        train(PLAN, parts(tmp_path), "words")
    assert caught.value.problem.code == "checkpoint_unwritable"
    assert [path.name for path in (tmp_path / "words").glob("step-*")] == ["step-00000002.safetensors"]
    monkeypatch.setattr(os, "fsync", real)
    assert train(PLAN, parts(tmp_path), "words", resume=True).losses == whole[1].losses


class Full:
    """A file of a disk that is full from the third line on, or before the first."""

    def __init__(self, file, lines):
        self.file, self.lines = file, lines

    def write(self, text):
        if not self.lines:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.lines -= 1
        self.file.write(text)

    def writelines(self, lines):
        for line in lines:
            self.write(line)

    def close(self):
        self.file.close()


def test_a_full_disk_that_the_trace_meets_is_named_and_takes_no_line(whole, tmp_path, monkeypatch):
    real = Path.open

    def fill(lines):
        def opened(self, mode="r", *rest, **named):
            file = real(self, mode, *rest, **named)
            return Full(file, lines) if self.name.startswith("trace.jsonl") and mode == "w" else file

        monkeypatch.setattr(Path, "open", opened)

    trace = tmp_path / "words" / "trace.jsonl"
    fill(2)
    with pytest.raises(StoreError, match=r"trace\.jsonl cannot be written: No space left") as caught:
        train(PLAN, parts(tmp_path), "words")
    assert caught.value.problem.code == "checkpoint_unwritable"
    two = trace.read_text()
    assert [json.loads(line)["step"] for line in two.splitlines()] == [1, 2]
    fill(1)
    with pytest.raises(StoreError, match="No space left"):
        train(PLAN, parts(tmp_path), "words", resume=True)
    assert trace.read_text() == two
    monkeypatch.undo()
    assert train(PLAN, parts(tmp_path), "words", resume=True).losses == whole[1].losses
    assert len(trace.read_text().splitlines()) == 6


FOLDED = Plan(
    preset="tiny", stage="instruction", steps=2, batch=2, rank=2, learning_rate=1e-2, warmup=0.0, denoise_weight=0.0
)


@pytest.fixture(scope="module")
def folded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folded")
    train(FOLDED, parts(folder), "three")
    return folder


def same(folder: Path, other: Path) -> bool:
    names = sorted(path.stem for path in (other / "weights").glob("*.safetensors"))
    assert names == sorted(path.stem for path in (folder / "weights").iterdir())
    pairs = [(weights(folder, name), weights(other, name)) for name in names]
    return all(torch.equal(ours[key], theirs[key]) for ours, theirs in pairs for key in theirs)


def test_an_adapter_is_folded_once_however_its_end_was_interrupted(folded, tmp_path, monkeypatch):
    """On a disk that is full when the language model is written and the next part is not."""
    real = os.fsync

    def full(file):
        if list((tmp_path / "weights").glob("image_projector*.part")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(file)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        train(FOLDED, parts(tmp_path), "three")
    assert not list((tmp_path / "weights").glob("*.safetensors")), "nothing counts before all of it is there"
    monkeypatch.undo()
    assert train(FOLDED, parts(tmp_path), "three", resume=True).status == "finished"
    assert same(tmp_path, folded)


def test_what_a_stage_left_counts_from_the_moment_it_is_done(folded, tmp_path, monkeypatch):
    def died(folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "settle", died)
    with pytest.raises(KeyboardInterrupt):
        train(FOLDED, parts(tmp_path), "three")
    monkeypatch.undo()
    # Of a stage that is not done, whatever it left.
    stray = tmp_path / "weights" / "image_projector.safetensors.four.new"
    stray.write_bytes(b"half")
    assert train(FOLDED, parts(tmp_path), "three", resume=True).status == "before"
    stray.unlink()
    assert same(tmp_path, folded)


def test_an_adapters_settings_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    real = os.fsync

    def full(file):
        if list((tmp_path / "three" / "adapter").glob("*.json*")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(file)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"adapter_config\.json cannot be written: No space left"):
        train(FOLDED, parts(tmp_path), "three")
    assert [path.name for path in (tmp_path / "three" / "adapter").iterdir()] == ["adapter_model.safetensors"]


def test_a_damaged_snapshot_counts_for_nothing(tmp_path, caplog):
    train(PLAN, parts(tmp_path), "words", steps=2)
    path = tmp_path / "words" / "step-00000002.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    assert snapshot.latest(tmp_path / "words", PLAN.digest) is None
    assert f"{path} is damaged and passed over" in caplog.text


def test_behind_a_damaged_snapshot_lies_the_one_before_it(whole, tmp_path):
    train(PLAN, parts(tmp_path), "words", steps=5)
    assert snapshots(tmp_path / "words") == ["step-00000004.safetensors", "step-00000005.safetensors"]
    (tmp_path / "words" / "step-00000005.safetensors").write_bytes(b"half")
    saved = snapshot.latest(tmp_path / "words", PLAN.digest)
    assert saved is not None
    assert saved.step == 4
    assert train(PLAN, parts(tmp_path), "words", resume=True).losses == whole[1].losses


def test_a_stage_goes_on_with_the_frozen_weights_that_it_was_begun_with(tmp_path):
    plan = Plan(preset="tiny", stage="encoding_side", steps=3, batch=2)
    begun = parts(tmp_path)
    begun.save(["encoder"], {})
    train(plan, begun, "one", steps=1)
    kept = (tmp_path / "weights" / "encoder.safetensors").read_bytes()
    other = parts(tmp_path)
    with torch.no_grad():
        next(other.get("encoder").parameters()).flatten()[0] += 1
    other.save(["encoder"], {})
    with pytest.raises(StoreError, match="other frozen weights than those it was begun with, up to step 1") as caught:
        train(plan, parts(tmp_path), "one", resume=True)
    assert caught.value.problem.code == "base_changed"
    assert str(tmp_path / "weights") in caught.value.problem.remedy
    (tmp_path / "weights" / "encoder.safetensors").write_bytes(kept)
    assert train(plan, parts(tmp_path), "one", resume=True, steps=1).steps == 2


def test_snapshots_from_before_the_frozen_digest_are_gone_on_with(whole, tmp_path):
    train(PLAN, parts(tmp_path), "words", steps=2)
    old = snapshot.latest(tmp_path / "words", PLAN.digest)
    assert old is not None
    assert old.frozen
    snapshot.save(tmp_path / "words", replace(old, frozen=""))
    assert train(PLAN, parts(tmp_path), "words", resume=True).losses == whole[1].losses


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


def test_passes_of_a_batch_add_up_to_its_gradient(tmp_path):
    """One step of two passes is the mean of the two passes' gradients."""
    events = []
    plan = replace(PLAN, steps=1, ema=0.0)
    train(plan, parts(tmp_path), "words", on_event=events.append)
    assert events[0]["loss"] == pytest.approx(0.8 * events[0]["answers"] + 0.2 * events[0]["tokens"], rel=1e-5)
    assert events[0]["stage"] == "words"


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
