"""Where the set lies that a node is to read."""

from __future__ import annotations

from pathlib import Path

from graph_engine import NodeContext
from graph_engine.errors import NotFoundError


def place_of(context: NodeContext, data: str) -> Path:
    """Of the name of a file or a folder under the input folder, or of what `nextgpt.build_mosit` gives (`output/...`).
    Raises PathError, NotFoundError.

    A Hugging Face data set is a folder, which its state.json stands for too.
    """
    try:
        path = context.input_path(data)
    except NotFoundError:
        return _folder(context, data)
    return path.parent if path.name in ("state.json", "dataset_dict.json") else path


def _folder(context: NodeContext, data: str) -> Path:
    try:
        return context.input_folder(data)
    except NotFoundError:
        raise NotFoundError(
            f"there is no file and no folder {data!r} in the input folder.",
            remedy="Put the data set there, or give the name of one that is there.",
            code="file_not_found",
        ) from None
