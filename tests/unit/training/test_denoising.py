"""The denoising loss against diffusers' own training schedule, for every prediction type."""

from __future__ import annotations

import pytest
import torch

from nodes.nextgpt.model.diffusion_config import TrainingSchedule
from nodes.nextgpt.training.denoising import alphas, noised, target, weight

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.mark.parametrize(
    "schedule", [TrainingSchedule(), TrainingSchedule(0.0015, 0.0195), TrainingSchedule(beta_schedule="linear")]
)
def test_noise_and_velocity_are_those_of_the_training_schedule(schedule):
    from diffusers import DDPMScheduler

    theirs = DDPMScheduler(
        beta_start=schedule.beta_start, beta_end=schedule.beta_end, beta_schedule=schedule.beta_schedule
    )
    clean, noise = torch.randn(2, 3, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    steps = torch.tensor([0, 420, 999])
    kept = alphas(schedule)[steps]
    assert torch.allclose(noised(clean, noise, kept), theirs.add_noise(clean, noise, steps), atol=1e-5)
    assert torch.allclose(
        target(clean, noise, kept, "v_prediction"), theirs.get_velocity(clean, noise, steps), atol=1e-5
    )
    assert target(clean, noise, kept, "epsilon") is noise
    assert target(clean, noise, kept, "sample") is clean


def test_weights_of_all_prediction_types_mean_the_same_error():
    """An error d of the clean latent is d sqrt(a / (1 - a)) of the noise and d / sqrt(1 - a) of the velocity."""
    kept = torch.tensor([0.001, 0.2, 0.7, 0.99])
    of_sample = weight(kept, "sample")
    assert torch.allclose(weight(kept, "epsilon") * kept / (1 - kept), of_sample)
    assert torch.allclose(weight(kept, "v_prediction") / (1 - kept), of_sample)
    assert of_sample.max() == 5


def test_an_unknown_type_is_named():
    with pytest.raises(ValueError, match="v_prediction, not 'score'"):
        target(torch.zeros(1), torch.zeros(1), torch.ones(1), "score")
    with pytest.raises(ValueError, match="beta schedule"):
        alphas(TrainingSchedule(beta_schedule="cosine"))
