"""A model on a wire: which family, which sizes, which files, which dtype. Never its weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from graph_engine.models.header import Header

DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "float64": 8}


@dataclass(frozen=True)
class WeightFile:
    """A safetensors file. `stamp` identifies its content without reading gigabytes: path, header, size, mtime.

    The path, because two trainings of one model have one header and one size, and archives give all files one mtime.
    `prefix` is put before every key of the file, so that a model may come from several files ("unet.", "vae.").
    """

    path: str
    bytes: int
    stamp: str
    prefix: str = ""

    @classmethod
    def of(cls, path: Path, prefix: str = "") -> WeightFile:
        """Raises ModelError for a file that is absent, no safetensors file, or cut off."""
        header = Header.read(path)
        stamp = hashlib.blake2b(bytes(path.resolve()) + header.raw, digest_size=12).hexdigest()
        return cls(str(path), header.file_bytes, f"{stamp}-{header.file_bytes}-{path.stat().st_mtime_ns}", prefix)

    @property
    def identity(self) -> str:
        """What the file adds to a model: its stamp, and under which prefix. Without one as it always was."""
        return f"{self.prefix}@{self.stamp}" if self.prefix else self.stamp

    def to_dict(self) -> dict[str, Any]:
        """JSON; files without a prefix are written as before there were any."""
        entry = vars(self).copy()
        if not self.prefix:
            del entry["prefix"]
        return entry


@dataclass(frozen=True)
class ModelSpec:
    """family: a row of the catalog; config: JSON sizes for its constructor; files: where the weights are."""

    family: str
    config: Mapping[str, Any]
    files: tuple[WeightFile, ...] = ()
    dtype: str = "float32"
    extras: Mapping[str, Any] = field(default_factory=dict)
    """JSON facts for the nodes that use the model (tokenizer folder, preset name); part of its identity."""

    @cached_property
    def key(self) -> str:
        """Equal specs have equal keys, in every process."""
        parts = [self.family, self.config, [file.identity for file in self.files], self.dtype, self.extras]
        return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()

    @property
    def weight_bytes(self) -> int:
        """Size of the weight files: a good estimate before the model was ever loaded."""
        return sum(file.bytes for file in self.files)

    def to_dict(self) -> dict[str, Any]:
        files = [file.to_dict() for file in self.files]
        return {
            "family": self.family,
            "config": dict(self.config),
            "files": files,
            "dtype": self.dtype,
            "extras": dict(self.extras),
        }

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> ModelSpec:
        files = tuple(WeightFile(**file) for file in entry["files"])
        return cls(entry["family"], entry["config"], files, entry["dtype"], entry["extras"])
