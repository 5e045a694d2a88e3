"""Found: from a name that a person wrote to a file or folder under the models folder, or to an error that lists what is there.

Nothing leaves the models folder: a name is a relative path without `..`. Symbolic links inside it are followed, because
people keep weights on other disks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from graph_engine import NodeError

WEIGHTS = ".safetensors"
PICKLES = (".ckpt", ".pt", ".pth", ".bin")
MAX_LISTED = 20


def find(name: str, models_dir: Path, places: tuple[str, ...], is_one: Callable[[Path], bool], noun: str) -> Path:
    """The path of `name`, tried in the models folder and in its subfolders `places`, with and without .safetensors.

    is_one: is this path such a thing at all? noun: what is looked for, for messages. Raises NodeError for a pickle, for a
    path that leaves the folder and, with what is there, for a name that nothing has.
    """
    if not name.strip():
        raise _absent(f"no {noun} was named", models_dir, places, is_one, noun)
    if _leaves(name):
        raise NodeError(
            f"{name!r} leaves the models folder.",
            remedy="Give a name relative to the models folder, without '..'.",
            code="bad_path",
            port="name",
        )
    for path in candidates(name, places):
        full = models_dir / path
        if full.is_file() and full.suffix in PICKLES:
            raise NodeError(
                f"{path} is a pickle, which can run code when it is opened.",
                remedy=f"Convert it once with `anyloom convert {full}` and name the .safetensors file.",
                code="pickle_refused",
                port="name",
            )
        if is_one(full):
            return full
    raise _absent(f"there is no {noun} {name!r}", models_dir, places, is_one, noun)


def candidates(name: str, places: tuple[str, ...]) -> Iterator[str]:
    """Relative paths that `name` may mean, the first that exists counts; none of a name that `find` refuses without a look."""
    if not name.strip() or _leaves(name):
        return
    for place in ("", *places):
        path = f"{place}/{name}" if place else name
        yield path
        if not name.endswith((WEIGHTS, *PICKLES)):
            yield path + WEIGHTS


def _leaves(name: str) -> bool:
    return Path(name).is_absolute() or ".." in Path(name).parts


def listing(models_dir: Path, places: tuple[str, ...], is_one: Callable[[Path], bool]) -> list[str]:
    """Names of what is there, as `find` takes them: everything directly in one of `places` or in the models folder."""
    found = []
    for place in ("", *places):
        folder = models_dir / place
        if folder.is_dir():
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            found += [
                f"{place}/{entry.name}" if place else entry.name
                for entry in entries
                if not entry.name.startswith(".") and is_one(Path(entry.path))
            ]
    return found


def _absent(
    what: str, models_dir: Path, places: tuple[str, ...], is_one: Callable[[Path], bool], noun: str
) -> NodeError:
    there = listing(models_dir, places, is_one)
    listed = ", ".join(there[:MAX_LISTED]) + (", ..." if len(there) > MAX_LISTED else "")
    return NodeError(
        f"{what} under {models_dir}.",
        remedy=f"Choose one of these: {listed}." if there else f"Put a {noun} into {models_dir / places[0]}.",
        code="model_missing",
        port="name",
    )
