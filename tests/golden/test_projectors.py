"""Projectors against outputs of the original code, on weights that come from a formula."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from nodes.nextgpt.model.output_projector import OutputProjector, OutputProjectorConfig, canonical_state
from tests.golden import parity

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("error")

FILE = Path(__file__).parent / "data" / parity.PROJECTORS


def weights_of(name: str) -> dict[str, Tensor]:
    _, metadata = parity.read(FILE)
    return parity.formula_state(parity.metadata_entry(metadata, name, FILE.name)["keys"])


@pytest.mark.parametrize("name", ["group", "legacy_linear", "legacy_transformer", "transformer"])
def test_projector_equals_the_original(name: str) -> None:
    assert parity.projector_checks(FILE)[f"projector {name}"]() < parity.TOLERANCE


@torch.no_grad()
def test_linear_output_projector_is_the_same_layer() -> None:
    projector = OutputProjector(OutputProjectorConfig("linear", in_dim=64, out_dim=48))
    projector.load_state_dict(canonical_state(weights_of("legacy_linear")), strict=True)
    recorded, _ = parity.read(FILE)
    hidden = recorded["legacy_linear.input.0"]
    ours = projector(hidden, torch.zeros_like(hidden))
    assert parity.relative_error(ours, recorded["legacy_linear.output"]) < parity.TOLERANCE


def test_training_mode_of_the_transformer_is_the_same_function() -> None:
    """Eval mode may take torch's fused path; the gradient path must agree with it."""
    projector = OutputProjector(OutputProjectorConfig(in_dim=64, out_dim=48)).train()
    projector.load_state_dict(canonical_state(weights_of("transformer")))
    recorded, _ = parity.read(FILE)
    ours = projector(recorded["transformer.input.0"], recorded["transformer.input.1"])
    assert ours.requires_grad
    assert parity.relative_error(ours.detach(), recorded["transformer.output"]) < parity.TOLERANCE
