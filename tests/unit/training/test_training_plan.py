"""Plans and recipes: what is wrong is named, what ships can be read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from graph_engine.errors import RequestError
from graph_engine.graph.document import load_json, parse
from nodes.nextgpt.preset import PRESETS
from nodes.nextgpt.training.plan import NODE_TYPE, Plan, plans_of
from nodes.nextgpt.training.rate import rate

FOLDER = Path(__file__).resolve().parents[3] / "workflows" / "train"
PLAN = Plan(preset="tiny", stage="wording", steps=100, warmup=0.1)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_every_shipped_recipe_is_a_workflow_and_a_list_of_plans(path):
    document = parse(load_json(path.read_bytes(), max_bytes=1 << 20)).raw
    plans = plans_of(document)
    assert list(plans)
    assert all(plan.preset in PRESETS for plan in plans.values())
    stages = [plan.stage for plan in plans.values()]
    if path.stem.startswith("nextgpt"):
        assert stages[:3] == ["encoding_side", "decoding_side", "instruction"]


def test_the_papers_numbers():
    plans = plans_of(json.loads((FOLDER / "nextgpt-7b-tiva-v0.json").read_text()))
    assert [plan.batch for plan in plans.values()] == [18, 8, 4]
    assert [plan.learning_rate for plan in plans.values()] == [4e-4, 4e-4, 5e-4]
    assert all((plan.warmup, plan.schedule, plan.weight_decay) == (0.1, "linear", 1e-3) for plan in plans.values())
    last = plans["instruction"]
    assert (last.rank, last.alpha, last.dropout, last.targets) == (32, 32.0, 0.1, "q_proj,k_proj,v_proj,o_proj")


def test_the_numbers_of_the_2024_code():
    plans = plans_of(json.loads((FOLDER / "nextgpt-v1.5-7b.json").read_text()))
    assert list(plans) == ["encoding_side", "decoding_side", "instruction", "reconstruction"]
    *three, reca = plans.values()
    assert [(plan.batch, plan.accumulate, plan.learning_rate) for plan in three] == [
        (4, 1, 1e-3),
        (2, 1, 2e-4),
        (56, 14, 2e-4),
    ]
    assert all((plan.warmup, plan.schedule, plan.weight_decay) == (0.03, "cosine", 0.0) for plan in three)
    assert all((plan.precision, plan.checkpointing) == ("bfloat16", True) for plan in plans.values())
    last = three[-1]
    assert (last.rank, last.alpha, last.dropout, last.projector_rate) == (128, 256.0, 0.05, 0.1)
    assert last.targets == "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj"
    assert [plan.data for plan in plans.values()] == ["data/T-X_pair_data"] * 2 + ["data/IT_data", "data/T-X_pair_data"]
    assert (reca.modality, reca.batch, reca.learning_rate, reca.schedule) == ("image", 32, 4e-5, "constant")


def _recipe(**nodes):
    return {
        "nodes": {
            name: {"type": NODE_TYPE, "values": values, "links": {"after": f"{after}.json"} if after else {}}
            for name, (values, after) in nodes.items()
        }
    }


def test_stages_come_in_the_order_of_their_links():
    values = {"preset": "tiny", "stage": "wording", "folder": "x"}
    assert list(plans_of(_recipe(c=(values, "b"), b=(values, "a"), a=(values, None)))) == ["a", "b", "c"]
    with pytest.raises(RequestError, match="wait for each other"):
        plans_of(_recipe(a=(values, "b"), b=(values, "a")))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"preset": "tiny"}, "names its preset and its stage"),
        ({"preset": "tiny", "stage": "wording", "learning_rte": 1}, "learning_rte"),
        ({"preset": "tiny", "stage": "wording", "steps": 0}, "steps must be at least 1"),
        ({"preset": "tiny", "stage": "wording", "batch": 5, "accumulate": 2}, "two|split into 2"),
        ({"preset": "tiny", "stage": "denoiser"}, "of one modality"),
        ({"preset": "tiny", "stage": "seeing", "modality": "smell"}, "modality 'smell' is none of all, image"),
        ({"preset": "tiny", "stage": "denoiser", "modality": "image", "focus": -1.0}, "focus must be at least 0"),
        ({"preset": "tiny", "stage": "seeing", "things": 4}, "things must be 1, 2 or 3"),
        ({"preset": "tiny", "stage": "seeing", "things": 2, "crowded": 0.5}, "crowded pictures have three things"),
        ({"preset": "tiny", "stage": "cooking"}, "'cooking' is none of"),
        ({"preset": "tiny", "stage": "wording", "clip": -1}, "clip must be above 0, is -1"),
        (
            {"preset": "tiny", "stage": "wording", "schedule": "cosin"},
            "schedule 'cosin' is none of cosine, linear, constant",
        ),
        ({"preset": "tiny", "stage": "wording", "optimiser": "adam"}, "optimiser 'adam' is none of adamw, muon"),
        ({"preset": "tiny", "stage": "wording", "precision": "fp16"}, "precision 'fp16' is none of float32, bfloat16"),
        ({"preset": "tiny", "stage": "wording", "dropout": 2}, "dropout is a share from 0 to 1, is 2"),
        ({"preset": "tiny", "stage": "wording", "steps": "100"}, "steps must be a whole number, is '100'"),
        (
            {"preset": "tiny", "stage": "wording", "steps": True, "batch": 2.0},
            "steps must be a whole number, is True; batch must be a whole number, is 2.0",
        ),
        ({"preset": "tiny", "stage": "wording", "learning_rate": None}, "learning_rate must be a number, is None"),
        (
            {"preset": "tiny", "stage": "wording", "learning_rate": float("inf")},
            "learning_rate must be a finite number",
        ),
        ({"preset": "tiny", "stage": "wording", "anew": True}, "anew must be a text, is True"),
        ({"preset": "tiny", "stage": "wording", "own_words": 1}, "own_words must be true or false, is 1"),
        (
            {"preset": "tiny", "stage": "wording", "embeddings": "some"},
            "embeddings 'some' is none of signals, all, none",
        ),
        (
            {"preset": "tiny", "stage": "wording", "stand_ins": 1.5, "noisiest": -0.1},
            "stand_ins is a share from 0 to 1, is 1.5; noisiest is a share",
        ),
        ({"preset": "tiny", "stage": "wording", "words_weight": -1}, "words_weight must be at least 0, is -1"),
        (
            {"preset": "tiny", "stage": "wording", "projector_rate": -0.5, "rank": -4},
            "projector_rate must be at least 0, is -0.5; rank must be at least 0, is -4",
        ),
        ({"preset": "tiny", "stage": ["wording"]}, "stage .'wording'. is none of autoencoder"),
        ({"preset": "tiny", "stage": "instruction", "rank": 0}, "whose rank must be at least 1"),
    ],
)
def test_a_bad_plan_says_what_is_wrong_and_in_which_stage(values, told):
    with pytest.raises(RequestError, match=told) as caught:
        plans_of(_recipe(bad=(values, None)))
    assert "stage 'bad'" in str(caught.value)


def test_a_workflow_that_trains_nothing_is_no_recipe():
    with pytest.raises(RequestError, match="trains nothing"):
        plans_of({"nodes": {"a": {"type": "control.seed"}}})


def test_the_rate_rises_and_falls():
    rates = [rate(PLAN, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert rates == sorted(rates[:10]) + sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.01
    assert rate(replace(PLAN, schedule="linear"), 55) == pytest.approx(0.5)
    assert rate(replace(PLAN, schedule="constant"), 99) == 1.0


def test_the_digest_is_of_what_decides_the_weights():
    assert PLAN.digest == replace(PLAN, checkpoint_every=7).digest
    assert PLAN.digest != replace(PLAN, seed=14).digest
    assert Plan.from_json(PLAN.to_json()) == PLAN
    # Of trainings that lie on somebody's disk: they have to stay those of the same recipe.
    plans = plans_of(json.loads((FOLDER / "nextgpt-v1.5-7b.json").read_text()))
    assert plans["instruction"].digest == "35be61a0ee207454bba53363"
    assert plans["reconstruction"].digest == "2abd17e4c44a7ac7d4c8e150"
