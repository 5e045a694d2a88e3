"""The stages of training, one file each."""

from __future__ import annotations

from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import Plan
from nodes.nextgpt.training.stage import Stage


def open_stage(plan: Plan, parts: Parts) -> Stage:
    """The stage that a plan names, ready for its first step."""
    from nodes.nextgpt.training.stages import (
        autoencoder,
        binding,
        decoding_side,
        denoiser,
        encoding_side,
        instruction,
        reconstruction,
        seeing,
        vocoder,
        wording,
    )

    kinds: dict[str, type[Stage]] = {
        "autoencoder": autoencoder.Autoencoder,
        "vocoder": vocoder.Vocoder,
        "binding": binding.Binding,
        "seeing": seeing.Seeing,
        "wording": wording.Wording,
        "denoiser": denoiser.Denoiser,
        "encoding_side": encoding_side.EncodingSide,
        "decoding_side": decoding_side.DecodingSide,
        "instruction": instruction.Instruction,
        "reconstruction": reconstruction.Reconstruction,
    }
    return kinds[plan.stage](plan, parts)  # type: ignore[call-arg]
