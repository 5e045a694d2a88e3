"""Training that was interrupted: by Ctrl-C, by a disk that is full or damages files, by a medium; and what it goes on with."""

from __future__ import annotations

import errno
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from graph_engine.errors import NodeError, StoreError
from nodes.nextgpt.training import snapshot
from nodes.nextgpt.training.average import Average
from nodes.nextgpt.training.loop import train
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import Plan
from nodes.nextgpt.training.stages.wording import Wording

torch.set_num_threads(1)


PLAN = Plan(
    preset="tiny", stage="wording", steps=6, batch=4, accumulate=2, learning_rate=1e-3, ema=0.9, checkpoint_every=2
)


def parts(folder: Path) -> Parts:
    return Parts("tiny", folder, folder / "models")


def snapshots(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("step-*"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The stage trained in one go: its folder and report."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, train(PLAN, parts(folder), "words")


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
