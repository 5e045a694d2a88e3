"""Which stages wait for which: what the plan tells of a stage is what the stage does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nodes.nextgpt.training.dependencies import dependencies, touched, urgency
from nodes.nextgpt.training.loop import train
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import Plan, plans_of

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RECIPES = Path(__file__).resolve().parents[3] / "workflows" / "train"
TOUCHED_FIELDS = ("stage", "modality", "begin", "anew", "embeddings", "denoise_weight", "train_text_encoder")
TOUCHED_FIELDS += ("rank", "projector_rate", "own_words")


def recipe(name: str) -> dict[str, Plan]:
    return plans_of(json.loads((RECIPES / f"{name}.json").read_text(encoding="utf-8")))


class Recorded(Parts):
    """Notes whose weights were asked for, and whose were saved."""

    def __init__(self, *given):
        super().__init__(*given)
        self.read: set[str] = set()
        self.written: set[str] = set()

    def get(self, part):
        self.read.add(part)
        return super().get(part)

    def put_aside(self, parts, stage, facts):
        self.written |= set(parts)
        return super().put_aside(parts, stage, facts)


def kinds() -> dict[str, Plan]:
    """Every kind of stage of the recipes that are trained here, each once, small."""
    found = {}
    for name in ("mini", "mini-cpu", "mini-reca"):
        for stage, plan in recipe(name).items():
            facts = {field: getattr(plan, field) for field in TOUCHED_FIELDS}
            small = Plan(preset="tiny", steps=1, batch=3, targets="q_proj", **facts)
            found.setdefault(repr(facts), (stage, small))
    return dict(found.values())


@pytest.mark.parametrize("name", kinds())
def test_a_stage_reads_and_writes_what_its_plan_says(name, tmp_path):
    plan = kinds()[name]
    parts = Recorded("tiny", tmp_path, tmp_path)
    train(plan, parts, name)
    told = touched(plan)
    assert parts.read <= told.reads
    assert parts.written
    assert parts.written == told.writes & set(parts.preset.parts)


def test_what_shares_no_weights_waits_for_nobody_and_the_sides_for_all_that_they_read():
    waits = dependencies(recipe("mini-cpu"))
    free = ("image_autoencoder", "audio_autoencoder", "binding", "wording")
    assert all(not waits[name] for name in free)
    assert {"image_autoencoder", "image_denoiser"} <= waits["video_denoiser"]
    assert "video_denoiser" in waits["image_denoiser_last"], "films begin with pictures' weights as they were"
    assert waits["audio_denoiser"] == {"audio_autoencoder", "vocoder", "vocoder_spectra", "vocoder_mixtures"}
    assert {"wording", "seeing_on"} <= waits["encoding_side"]
    assert not {name for name in waits["encoding_side"] if "denoiser" in name}
    assert {"encoding_side", "decoding_side", "video_denoiser_growth", "audio_denoiser_on"} <= waits["instruction"]
    assert "audio_denoiser_even" not in waits["instruction"], (
        "it leaves the text encoder, whose conditions are imitated"
    )
    noisy = {name: replace(plan, denoise_weight=1.0) for name, plan in recipe("mini-cpu").items()}
    assert "audio_denoiser_even" in dependencies(noisy)["instruction"], "and with the denoising loss the decoder counts"


def test_side_by_side_gives_what_the_order_gives():
    """Any two stages that touch one file, and do not both only read it, keep their order."""
    plans = recipe("mini-cpu")
    waits, order = dependencies(plans), list(plans)
    for place, name in enumerate(order):
        for earlier in order[:place]:
            first, second = touched(plans[earlier]), touched(plans[name])
            meet = (first.writes & (second.reads | second.writes)) | (first.reads & second.writes)
            assert (earlier in waits[name]) == bool(meet)


def test_what_most_hangs_on_is_most_urgent():
    plan = Plan(preset="tiny", stage="wording", steps=10)
    plans = {
        "sound": replace(plan, stage="autoencoder", modality="audio", steps=30),
        "picture": replace(plan, stage="autoencoder", modality="image", steps=5),
        "drawing": replace(plan, stage="denoiser", modality="image", steps=40),
    }
    assert urgency(plans, dependencies(plans)) == {"sound": 30, "picture": 45, "drawing": 40}
