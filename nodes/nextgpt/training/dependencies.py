"""Which stages of a recipe wait for which: those that read what another writes, or write what it reads.

What the links of a recipe say is an order; this is what the order is for. Stages that share no weights give the same
whatever comes first, so they can be trained side by side (`side_by_side.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from nodes.nextgpt.training.plan import MODALITIES, Plan


class Touched(NamedTuple):
    """Parts whose weights a stage begins with or computes with, and those that it leaves in the training folder."""

    reads: frozenset[str]
    writes: frozenset[str]


def touched(plan: Plan) -> Touched:
    """By the plan alone: no model is opened."""
    reads, writes = _parts(plan)
    begun = [plan.begin, f"{plan.begin.removesuffix('_decoder')}_text_encoder"] if plan.begin else []
    renewed = [part.strip() for part in plan.anew.split(",") if part.strip()]
    return Touched(frozenset({*reads, *writes, *begun, *renewed}), frozenset(writes))


def _parts(plan: Plan) -> tuple[set[str], set[str]]:
    words = {"language_model"} if plan.embeddings != "none" else set()
    modalities = MODALITIES if plan.modality == "all" else (plan.modality,)
    projectors = {f"{modality}_projector" for modality in modalities}
    makers = {f"{modality}_{what}" for modality in modalities for what in ("decoder", "text_encoder")}
    # Conditions are imitated by text encoders alone; decoders are read where the denoising loss goes through them.
    judges = makers if plan.denoise_weight else {f"{modality}_text_encoder" for modality in modalities}
    understanding = {"encoder", "input_projector", "language_model"}
    match plan.stage:
        case "autoencoder":
            return set(), {f"{plan.modality}_decoder"}
        case "vocoder":
            return set(), {"audio_decoder"}
        case "binding" | "seeing":
            return set(), {"encoder"}
        case "wording":
            return set(), {"language_model"}
        case "denoiser":
            learned = makers if plan.train_text_encoder else {f"{plan.modality}_decoder"}
            return makers, learned
        case "encoding_side":
            return understanding, {"input_projector", *words}
        case "decoding_side":
            return {"language_model", *judges}, {*projectors, *words}
        case "instruction":
            return {"encoder", *judges}, {"input_projector", "language_model", *projectors}
        case _:  # reconstruction; of pictures, where nothing else is said
            modality = "image" if plan.modality == "all" else plan.modality
            learned = {f"{modality}_projector"} | ({"input_projector"} if plan.projector_rate else set())
            return understanding | makers, learned | ({"language_model"} if plan.rank else words)


def dependencies(plans: Mapping[str, Plan]) -> dict[str, frozenset[str]]:
    """For each stage the earlier ones that have to be finished before it begins. plans: in the order of the recipe."""
    parts = {name: touched(plan) for name, plan in plans.items()}
    order = list(plans)
    return {
        name: frozenset(
            earlier
            for earlier in order[:place]
            if parts[earlier].writes & parts[name].reads or parts[earlier].reads & parts[name].writes
        )
        for place, name in enumerate(order)
    }


def urgency(plans: Mapping[str, Plan], waits: Mapping[str, frozenset[str]]) -> dict[str, int]:
    """Steps of each stage and of the longest row of stages that wait for it: what is begun first is what most hangs on."""
    found: dict[str, int] = {}
    for name in reversed(list(plans)):
        rest = [found[later] for later in found if name in waits[later]]
        found[name] = plans[name].steps + max(rest, default=0)
    return found
