"""Snapshots: everything that a stage needs to go on as if it had never stopped, in one safetensors file.

Written aside, flushed and renamed, so that a file that has its name is whole. The one before it stays, for disks damage
files too; older ones go. No state of a random generator is in it: every step draws from a seed of its own.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from graph_engine.errors import StoreError

log = logging.getLogger("anyloom.training")
KEPT = 2
"""Of a stage."""
_NAME = re.compile(r"step-(\d{8})\.safetensors")


@dataclass(frozen=True)
class Snapshot:
    """step: how many steps are done. digest: of the plan. losses: of every step so far, as the trace has them. frozen: digest
    of the weights that stay, "" in snapshots from before it was kept."""

    step: int
    digest: str
    tensors: Mapping[str, Tensor]
    losses: tuple[float, ...]
    frozen: str = ""


def save(folder: Path, snapshot: Snapshot) -> Path:
    """Raises StoreError where the disk is full or cannot be written; the snapshots that were there stay good."""
    path = folder / f"step-{snapshot.step:08d}.safetensors"
    told = {
        "step": snapshot.step,
        "digest": snapshot.digest,
        "losses": list(snapshot.losses),
        "frozen": snapshot.frozen,
    }
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in snapshot.tensors.items()}
    write(path, tensors, {"snapshot": json.dumps(told)})
    older = sorted((number, there) for number, there in _all(folder) if number < snapshot.step)
    for _, there in older[: 1 - KEPT]:
        there.unlink(missing_ok=True)
    return path


def write(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """A safetensors file, whole or not at all. Raises StoreError, and leaves nothing half written."""
    from safetensors.torch import save as to_bytes

    write_bytes(path, to_bytes(dict(tensors), dict(facts)))


def write_bytes(path: Path, content: bytes) -> None:
    """A file, whole or not at all. Raises StoreError, and leaves nothing half written."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error.strerror or error}.",
            remedy="Make room (or choose another folder) and start again with --resume: what was saved before is whole.",
            code="checkpoint_unwritable",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def latest(folder: Path, digest: str) -> Snapshot | None:
    """The newest whole snapshot, None where there is none; damaged ones are named and passed over.

    Raises StoreError for one that another plan made.
    """
    from safetensors import SafetensorError, safe_open

    for _, path in sorted(_all(folder), reverse=True):
        try:
            with safe_open(path, framework="pt") as file:
                told: dict[str, Any] = json.loads((file.metadata() or {})["snapshot"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - the handle is no mapping
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            log.warning(
                "%s is damaged and passed over: %s. Steps since the one before it are trained again.", path, error
            )
            continue
        if told["digest"] != digest:
            raise StoreError(
                f"{path} was made by another recipe.",
                remedy="Train with the recipe it was begun with, or in another folder.",
                code="other_recipe",
            )
        return Snapshot(int(told["step"]), digest, tensors, tuple(told["losses"]), told.get("frozen", ""))
    return None


def _all(folder: Path) -> list[tuple[int, Path]]:
    if not folder.is_dir():
        return []
    return [(int(found.group(1)), path) for path in folder.iterdir() if (found := _NAME.fullmatch(path.name))]
