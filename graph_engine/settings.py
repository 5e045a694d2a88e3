"""How an engine is set up: folders, limits, lanes. One frozen value, given to the engine when it opens."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Settings:
    """Everything has a default that suits a laptop; paths are made when the engine opens.

    data_dir           queue, history, caches and the folders below unless they are named: input, output, temp, workflows
    models_dir         where model files are looked for (default: data_dir/models)
    custom_nodes       folders with packs of one's own; their code is run
    cache              policy of the cache in memory: "classic", "lru:N", "bytes:N[KB|MB|GB]", "none"
    disk_cache_bytes   quota of the cache on disk; 0 turns it off
    disk_cache_min_s   results that took less time than this to compute are not worth a file
    pool_threads       nodes that need no device, at a time
    workers            "none": jobs of devices run in threads of this process; "process": in a process per device
    warm_s             processes of devices import their libraries before the first job, and let go of them when so many
                       seconds went by without one; 0: with the first job
    device_bytes       budget per device for weights ("cpu": bytes); a device that is not named uses what it has
    grace_s            how long a cancelled job may take to stop before the run ends without it
    """

    data_dir: Path = field(default_factory=lambda: Path(os.environ.get("ANYLOOM_DATA", "data")))
    models_dir: Path | None = None
    workflows_dirs: tuple[Path, ...] = ()
    custom_nodes: tuple[Path, ...] = ()
    cache: str = "bytes:512MB"
    disk_cache_bytes: int = 10_240 * MEBIBYTE
    disk_cache_min_s: float = 0.05
    pool_threads: int = 8
    devices: tuple[str, ...] = ()
    workers: Literal["none", "process"] = "none"
    warm_s: float = 0.0
    device_bytes: tuple[tuple[str, int], ...] = ()
    grace_s: float = 5.0
    max_document_bytes: int = 16 * MEBIBYTE
    max_nodes: int = 100_000
    max_depth: int = 64
    max_attempts: int = 3
    keep_history: int = 10_000
    keep_events: int = 50_000

    @property
    def input_dir(self) -> Path:
        return self.data_dir / "input"

    @property
    def output_dir(self) -> Path:
        return self.data_dir / "output"

    @property
    def temp_dir(self) -> Path:
        return self.data_dir / "temp"

    @property
    def models_path(self) -> Path:
        return self.models_dir or self.data_dir / "models"

    @property
    def workflows_path(self) -> Path:
        """Where workflows that people save go; `workflows_dirs` are read beside it."""
        return self.data_dir / "workflows"
