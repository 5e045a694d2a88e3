"""Where the set lies that a node is to read."""

from __future__ import annotations

from pathlib import Path

from graph_engine import NodeContext


def place_of(context: NodeContext, data: str) -> Path:
    """Of a name under the input folder, or of what `nextgpt.build_mosit` gives (`output/...`). Raises NodeError.

    A Hugging Face data set is a folder, which its state.json stands for.
    """
    path = context.input_path(data)
    return path.parent if path.name in ("state.json", "dataset_dict.json") else path
