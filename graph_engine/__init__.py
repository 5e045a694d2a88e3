"""Anyloom's engine: typed nodes in a graph, run by an asynchronous scheduler.

Importing this package takes milliseconds; heavy parts (networkx, torch) load when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from graph_engine.errors import AnyloomError, NodeError
from graph_engine.graph.context import NodeContext
from graph_engine.graph.kinds import (
    AnyValue,
    Audio,
    Conditioning,
    Conversation,
    Decoder,
    Embedding,
    Encoder,
    File,
    Image,
    InputProjector,
    Json,
    Kind,
    LanguageModel,
    Latent,
    Mask,
    ModelKind,
    OutputProjector,
    Signals,
    Tokens,
    Video,
)
from graph_engine.graph.node import LAZY, Effect, Needs, node
from graph_engine.graph.outcome import UNSET, Grow, Need, Skip, Values
from graph_engine.graph.port import Widget

if TYPE_CHECKING:
    from graph_engine.client import AsyncClient, Client
    from graph_engine.engine import Engine
    from graph_engine.models.spec import ModelSpec
    from graph_engine.settings import Settings

__version__ = "0.1.0"

_LATER = {
    "Engine": "graph_engine.engine",
    "Client": "graph_engine.client",
    "AsyncClient": "graph_engine.client",
    "ModelSpec": "graph_engine.models.spec",
    "Settings": "graph_engine.settings",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(importlib.import_module(_LATER[name]), name)
    raise AttributeError(f"module 'graph_engine' has no attribute {name!r}")


__all__ = [
    "LAZY",
    "UNSET",
    "AnyValue",
    "AnyloomError",
    "AsyncClient",
    "Audio",
    "Client",
    "Conditioning",
    "Conversation",
    "Decoder",
    "Effect",
    "Embedding",
    "Encoder",
    "Engine",
    "File",
    "Grow",
    "Image",
    "InputProjector",
    "Json",
    "Kind",
    "LanguageModel",
    "Latent",
    "Mask",
    "ModelKind",
    "ModelSpec",
    "Need",
    "Needs",
    "NodeContext",
    "NodeError",
    "OutputProjector",
    "Settings",
    "Signals",
    "Skip",
    "Tokens",
    "Values",
    "Video",
    "Widget",
    "node",
]
