"""Load nodes: a preset's name to model specs. Nothing is loaded here; weights come when a stage first uses them.

These nodes are PURE although they look at files: were they EXTERNAL, nothing that depends on a model could ever be
taken from the cache. Instead they name the files they read, so that a replaced file changes their key and everything
after them is computed anew. The random weights of the tiny presets follow from a recipe, which is part of the version.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from graph_engine import (
    Decoder,
    Encoder,
    InputProjector,
    LanguageModel,
    NodeContext,
    OutputProjector,
    Skip,
    Widget,
    node,
)
from graph_engine.graph.kinds import COMBO
from nodes.nextgpt.locate import watched
from nodes.nextgpt.modality import SPOKEN, stamped
from nodes.nextgpt.per_modality import Port, per_modality
from nodes.nextgpt.preset import RECIPE, PresetName

CATEGORY = "NExT-GPT/load"


def _reads(literals: Mapping[str, Any]) -> list[str]:
    """Wherever weights of the preset may lie: more than a single loader needs, which costs a look at the folders."""
    return watched(str(literals.get("preset", "")))


VERSION = stamped(f"1.0.{RECIPE}")
Spoken = Annotated[str, COMBO, Widget(options=tuple(SPOKEN))]


@per_modality(spoken=lambda row: [Port(f"{row.name}_projector", OutputProjector), Port(f"{row.name}_decoder", Decoder)])
class NextGpt(NamedTuple):
    encoder: Encoder
    input_projector: InputProjector
    language_model: LanguageModel
    spoken: Any


@node(id="nextgpt.load", version=VERSION, title="Load NExT-GPT", category=CATEGORY, reads=_reads)
def load(context: NodeContext, preset: PresetName = "mini") -> NextGpt:
    """All models of a preset: encoder, projectors, language model and decoders.

    preset: `mini` is small, was trained on a world of shapes, notes and moves (docs/training.md), and comes with Anyloom.
    `tiny` has the topology of the 2023 weights, `tiny-v1.5` that of the 2024 code; both are small, random and made on
    first use. The others need their weights, in the models folder or a Hugging Face cache: `anyloom models` says which,
    where they are looked for and what is missing.
    """
    return NextGpt(*_specs(context, preset, *NextGpt._fields))


@node(id="nextgpt.load_encoder", version=VERSION, category=CATEGORY, reads=_reads)
def load_encoder(context: NodeContext, preset: PresetName = "mini") -> Encoder:
    """The ImageBind encoder of a preset. Only the trunks that are used take memory."""
    return _specs(context, preset, "encoder")[0]


@node(id="nextgpt.load_input_projector", version=VERSION, category=CATEGORY, reads=_reads)
def load_input_projector(context: NodeContext, preset: PresetName = "mini") -> InputProjector:
    """The projector from the encoder's space into the language model's."""
    return _specs(context, preset, "input_projector")[0]


@node(id="nextgpt.load_language_model", version=VERSION, category=CATEGORY, reads=_reads)
def load_language_model(context: NodeContext, preset: PresetName = "mini") -> LanguageModel:
    """The language model of a preset, with its tokenizer and signal tokens."""
    return _specs(context, preset, "language_model")[0]


@node(id="nextgpt.load_output_projector", version=VERSION, category=CATEGORY, reads=_reads)
def load_output_projector(
    context: NodeContext, preset: PresetName = "mini", modality: Spoken = "image"
) -> OutputProjector:
    """The projector from the language model's space to the condition of one modality's decoder."""
    return _specs(context, preset, f"{modality}_projector")[0]


@node(id="nextgpt.load_decoder", version=VERSION, category=CATEGORY, reads=_reads)
def load_decoder(context: NodeContext, preset: PresetName = "mini", modality: Spoken = "image") -> Decoder:
    """The diffusion decoder of one modality."""
    return _specs(context, preset, f"{modality}_decoder")[0]


def _specs(context: NodeContext, preset: str, *parts: str) -> list[Any]:
    from nodes.nextgpt.checkpoint import find_preset, specs_of

    there = [part for part in parts if part in find_preset(preset).parts]
    specs = dict(zip(there, specs_of(preset, there, context.models_dir), strict=True))
    return [specs.get(part, Skip(f"the preset {preset!r} has no {part.replace('_', ' ')}")) for part in parts]


def lease(context: NodeContext, spec: Any) -> Any:
    """The module of a spec, after a look at its files (see above)."""
    from nodes.nextgpt.checkpoint import present

    return context.model(present(spec, context.models_dir))
