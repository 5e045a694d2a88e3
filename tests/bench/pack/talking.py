"""A node that says how far it is, a hundred times a second."""

from __future__ import annotations

import time

from graph_engine import NodeContext, node
from graph_engine.graph.node import Effect


@node(id="bench.progress", effect=Effect.EXTERNAL, output=True)
def progress(context: NodeContext, count: int = 400, number: int = 0) -> int:
    for done in range(count):
        context.progress(done, count)
        time.sleep(0.01)
    return number
