"""Kinds of this pack: what the language model said, before and after it is taken apart.

A GENERATION of n tokens has, besides what its check asks for, what a maker of one may know: `wishes` and `limits`
{modality: ...} as they were set, `confidence` (n numbers: the probability of each token) and `signal_mass` {modality: n
numbers: the probability, at each token, of the first signal of that modality}. Readers do without them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from graph_engine import Kind, ModelKind
from graph_engine.errors import KindError
from graph_engine.graph.kinds import describe

_GENERATION_FIELDS = ("ids", "pieces", "hidden", "embeds", "runs", "vocabulary", "stop_length", "finished")


def _generation(value: Any) -> Any:
    if not isinstance(value, Mapping) or any(name not in value for name in _GENERATION_FIELDS):
        raise KindError(
            f"GENERATION must be a dict with {', '.join(_GENERATION_FIELDS)}, got {describe(value)}.",
            remedy="Link an output of nextgpt.reason.",
        )
    if not isinstance(value["runs"], list | tuple) or any(not isinstance(run, Mapping) for run in value["runs"]):
        raise KindError(f"the runs of a GENERATION must be a list of dicts, got {describe(value['runs'])}.")
    rows = {len(value[name]) for name in ("ids", "pieces", "hidden", "embeds")}
    if len(rows) != 1:
        raise KindError(f"GENERATION must have one piece, state and embedding per token, got {sorted(rows)} of them.")
    return value


_EVENT_FIELDS: dict[str, dict[str, type]] = {"text": {"text": str}, "signal": {"modality": str, "order": int}}


def _reply(value: Any) -> Any:
    remedy = "Link an output of nextgpt.route."
    if not isinstance(value, list | tuple):
        raise KindError(f"REPLY must be a list of events, got {describe(value)}.", remedy=remedy)
    for number, event in enumerate(value):
        fields = _EVENT_FIELDS.get(event.get("type", "")) if isinstance(event, Mapping) else None
        if fields is None or any(not isinstance(event.get(name), type) for name, type in fields.items()):
            raise KindError(
                f"event {number} of a REPLY must be {{type: text, text}} or {{type: signal, modality, order}}, "
                f"got {describe(event)}.",
                remedy=remedy,
            )
    return list(value)


GENERATION = Kind(
    "GENERATION",
    _generation,
    color="#ffab91",
    description='what the language model said: ids, text pieces, states "n H", embeddings "n H", why each run is there',
)
REPLY = Kind(
    "REPLY",
    _reply,
    color="#b0bec5",
    description="what was said, in spoken order: {type: text, text} and {type: signal, modality, order}",
)

Generation = Annotated[Any, GENERATION]
Reply = Annotated[Any, REPLY]

TEXT_ENCODER = ModelKind("TEXT_ENCODER", description="text to a decoder's own condition (CLIP, CLAP)")
TextEncoder = Annotated[Any, TEXT_ENCODER]
