"""Stages of a recipe in processes of their own: the same weights as one after the other, whatever happens meanwhile."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from graph_engine.errors import ModelError, WorkerLost
from nodes.nextgpt.training.crew import Crew
from nodes.nextgpt.training.loop import train
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import Plan
from nodes.nextgpt.training.side_by_side import Site, train_side_by_side
from web.cli import main

torch.set_num_threads(1)
WORDS = Plan(preset="tiny", stage="wording", steps=3, batch=2)
SOUND = replace(WORDS, stage="autoencoder", modality="audio")
PLANS = {
    "words": WORDS,
    "bind": replace(WORDS, stage="binding", batch=6),
    "see": replace(WORDS, stage="encoding_side", steps=2),
}


def recipe(place: Path, plans: dict[str, Plan]) -> Path:
    nodes = {
        name: {"type": "nextgpt.train", "values": {**plan.to_json(), "folder": "x"}} for name, plan in plans.items()
    }
    file = place / "r.json"
    file.write_text(json.dumps({"format": "anyloom", "version": 1, "nodes": nodes}))
    return file


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return {
        f"{path.stem}.{name}": tensor
        for path in sorted((folder / "weights").glob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def test_interrupted_and_resumed_it_gives_the_weights_of_one_after_the_other(tmp_path):
    long = {name: replace(plan, steps=steps) for (name, plan), steps in zip(PLANS.items(), (40, 15, 2), strict=True)}
    for name, plan in long.items():
        train(plan, Parts("tiny", tmp_path / "alone", tmp_path, anew=True), name)
    command = [sys.executable, "-W", "ignore", "-m", "web.cli", "train", str(recipe(tmp_path, long)), "--resume"]
    command += [
        "--data",
        str(tmp_path / "d"),
        "--folder",
        str(tmp_path / "both"),
        "--device",
        "cpu",
        "--processes",
        "2",
    ]
    cores = sorted(os.sched_getaffinity(0))[:2]  # a thread for each of the two processes, as for one after the other

    def on_two_cores():
        os.sched_setaffinity(0, cores)

    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=on_two_cores)
    assert process.stderr is not None
    first = process.stderr.readline()
    assert first.split()[0] in ("words", "bind"), first
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 130
    steps = {name: sorted((tmp_path / "both" / name).glob("*.safetensors")) for name in ("words", "bind")}
    assert any(steps.values()), "what was done is kept"
    assert not (tmp_path / "both" / "see").exists(), "it waits for both"
    again = subprocess.run(
        [*command, "--json"], env=environment, capture_output=True, text=True, timeout=240, preexec_fn=on_two_cores
    )
    assert again.returncode == 0, again.stderr[-2000:]
    # The reports come in the order of the recipe, whichever stage ended first.
    assert [(report["stage"], report["steps"]) for report in json.loads(again.stdout)] == [
        ("words", 40),
        ("bind", 15),
        ("see", 2),
    ]
    alone, both = weights_of(tmp_path / "alone"), weights_of(tmp_path / "both")
    assert alone.keys() == both.keys()
    assert all(torch.equal(tensor, both[name]) for name, tensor in alone.items())


def test_a_stage_that_fails_or_dies_takes_along_only_what_waits_for_it(tmp_path, caplog):
    endless = replace(SOUND, steps=10_000)
    plans = {
        "words": replace(WORDS, learning_rate=1e30, steps=50),
        "see": PLANS["see"],
        "sound": endless,
        "picture": replace(SOUND, modality="image"),
    }
    killed: list[int] = []

    def heard(event):
        if event["stage"] == "sound" and not killed:
            # Of the two processes it is the one that has the trace of this stage open.
            killed.extend(
                child.pid for child in multiprocessing.active_children() if _trains(child.pid, tmp_path / "sound")
            )
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    reports = []
    with pytest.raises((ModelError, WorkerLost)) as caught:
        train_side_by_side(plans, Site(tmp_path, tmp_path, ("cpu",)), 2, on_event=heard, on_report=reports.append)
    assert len(killed) == 1
    told = {record.args[0]: str(record.args[1]) for record in caplog.records if record.msg == "%s failed: %s"}
    assert told.keys() == {"words", "sound"}
    assert "is no number" in told["words"] and "ended with code -9" in told["sound"]
    assert str(caught.value) in told.values(), "the first of them is raised"
    assert [(report.stage, report.status) for report in reports] == [("picture", "finished")]
    assert not (tmp_path / "see").exists()
    assert not multiprocessing.active_children()


def _trains(pid: int | None, folder: Path) -> bool:
    """Whether a process has the trace of a stage open."""
    return any(os.path.realpath(entry) == str(folder / "trace.jsonl") for entry in Path(f"/proc/{pid}/fd").iterdir())


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--processes", "0"], "--processes must be at least 1"),
        (["--processes", "2", "--steps", "3"], "--steps counts through stages"),
    ],
)
def test_flags_that_cannot_be_are_refused(tmp_path, capsys, flags, told):
    common = ["train", str(recipe(tmp_path, PLANS)), "--data", str(tmp_path / "d"), "--device", "cpu"]
    assert main([*common, *flags]) != 0
    assert told in capsys.readouterr().err
    assert not (tmp_path / "d" / "models" / "training").exists()


def test_where_no_time_is_left_nothing_begins_and_the_exit_code_says_so(tmp_path):
    common = [
        "train",
        str(recipe(tmp_path, PLANS)),
        "--data",
        str(tmp_path / "d"),
        "--device",
        "cpu",
        "--processes",
        "2",
    ]
    assert main([*common, "--minutes", "1e-9"]) == 2
    assert not (tmp_path / "d" / "models" / "training").exists()


def test_one_after_the_other_each_stage_begins_by_its_own_seed_as_side_by_side(tmp_path):
    plans = {"words": replace(WORDS, steps=1), "sound": replace(SOUND, steps=1, seed=14)}
    common = ["train", str(recipe(tmp_path, plans)), "--data", str(tmp_path / "d"), "--device", "cpu"]
    assert main([*common, "--folder", str(tmp_path / "turns")]) == 0
    for name, plan in plans.items():
        train(plan, Parts("tiny", tmp_path / "alone", tmp_path, "cpu", plan.seed, anew=True), name)
    alone, turns = weights_of(tmp_path / "alone"), weights_of(tmp_path / "turns")
    assert alone.keys() == turns.keys()
    assert all(torch.equal(tensor, turns[name]) for name, tensor in alone.items())


def test_steps_are_counted_by_processes_that_tell_of_none(tmp_path, monkeypatch):
    """Of several that train one model only the first one has events; all have to stop at the same step."""
    monkeypatch.setattr(Crew, "leads", False)
    plans = {"words": WORDS, "more": WORDS}
    common = ["train", str(recipe(tmp_path, plans)), "--data", str(tmp_path / "d"), "--device", "cpu"]
    assert main([*common, "--steps", "4"]) == 2
