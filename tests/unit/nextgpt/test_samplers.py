"""Samplers and spacings: every combination that diffusers offers runs, every other is refused with what can be done."""

import warnings
from dataclasses import replace
from typing import get_args

import pytest
import torch

from graph_engine.errors import NodeError
from nodes.nextgpt.decode_image import decode_image
from nodes.nextgpt.denoise import Scheduler, Spacing
from nodes.nextgpt.model.diffusion_config import DiffusionConfig, TrainingSchedule
from nodes.nextgpt.model.image_decoder import ImageDecoder, sample
from nodes.nextgpt.model.sampling import denoise, film_of, frames_of
from nodes.nextgpt.model.schedulers import ALIASES, SCHEDULERS, SPACINGS, make_scheduler, spacings_of
from nodes.nextgpt.refusal import refusals

torch.set_num_threads(1)
# diffusers hands torch tensors to numpy in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SPACED = ("euler", "heun", "lms", "dpmpp_2m", "dpmpp_2m_sde", "unipc")
UNSPACED = ("ddim", "ddpm", "euler_ancestral", "pndm", "lcm")
ALL = ("default", "karras", "exponential", "beta")
PAIRS = [(name, spacing) for name in SPACED for spacing in ALL] + [(name, "default") for name in UNSPACED]


def test_the_names_are_complete():
    assert {*SPACED, *UNSPACED} == set(SCHEDULERS)
    assert tuple(SPACINGS) == ALL
    for name in SCHEDULERS:
        assert spacings_of(name) == (ALL if name in SPACED else ("default",))


def drawn(name, spacing, prediction="epsilon", steps=6, **options):
    """A latent of a denoiser that knows the answer: everything is 0.5. What comes out says how good the sampler is."""
    schedule = TrainingSchedule(prediction_type=prediction)
    alphas = make_scheduler("ddpm", schedule).alphas_cumprod

    def predict(state, timestep, condition):
        alpha = alphas[int(timestep.round())]
        noise = (state - alpha.sqrt() * 0.5) / (1 - alpha).sqrt()
        return noise if prediction == "epsilon" else alpha.sqrt() * noise - (1 - alpha).sqrt() * 0.5

    condition = torch.zeros(1, 1, 4)
    options = {"steps": steps, "guidance": 1.0, "seed": 1, **options}
    return denoise(predict, (1, 4, 8, 8), condition, None, schedule, scheduler=name, spacing=spacing, **options)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(("name", "spacing"), PAIRS)
def test_every_combination_finds_the_picture(name, spacing, prediction):
    latent = drawn(name, spacing, prediction, steps=16)
    assert latent.isfinite().all()
    assert (latent - 0.5).abs().max() < 0.2, "what the denoiser knows must come out"


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(("name", "spacing"), PAIRS)
def test_a_single_step_goes_all_the_way(name, spacing, prediction):
    """Most of diffusers' samplers take the last of their steps where they have only one; that leaves noise."""
    assert (drawn(name, spacing, prediction, steps=1) - 0.5).abs().max() < 0.2
    # Of a picture that is given up completely nothing is left either.
    other = torch.full((1, 4, 8, 8), -3.0)
    assert (drawn(name, spacing, prediction, steps=1, latent=other) - 0.5).abs().max() < 0.2


def test_a_schedule_may_say_where_its_samplers_stop():
    def stops(name, **facts):
        scheduler = make_scheduler(name, TrainingSchedule(**facts))
        scheduler.set_timesteps(4)
        return [float(step) for step in scheduler.timesteps]

    for name in SCHEDULERS:
        if name == "lcm":  # its steps are those that it was distilled for
            continue
        if name not in ("pndm", "heun"):  # which visit steps twice
            assert stops(name, timestep_spacing="trailing") == [999, 749, 499, 249]
        own = stops(name)
        assert own == stops(name, timestep_spacing=None)
        assert own in [stops(name, timestep_spacing=spacing) for spacing in ("leading", "linspace", "trailing")]
    last = make_scheduler("ddim", TrainingSchedule(rescale_betas_zero_snr=True)).alphas_cumprod[-1]
    assert last == 0
    # What says nothing is written as it was before there was something to say.
    assert set(TrainingSchedule().to_json()) == {
        "beta_start", "beta_end", "beta_schedule", "num_train_timesteps", "prediction_type", "steps_offset",
    }  # fmt: skip


@pytest.mark.parametrize("name", SPACED)
def test_spacings_stop_at_different_noise(name):
    schedule = TrainingSchedule()
    levels = []
    for spacing in ALL:
        scheduler = make_scheduler(name, schedule, spacing)
        scheduler.set_timesteps(10)
        levels.append(scheduler.sigmas)
        assert (scheduler.sigmas[:-1] - scheduler.sigmas[1:] >= 0).all(), "noise never grows"
    for i, one in enumerate(levels):
        for other in levels[i + 1 :]:
            assert one.shape != other.shape or not torch.allclose(one, other)


@pytest.mark.parametrize(("name", "spacing"), [(n, s) for n in UNSPACED for s in ALL[1:]])
def test_a_spacing_that_a_sampler_lacks_is_refused_with_those_that_have_it(name, spacing):
    with pytest.raises(NodeError) as caught, refusals("bad_condition", "condition"):
        make_scheduler(name, TrainingSchedule(), spacing)
    problem = caught.value.problem
    assert (problem.code, problem.port) == ("bad_spacing", "spacing")
    assert problem.message == f"The scheduler {name} has no {spacing} spacing."
    assert problem.remedy == f"Take one of {', '.join(SPACED)}, or the spacing default."


@pytest.mark.parametrize(("name", "spacing", "port"), [("guess", "default", "scheduler"), ("ddim", "guess", "spacing")])
def test_unknown_names_are_refused(name, spacing, port):
    with pytest.raises(NodeError) as caught, refusals("bad_condition", "condition"):
        make_scheduler(name, TrainingSchedule(), spacing)
    assert caught.value.problem.port == port
    assert "known are" in f"{caught.value.message} {caught.value.problem.remedy}".lower()


def test_the_old_name_means_what_it_meant():
    assert dict(ALIASES) == {"dpmpp_2m_karras": ("dpmpp_2m", "karras")}
    wanted = drawn("dpmpp_2m", "karras")
    assert torch.equal(drawn("dpmpp_2m_karras", "default"), wanted)
    assert torch.equal(drawn("dpmpp_2m_karras", "karras"), wanted)
    assert not torch.equal(drawn("dpmpp_2m", "default"), wanted)
    # A spacing that somebody chose counts.
    assert torch.equal(drawn("dpmpp_2m_karras", "beta"), drawn("dpmpp_2m", "beta"))


def test_a_consistency_model_has_a_most_number_of_steps():
    assert drawn("lcm", "default", steps=50).isfinite().all()
    with pytest.raises(NodeError) as caught, refusals("bad_condition", "condition"):
        drawn("lcm", "default", steps=51)
    problem = caught.value.problem
    assert (problem.code, problem.port, problem.remedy) == ("bad_steps", "steps", "Lower steps.")
    assert problem.message == "LCMScheduler takes at most 50 steps, 51 were asked for."


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_slightest_edit_of_every_sampler_keeps_the_picture(name):
    start = torch.full((1, 4, 8, 8), 0.5)
    edited = drawn(name, "default", steps=20, latent=start, strength=0.05)
    assert (edited - start).abs().max() < 0.2


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_seed_decides(name):
    states = []
    for seed in (1, 1, 2):
        # The oracle comes to the same end from everywhere, so the first step is looked at.
        drawn(name, "default", steps=3, seed=seed, on_step=lambda done, _, state: done == 1 and states.append(state))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_what_amends_the_latent_sees_every_step_and_decides():
    seen = []

    def amend(state, scheduler, noise, upcoming):
        seen.append((tuple(noise.shape), [int(step) for step in upcoming]))
        return torch.full_like(state, 9.0)

    scheduler = make_scheduler("ddim", TrainingSchedule())
    scheduler.set_timesteps(3)
    steps = [int(step) for step in scheduler.timesteps]
    assert torch.equal(drawn("ddim", "default", steps=3, amend=amend), torch.full((1, 4, 8, 8), 9.0))
    assert seen == [((1, 4, 8, 8), [steps[1]]), ((1, 4, 8, 8), [steps[2]]), ((1, 4, 8, 8), [])]


def test_films_are_taken_apart_and_put_together():
    film = torch.arange(2 * 3 * 4 * 5 * 6.0).reshape(2, 3, 4, 5, 6)
    frames = frames_of(film)
    assert frames.shape == (8, 3, 5, 6)
    assert torch.equal(frames[5], film[1, :, 1])
    assert torch.equal(film_of(frames, film.shape), film)
    picture = film[:, :, 0]
    assert frames_of(picture) is picture
    assert film_of(picture, picture.shape) is picture


def test_nothing_is_warned_about():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        for name, spacing in PAIRS:
            make_scheduler(name, DiffusionConfig.sd2().schedule, spacing).set_timesteps(8)


def test_a_decoder_says_which_sampler_it_wants_and_who_asks_for_another_gets_that():
    """At every step euler_ancestral adds noise, which ddim does not: the same start ends elsewhere."""
    decoder = ImageDecoder.random(replace(DiffusionConfig.tiny("image"), scheduler="euler_ancestral"), 1).eval()
    condition = torch.zeros(1, *decoder.config.condition)

    def drawn(scheduler: str | None):
        return sample(decoder, condition, seed=3, steps=4, scheduler=scheduler)

    assert torch.equal(drawn(None), drawn("euler_ancestral"))
    assert not torch.allclose(drawn(None), drawn("ddim"))
    assert DiffusionConfig.from_json(decoder.config.to_json()) == decoder.config
    assert DiffusionConfig.sd15().scheduler == "ddim", "as NExT-GPT draws"


def test_the_widgets_offer_the_same_names():
    assert get_args(Scheduler) == (*SCHEDULERS, *ALIASES)
    assert get_args(Spacing) == tuple(SPACINGS)
    port = decode_image.node_type.input("scheduler")
    assert port.default == "default", "the decoder's own"
    assert port.literal("dpmpp_2m_karras") == "dpmpp_2m_karras", "older workflows open"
