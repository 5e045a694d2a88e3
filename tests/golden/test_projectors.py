"""Projectors against outputs of the original code, on weights that come from a formula."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from nodes.nextgpt.model.input_projector import InputProjector, InputProjectorConfig
from nodes.nextgpt.model.output_projector import OutputProjector, OutputProjectorConfig, canonical_state

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("error")

FILE = Path(__file__).parent / "data" / "projectors.safetensors"
TOLERANCE = 1e-4
NORM_ENDINGS = ("norm1.weight", "norm2.weight", "norm3.weight", "norm.weight")


def formula_state(name: str) -> dict[str, Tensor]:
    """The weights: 0.05 sin(0.7 i + 0.3 k) cos(0.011 i) for the k-th key, plus 1 for norm scales."""
    with safe_open(FILE, "pt") as file:
        shapes: dict[str, list[int]] = json.loads(file.metadata()[name])["keys"]
    state = {}
    i = torch.arange(max(math.prod(shape) for shape in shapes.values()), dtype=torch.float64)
    # sin(a + b) = sin a cos b + cos a sin b, so that the tables are made once for all 50 million weights.
    sine, cosine = (0.05 * wave * torch.cos(0.011 * i) for wave in (torch.sin(0.7 * i), torch.cos(0.7 * i)))
    for k, key in enumerate(sorted(shapes)):
        count = math.prod(shapes[key])
        values = sine[:count] * math.cos(0.3 * k) + cosine[:count] * math.sin(0.3 * k)
        state[key] = (values + key.endswith(NORM_ENDINGS)).float().reshape(shapes[key])
    return state


def tensors(name: str) -> tuple[list[Tensor], Tensor]:
    with safe_open(FILE, "pt") as file:
        inputs = [file.get_tensor(key) for key in sorted(file.keys()) if key.startswith(f"{name}.input.")]
        return inputs, file.get_tensor(f"{name}.output")


def assert_close(ours: Tensor, reference: Tensor) -> None:
    assert ours.shape == reference.shape
    assert float((ours - reference).abs().max() / reference.abs().max()) < TOLERANCE


@torch.no_grad()
def test_group_input_projector() -> None:
    projector = InputProjector(InputProjectorConfig("group", in_dim=32, out_dim=48)).eval()
    projector.load_state_dict(formula_state("group"), strict=True)
    (embedding,), reference = tensors("group")
    assert_close(projector(embedding), reference)


@torch.no_grad()
def test_linear_input_projector() -> None:
    projector = InputProjector(InputProjectorConfig("linear", in_dim=64, out_dim=48))
    projector.load_state_dict(formula_state("legacy_linear"), strict=True)
    (embedding,), reference = tensors("legacy_linear")
    assert_close(projector(embedding), reference)


@torch.no_grad()
def test_linear_output_projector() -> None:
    projector = OutputProjector(OutputProjectorConfig("linear", in_dim=64, out_dim=48))
    projector.load_state_dict(canonical_state(formula_state("legacy_linear")), strict=True)
    (hidden,), reference = tensors("legacy_linear")
    assert_close(projector(hidden, torch.zeros_like(hidden)), reference)


@torch.no_grad()
@pytest.mark.parametrize("name", ["legacy_transformer", "transformer"])
def test_transformer_output_projector(name: str) -> None:
    projector = OutputProjector(OutputProjectorConfig(in_dim=64, out_dim=48)).eval()
    projector.load_state_dict(canonical_state(formula_state(name)), strict=True)
    (hidden, embeds), reference = tensors(name)
    assert_close(projector(hidden, embeds), reference)


def test_training_mode_of_the_transformer_is_the_same_function() -> None:
    """Eval mode may take torch's fused path; the gradient path must agree with it."""
    projector = OutputProjector(OutputProjectorConfig(in_dim=64, out_dim=48)).train()
    projector.load_state_dict(canonical_state(formula_state("transformer")))
    (hidden, embeds), reference = tensors("transformer")
    ours = projector(hidden, embeds)
    assert ours.requires_grad
    assert_close(ours.detach(), reference)
