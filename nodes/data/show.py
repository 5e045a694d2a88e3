"""Show: any value on the canvas."""

from __future__ import annotations

from graph_engine import AnyValue, Effect, node


@node(id="data.show", category="data/report", effect=Effect.EXTERNAL, output=True)
def show(value: AnyValue) -> AnyValue:
    """Show any value on the canvas: tables, embeddings and conditionings as strips of their numbers, media as they are."""
    return value
