"""A model on a wire: which family, which sizes, which files, which dtype. Never its weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from graph_engine.errors import ModelError

DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "float64": 8}


@dataclass(frozen=True)
class WeightFile:
    """A safetensors file. `stamp` identifies its content without reading gigabytes: path, header, size, mtime.

    The path, because two trainings of one model have one header and one size, and archives give all files one mtime.
    """

    path: str
    bytes: int
    stamp: str

    @classmethod
    def of(cls, path: Path) -> WeightFile:
        """Raises ModelError for a file that is absent or no safetensors file."""
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                size = path.stat().st_size
                header = file.read(length) if 2 <= length <= min(size - 8, 100_000_000) else b""
        except OSError as error:
            raise ModelError(
                f"the weight file {path} cannot be read: {error.strerror or error}.",
                remedy="Put the file there, or choose another model.",
                code="model_missing",
            ) from error
        if not header.startswith(b"{"):
            raise ModelError(
                f"{path} is not a safetensors file.",
                remedy="Give a .safetensors file; convert others with their own tools first.",
                code="model_format",
            )
        stamp = hashlib.blake2b(bytes(path.resolve()) + header, digest_size=12).hexdigest()
        return cls(str(path), size, f"{stamp}-{size}-{path.stat().st_mtime_ns}")


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
        parts = [self.family, self.config, [file.stamp for file in self.files], self.dtype, self.extras]
        return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()

    @property
    def weight_bytes(self) -> int:
        """Size of the weight files: a good estimate before the model was ever loaded."""
        return sum(file.bytes for file in self.files)

    def to_dict(self) -> dict[str, Any]:
        files = [vars(file) for file in self.files]
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
