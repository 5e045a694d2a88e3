"""A plan: one stage of training with its numbers. A recipe is a workflow whose `nextgpt.train` nodes are plans."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args, get_type_hints

from graph_engine.errors import RequestError
from nodes.nextgpt.training.world.terms import MOTIONS

StageName = Literal[
    "autoencoder",
    "vocoder",
    "binding",
    "seeing",
    "wording",
    "denoiser",
    "encoding_side",
    "decoding_side",
    "instruction",
    "reconstruction",
]
STAGES: tuple[str, ...] = get_args(StageName)
MODALITIES = ("image", "video", "audio")
"""Of decoders."""
NODE_TYPE = "nextgpt.train"


@dataclass(frozen=True)
class Plan:
    """What is trained, on what, and how.

    stage            one of `STAGES`
    modality         of the decoder that a part of it belongs to, or (`seeing`) whose trunk learns; "all" for stages over every
                     modality
    data             a folder of data (`data/`), or "" for the small world
    pool             so many samples of the world are drawn once and kept with their frozen embeddings; 0 draws anew
    steps, batch     optimiser steps, and samples of each; `accumulate` splits a batch into so many passes
    learning_rate    at its highest; projectors have it times `projector_rate` where language model and projectors are trained
    warmup           share of the steps in which the rate rises from 0; then by `schedule`
    begin            the decoder with whose weights an autoencoder or denoiser begins: films begin with what pictures know
    spectra_weight   of the vocoder's distance of spectra, beside that of waveforms; see `stages/vocoder.py`
    snr_gamma        of the min-SNR weight of denoising losses; 0: every noise level counts alike
    optimiser        "adamw", or "muon" for the matrices of hidden layers (`optimiser.py`)
    ema              decay of the moving average whose weights are saved; 0 saves the weights themselves
    checkpoint_every steps between checkpoints
    checkpointing    compute activations again in the backward pass instead of keeping them
    caption_weight, denoise_weight, words_weight   of the three losses of the decoding side
    rank, alpha, dropout, targets  of the adapter (stage 3)
    embeddings       which rows of the token embeddings are trained: of "signals", "all" or "none"
    stand_ins        share of talks in which other words stand for those that are copied (`stand_ins.py`)
    slips            share of talks in which the model hears itself say wrong colours
    train_text_encoder   of a denoiser; without, projectors that imitate the encoder stay true to it
    own_weights      parts that the folder lacks begin with the preset's own weights. Those of published presets always do;
                     `mini` begins with random ones else
    noisiest         share of the samples of denoising losses in the last timesteps, where only the condition tells what there
                     is to be (`denoising.py`)
    focus            of a denoiser: how much more the cells of a latent count in which there is something; 0: all alike
    unnamed          share of what is looked at or listened to whose paint or pitch has no name (`world/paint.py`), and
                     of the pictures and films that a denoiser makes of captions without a colour
    crowded          share of the pictures to be described that have three things; of the others one in four has
    things           most things in a picture that is shown
    placeless        share of the pictures of a denoiser whose captions do not say where: one thing, or two that stand to each
                     other in some way; beside those that come anyhow
    motions          of a denoiser of films: half of the clips move in one of these ways ("grows,shrinks"), the rest in any
    typical          of stage 2 with pictures: four shapes mostly have one colour, which no words tell (the bias that RecA is
                     to undo; `world/typical.py`)
    own_words        RecA: the model says what it sees, in its own words and mostly as briefly as requests do, before it draws
                     it again (`own_words.py`)
    anew             parts that this stage begins with random weights, whatever lies there: "image_projector,..."
    condition_drop   share of samples that are trained without a condition, for guidance
    """

    preset: str
    stage: StageName
    modality: str = "all"
    data: str = ""
    begin: str = ""
    pool: int = 0
    steps: int = 1000
    batch: int = 32
    accumulate: int = 1
    learning_rate: float = 3e-4
    projector_rate: float = 1.0
    weight_decay: float = 0.0
    warmup: float = 0.03
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    clip: float = 1.0
    optimiser: Literal["adamw", "muon"] = "adamw"
    ema: float = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    checkpointing: bool = False
    checkpoint_every: int = 500
    caption_weight: float = 1.0
    denoise_weight: float = 1.0
    words_weight: float = 1.0
    condition_drop: float = 0.1
    snr_gamma: float = 5.0
    focus: float = 4.0
    spectra_weight: float = 1.0
    rank: int = 32
    alpha: float = 32.0
    dropout: float = 0.1
    targets: str = "q_proj,k_proj,v_proj,o_proj"
    embeddings: Literal["signals", "all", "none"] = "signals"
    stand_ins: float = 0.0
    slips: float = 0.0
    train_text_encoder: bool = True
    own_weights: bool = False
    noisiest: float = 0.0
    unnamed: float = 0.0
    crowded: float = 0.0
    things: int = 3
    placeless: float = 0.0
    motions: str = ""
    own_words: bool = False
    anew: str = ""
    typical: bool = False
    seed: int = 13

    def __post_init__(self) -> None:
        """Raises RequestError with everything that is wrong; numbers are only looked at where all are numbers."""
        if wrong := _faults_of_types(self) or _faults_of_values(self):
            raise RequestError(
                f"the plan cannot be followed: {'; '.join(wrong)}.", remedy="Correct the recipe.", code="bad_recipe"
            )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Plan:
        """Raises RequestError for an entry that no plan has, so that a misspelt number is not passed over."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown or "preset" not in values or "stage" not in values:
            raise RequestError(
                f"the plan has entries that are not known: {', '.join(unknown)}."
                if unknown
                else "a plan names its preset and its stage.",
                remedy=f"A plan knows {', '.join(sorted(known))}.",
                code="bad_recipe",
            )
        return cls(**values)

    @property
    def digest(self) -> str:
        """Of everything that decides the weights; how often they are saved does not.

        Values that are the defaults are left out, so that a field that is added later does not turn trainings under way
        into those of another recipe. For the same reason a default, once shipped, stays.
        """
        defaults = {field.name: field.default for field in fields(self)}
        told = {
            name: value
            for name, value in self.to_json().items()
            if name != "checkpoint_every" and value != defaults[name]
        }
        return hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=12).hexdigest()


_TYPES = {name: hint for name, hint in get_type_hints(Plan).items() if name != "stage"}
_NAMES: Mapping[type, str] = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
_SHARES = (
    "warmup",
    "condition_drop",
    "dropout",
    "stand_ins",
    "slips",
    "noisiest",
    "unnamed",
    "crowded",
    "placeless",
)
_NOT_NEGATIVE = (
    "pool",
    "projector_rate",
    "weight_decay",
    "caption_weight",
    "denoise_weight",
    "words_weight",
    "snr_gamma",
    "focus",
    "spectra_weight",
    "rank",
    "alpha",
)


def _faults_of_types(plan: Plan) -> list[str]:
    """Of values as JSON has them: 1 is a number with a fraction too, true is no number."""
    wrong = []
    if plan.stage not in STAGES:
        wrong.append(f"stage {plan.stage!r} is none of {', '.join(STAGES)}")
    for name, kind in _TYPES.items():
        value = getattr(plan, name)
        if choices := get_args(kind):
            if value not in choices:
                wrong.append(f"{name} {value!r} is none of {', '.join(choices)}")
        elif type(value) is not kind and not (kind is float and type(value) is int):
            wrong.append(f"{name} must be {_NAMES[kind]}, is {value!r}")
        elif kind is float and not math.isfinite(value):
            wrong.append(f"{name} must be a finite number, is {value}")
    return wrong


def _faults_of_values(plan: Plan) -> list[str]:
    wrong = []
    for name in ("steps", "batch", "accumulate", "checkpoint_every"):
        if getattr(plan, name) < 1:
            wrong.append(f"{name} must be at least 1, is {getattr(plan, name)}")
    if plan.accumulate >= 1 and plan.batch % plan.accumulate:
        wrong.append(f"a batch of {plan.batch} cannot be split into {plan.accumulate} equal passes")
    for name in ("learning_rate", "clip"):
        if not getattr(plan, name) > 0:
            wrong.append(f"{name} must be above 0, is {getattr(plan, name)}")
    for name in _NOT_NEGATIVE:
        if getattr(plan, name) < 0:
            wrong.append(f"{name} must be at least 0, is {getattr(plan, name)}")
    for name in _SHARES:
        if not 0 <= getattr(plan, name) <= 1:
            wrong.append(f"{name} is a share from 0 to 1, is {getattr(plan, name)}")
    if not 0 <= plan.ema < 1:
        wrong.append(f"ema must be at least 0 and below 1, is {plan.ema}")
    if not 1 <= plan.things <= 3:
        wrong.append(f"things must be 1, 2 or 3, is {plan.things}")
    if plan.crowded and plan.things < 3:
        wrong.append(f"crowded pictures have three things, and things allows {plan.things}")
    if plan.stage == "instruction" and plan.rank == 0:
        wrong.append("instruction trains an adapter, whose rank must be at least 1, is 0")
    if unknown := [name for name in plan.motions.split(",") if name and name not in MOTIONS]:
        wrong.append(f"motions: {', '.join(unknown)} is none of {', '.join(MOTIONS)}")
    if plan.stage in ("autoencoder", "denoiser") and plan.modality not in MODALITIES:
        wrong.append(f"{plan.stage} is of one modality: image, video or audio, not {plan.modality!r}")
    elif plan.modality not in ("all", *MODALITIES):
        wrong.append(f"modality {plan.modality!r} is none of all, image, video, audio")
    return wrong


def plans_of(document: Mapping[str, Any]) -> dict[str, Plan]:
    """The plans of a recipe by node name, in the order in which they depend on each other.

    Raises RequestError for a workflow without any, for plans that wait for each other in a ring, and for a bad plan.
    """
    nodes: Mapping[str, Any] = document.get("nodes") or {}
    found = {name: node for name, node in nodes.items() if node.get("type") == NODE_TYPE}
    if not found:
        raise RequestError(
            "the workflow trains nothing.",
            remedy=f"A recipe has nodes of the type {NODE_TYPE}; see workflows/train.",
            code="bad_recipe",
        )
    plans: dict[str, Plan] = {}
    waiting = dict(found)
    while waiting:
        ready = [name for name, node in waiting.items() if not set(_sources(node)) & set(waiting)]
        if not ready:
            raise RequestError(
                f"the stages {', '.join(waiting)} wait for each other.", remedy="Cut a link.", code="bad_recipe"
            )
        for name in ready:
            values = {key: value for key, value in (waiting.pop(name).get("values") or {}).items() if key != "folder"}
            try:
                plans[name] = Plan.from_json(values)
            except RequestError as error:
                raise RequestError(
                    f"stage {name!r}: {error.message}", remedy=error.problem.remedy, code="bad_recipe", node=name
                ) from error
    return plans


def _sources(node: Mapping[str, Any]) -> Sequence[str]:
    return [str(link).partition(".")[0] for link in (node.get("links") or {}).values()]
