"""What a finished stage leaves: weights beside those that they replace, until `done.json` says that they count.

A stage that wrote over what it began with, and then could not say that it was done, would begin its end again with what it
made itself: an adapter would be folded twice. So `done.json` is what decides. Before it is there nothing has changed; from
then on whoever opens the folder puts the weights in their places, if the stage itself could not.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from graph_engine.errors import StoreError

DONE = "done.json"
_ENDING = ".safetensors"


def weights_path(folder: Path, part: str) -> Path:
    return folder / "weights" / f"{part}{_ENDING}"


def aside_path(folder: Path, part: str, stage: str) -> Path:
    """Where the weights that a stage made lie until it is done. By its name, for others do not answer for them."""
    return folder / "weights" / f"{part}{_ENDING}.{stage}.new"


def settle(folder: Path) -> None:
    """Weights of stages that are done go to their places; done twice, or by two processes at once, it is the same.

    Raises StoreError where that cannot be.
    """
    for path in sorted((folder / "weights").glob(f"*{_ENDING}.*.new")):
        part, _, stage = path.name.removesuffix(".new").partition(f"{_ENDING}.")
        if not (folder / stage / DONE).is_file():
            continue
        target = weights_path(folder, part)
        try:
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                path.replace(target)
        except OSError as error:
            raise StoreError(
                f"{path} cannot take the place of {target}: {error.strerror or error}.",
                remedy="Make the folder writable and go on with --resume; nothing is lost.",
                code="checkpoint_unwritable",
            ) from error
