"""Several processes train one model: each draws samples of its own, and all take the mean of their gradients."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from graph_engine.errors import RequestError
from nodes.nextgpt.training.crew import Crew
from nodes.nextgpt.training.loop import train
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import Plan

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[3]
WORKER = """
import json, sys, torch
from pathlib import Path
from nodes.nextgpt.training.crew import Crew
from nodes.nextgpt.training.loop import train
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import Plan
torch.set_num_threads(1)
folder = Path(sys.argv[1])
parts = Parts("tiny", folder, folder)
report = train(Plan(**json.loads(sys.argv[2])), parts, "words")
rank = Crew.join(parts).rank
halted = train(Plan(**json.loads(sys.argv[2])), Parts("tiny", folder / "h", folder), "h", stopped=lambda: rank == 1)
total = sum(float(p.double().abs().sum()) for p in parts.get("language_model").parameters())
(folder / f"rank{rank}.json").write_text(json.dumps([report.losses, total, [halted.status, halted.steps]]))
"""


def test_two_processes_train_one_model(tmp_path):
    plan = {"preset": "tiny", "stage": "wording", "steps": 2, "batch": 2}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    workers = []
    for rank in range(2):
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        command = [sys.executable, "-c", WORKER, str(tmp_path), json.dumps(plan)]
        workers.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE))
    for worker in workers:
        _, told = worker.communicate(timeout=240)
        assert worker.returncode == 0, told.decode()[-2000:]
    (first, weights, halted), (second, others, other_halted) = (
        json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)
    )
    assert first != second, "each draws its own samples"
    assert weights == others, "both have the same weights"
    assert halted == other_halted == ["stopped", 0], "one that wants to stop takes the other along"
    # The leader's first loss is that of one process alone; from the second step on the other's gradients count.
    alone = train(Plan(**plan), Parts("tiny", tmp_path / "alone", tmp_path), "words").losses
    assert first[0] == alone[0]
    assert first[1] != alone[1]


class Other:
    """An accelerator of two processes whose other one says what it is told to."""

    def __init__(self, said):
        self.said = said

    def reduce(self, message, reduction):
        assert reduction == "mean"
        return (message + self.said) / 2


def test_a_part_that_only_the_others_used_is_moved_too_and_one_that_nobody_used_is_not():
    weights = [torch.zeros(2, requires_grad=True) for _ in range(3)]
    weights[0].grad = torch.tensor([1.0, 3.0])
    crew = Crew()
    crew.size = 2
    crew._accelerator = Other(torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0, 4.0, 6.0, 0.0, 0.0]))
    crew.share(weights)
    assert weights[0].grad.tolist() == [0.5, 1.5]
    assert weights[1].grad.tolist() == [2.0, 3.0]
    assert weights[2].grad is None


def test_several_processes_without_accelerate_are_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(RequestError, match="accelerate is not installed") as caught:
        Crew.join(Parts("tiny", tmp_path, tmp_path))
    assert caught.value.problem.code == "no_accelerate"
    assert "anyloom[train]" in caught.value.problem.remedy
