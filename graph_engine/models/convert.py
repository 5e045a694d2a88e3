"""Pickled weights (.pt, .pth, .bin, .ckpt) into safetensors, in a child process.

A pickle can run any code. This process never opens one (law P8): a child with a limit on its memory does, with torch's
restricted reader (`weights_only=True`), and writes safetensors (`pickled.py`). The result gets its name when it is whole.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graph_engine.errors import ModelError

SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
_HOME = str(Path(__file__).parents[2])
"""The child runs this very code, whatever else is installed."""
HEADROOM_BYTES = 6 << 30
"""What the child may take beside the file itself: torch, and one tensor that has to be copied."""

OnProgress = Callable[[float, str], None]
"""(share done 0..1, what is being done)."""


@dataclass(frozen=True)
class Report:
    """What a conversion did.

    files      written file -> number of tensors in it
    notes      what was unwrapped, un-shared or copied, in words
    left_out   entries that are no tensors, with their type; and tensors that no output wanted
    sha256     of the source
    """

    files: Mapping[str, int]
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    sha256: str = ""


def default_target(source: Path) -> Path:
    """Beside the source, under the name that transformers and diffusers look for."""
    stem = source.name.removesuffix(source.suffix)
    return source.with_name(f"{'model' if stem == 'pytorch_model' and source.suffix == '.bin' else stem}.safetensors")


def convert(
    source: Path,
    outputs: Mapping[Path, str],
    *,
    force: bool = False,
    memory_bytes: int | None = None,
    on_progress: OnProgress | None = None,
) -> Report:
    """Write the tensors of `source`; each goes into the first output whose regular expression its key matches.

    With `{target: ""}` all go into one file. The target's folder is made. Raises ModelError: `model_missing`,
    `target_exists` (without `force`), `unsafe_pickle`, `model_format`, `disk_full`, `model_unwritable`,
    `convert_failed`; then no target has changed.
    """
    if not source.is_file():
        raise ModelError(f"there is no file {source}.", remedy="Check the path.", code="model_missing")
    there = [str(target) for target in outputs if target.exists()]
    if there and not force:
        raise ModelError(
            f"{', '.join(there)} is there already.",
            remedy="Add --force to write over it, or name another destination.",
            code="target_exists",
        )
    drafts = {target: target.with_name(f".{target.name}.{os.getpid()}.part") for target in outputs}
    job = {
        "source": str(source),
        "outputs": [[str(drafts[target]), pattern] for target, pattern in outputs.items()],
        "memory_bytes": source.stat().st_size + HEADROOM_BYTES if memory_bytes is None else memory_bytes,
        "metadata": {"source": source.name, "converter": "anyloom"},
    }
    try:
        for target in outputs:
            target.parent.mkdir(parents=True, exist_ok=True)
        told = _run(job, source, on_progress)
        files = {}
        for target, draft in drafts.items():
            if draft.exists():
                os.replace(draft, target)
                files[str(target)] = told["files"][str(draft)]
    except OSError as error:
        raise ModelError(
            f"{', '.join(map(str, outputs))} cannot be written: {error.strerror or error}.",
            remedy="Check the rights of the folder, or name another destination.",
            code="model_unwritable",
        ) from error
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)
    return Report(files, tuple(told["notes"]), told["left_out"], told["sha256"])


def _run(job: Mapping[str, Any], source: Path, on_progress: OnProgress | None) -> dict[str, Any]:
    """The last line that the child says; lines before it are progress."""
    child = subprocess.Popen(
        [sys.executable, "-m", "graph_engine.models.pickled"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([_HOME, *filter(None, [os.environ.get("PYTHONPATH")])])},
    )
    assert child.stdin is not None and child.stdout is not None and child.stderr is not None
    told: dict[str, Any] = {}
    with child:
        try:
            child.stdin.write(json.dumps(job))
            child.stdin.close()
            for line in child.stdout:
                told = json.loads(line)
                if on_progress is not None and "share" in told:
                    on_progress(told["share"], told["doing"])
            complaint = child.stderr.read().strip()
        except BaseException:
            child.kill()
            raise
    if "error" in told:
        raise ModelError(told["error"], remedy=told["remedy"], code=told["code"])
    if child.returncode or "sha256" not in told:
        last = complaint.splitlines()[-1:] or [f"it ended with {child.returncode}"]
        raise ModelError(
            f"{source} could not be converted: {last[0]}.",
            remedy="A process that was killed had too little memory; else the file may be damaged: fetch it again.",
            code="convert_failed",
        )
    return told
