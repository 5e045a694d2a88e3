"""The vocoder's stage: it is born alive, and silence is no answer to it."""

from __future__ import annotations

import pytest
import torch

from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import Plan
from nodes.nextgpt.training.stages import open_stage
from nodes.nextgpt.training.stages.vocoder import mixed, nearness

torch.set_num_threads(1)


def test_nearness_is_the_share_of_power_that_is_wrong_in_what_is_counted():
    time = torch.arange(1600) / 16_000
    wave = torch.stack([0.5 * torch.sin(2 * torch.pi * 400 * time), 0.1 * torch.sin(2 * torch.pi * 500 * time)])
    every = torch.tensor([True, True])
    assert nearness(wave, wave, every) == 0
    assert nearness(0 * wave, wave, every) == pytest.approx(1, abs=1e-3)
    assert nearness(-wave, wave, every) == pytest.approx(4, abs=1e-3)
    first_wrong = torch.stack([0 * wave[0], wave[1]])
    assert nearness(first_wrong, wave, torch.tensor([False, True])) == 0, "a glide, whose phase nobody knows"
    quiet_wrong = torch.stack([wave[0], 0 * wave[1]])
    assert 0.1 < nearness(quiet_wrong, wave, every) < 0.25, "more than its share of the power, 0.04"


def test_a_vocoder_begins_with_weights_that_keep_what_passes(tmp_path):
    parts = Parts("mini", tmp_path, tmp_path, anew=True)
    mel = -9 + 3 * torch.randn(2, 12, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        dead = parts.get("audio_decoder").vocoder(mel).std()
        alive = open_stage(Plan(preset="mini", stage="vocoder", modality="audio"), parts).vocoder(mel).std()
    assert dead < 1e-3 < 10 * dead < alive < 1


def test_a_mixture_is_of_neighbours_and_steady_if_both_are():
    torch.manual_seed(0)
    wave = torch.eye(64)  # of each sound one sample, so that a mixture shows its shares
    steady = torch.arange(64) % 4 != 0
    found, both = mixed(wave, steady)
    own, other = found.diagonal(), found[torch.arange(64), torch.arange(64) - 1]
    assert torch.allclose(own + other, torch.ones(64))
    assert 20 < int((other > 0).sum()) < 44, "half of them"
    assert torch.equal(both, steady & (steady.roll(1) | (other == 0)))
