"""Every kind of stage takes a step on a device that is emulated: nothing is mixed up, and the host hardly ever waits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nodes.nextgpt.training import optimiser as optimisers
from nodes.nextgpt.training.crew import Crew
from nodes.nextgpt.training.ledger import frozen_digest, parameters
from nodes.nextgpt.training.loop import _gradients
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import plans_of
from nodes.nextgpt.training.stages import open_stage
from tests.emulated_device import Mixed, emulated, is_there

torch.set_num_threads(1)
RECIPE = Path(__file__).resolve().parents[3] / "workflows" / "train" / "mini.json"
PLANS = plans_of(json.loads(RECIPE.read_text(encoding="utf-8")))
STAGES = (
    "image_autoencoder",
    "audio_autoencoder",
    "vocoder",
    "binding",
    "seeing",
    "hearing",
    "wording",
    "image_denoiser",
    "video_denoiser_even",
    "audio_denoiser",
    "encoding_side",
    "decoding_side",
    "instruction",
)


@pytest.mark.parametrize("name", STAGES)
def test_a_step_mixes_nothing_and_waits_for_its_numbers_only(name, tmp_path, monkeypatch):
    monkeypatch.setattr(optimisers, "is_bfloat16_fast", lambda device: False)
    plan = replace(PLANS[name], batch=6, precision="float32", begin="")
    with emulated() as device:
        stage = open_stage(plan, Parts("mini", tmp_path, tmp_path, "cuda:0", anew=True))
        weights = {key: tensor for key, tensor in parameters(stage.modules) if tensor.requires_grad}
        assert all(is_there(tensor) for _, tensor in parameters(stage.modules))
        assert all(is_there(buffer) for module in stage.modules.values() for buffer in module.buffers())
        optimiser = optimisers.optimiser(plan, stage, weights)
        for step in range(2):  # the first one also makes what is kept
            device.waits.clear()
            told = _gradients(plan, stage, name, step, weights, Crew())
            optimiser.step()
        waits = dict(device.waits)
        stage.finish()
        frozen_digest(stage.modules, stage.rows)
    assert torch.isfinite(torch.tensor(list(told.values()))).all()
    # All numbers of a step at once (a norm of gradients has no mark here, so they are seen to go to the host first); besides,
    # transformers asks a mask of tokens whether it hides anything.
    assert sum(waits.values()) <= 4, waits
    assert not any("by a mask" in where or "nonzero" in where for where in waits), waits


def test_what_a_device_would_refuse_is_refused_here_too():
    with emulated() as device:
        there = torch.ones(3, device="cuda:0")
        assert there.device == torch.device("cuda:0") and there.is_cuda and not torch.ones(3).is_cuda
        with pytest.raises(Mixed, match="on the host"):
            there + torch.ones(3)
        with pytest.raises(Mixed, match="NumPy"):
            there.numpy()
        assert (there + torch.ones(3).to(there.device)).is_cuda
        assert (there * 2 + torch.tensor(1.0)).tolist() == [3.0, 3.0, 3.0], "numbers go anywhere"
        assert there[torch.tensor([0, 2])].is_cuda, "and so do indices"
        assert dict(device.waits) == {"? tolist": 1}
        device.waits.clear()
        _ = there[there > 0], float(there.sum()), there.cpu()
        assert sum(device.waits.values()) == 3
        assert not there.cpu().is_cuda and there.new_zeros(2).is_cuda
