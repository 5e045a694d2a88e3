"""Results as JSON: what a run's record says of each target, small things whole and large things by reference."""

from __future__ import annotations

import json
from typing import Any

from graph_engine.graph.kinds import FILE, describe
from graph_engine.graph.node import NodeType
from graph_engine.graph.outcome import Skip
from graph_engine.store.artifacts import Artifact, Shape

WHOLE_BYTES = 64 * 1024
"""JSON up to this size stands in the record itself."""


def result_of(type: NodeType, artifact: Artifact | None, shape: Shape) -> tuple[dict[str, Any], bool]:
    """{port: JSON value}, and whether something in it is only referred to and must be kept to be fetched."""
    result: dict[str, Any] = {}
    referred = False
    for index, port in enumerate(type.outputs):
        port_shape = shape[index] if index < len(shape) else None
        if isinstance(port_shape, Skip):
            result[port.name] = {"skipped": port_shape.message}
        elif artifact is None:
            result[port.name] = {"skipped": "the result is gone; run again"}
        else:
            value = artifact.outputs[index]
            whole = _json(port.kind.name, value)
            if whole is not None:
                result[port.name] = whole[0]
            else:
                referred = True
                kind, summary = port.kind.name, describe(value)
                result[port.name] = {"artifact": artifact.key, "port": index, "kind": kind, "summary": summary}
    return result, referred


def _json(kind: str, value: Any) -> tuple[Any] | None:
    """(value,) when it can stand in the record, else None."""
    if kind == FILE.name:
        value = [_file(one) for one in value] if isinstance(value, list) else _file(value)
    small = value.bit_length() < 64 if isinstance(value, int) else isinstance(value, str) and len(value) < 1000
    if value is None or small:
        return (value,)
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return None
    return (json.loads(text),) if len(text) <= WHOLE_BYTES else None


def _file(value: Any) -> dict[str, Any]:
    return {"skipped": value.message} if isinstance(value, Skip) else {"file": dict(value)}
