"""Kinds of this pack: what the language model said, before and after it is taken apart."""

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
    rows = {len(value[name]) for name in ("ids", "pieces", "hidden", "embeds")}
    if len(rows) != 1:
        raise KindError(f"GENERATION must have one piece, state and embedding per token, got {sorted(rows)} of them.")
    return value


def _reply(value: Any) -> Any:
    listed = isinstance(value, list | tuple)
    if not listed or any(not isinstance(event, Mapping) or "type" not in event for event in value):
        raise KindError(
            f"REPLY must be a list of events with a type, got {describe(value)}.",
            remedy="Link an output of nextgpt.route.",
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
