"""Flags that several commands share, and the settings that they make."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from graph_engine.memory.devices import find_devices
from graph_engine.settings import Settings
from web.commands import values


def add_engine_flags(parser: argparse.ArgumentParser) -> None:
    """For commands that open an engine."""
    group = parser.add_argument_group("engine")
    group.add_argument(
        "--data", type=Path, metavar="DIR", help="queue, history, caches, inputs and outputs (default: ./data)"
    )
    group.add_argument("--models-dir", type=Path, metavar="DIR", help="where model files lie (default: DATA/models)")
    group.add_argument(
        "--workflows",
        type=values.folder,
        metavar="DIR",
        action="append",
        default=[],
        help="a further folder of workflows to read",
    )
    group.add_argument(
        "--custom-nodes",
        type=values.folder,
        metavar="DIR",
        action="append",
        default=[],
        help="a folder with node packs; their code is run",
    )
    group.add_argument(
        "--cache",
        type=values.cache,
        metavar="POLICY",
        help="results kept in memory: classic, lru:N, bytes:N (bytes:512MB), none",
    )
    group.add_argument(
        "--vram",
        type=values.memory,
        metavar="SIZE",
        action="append",
        default=[],
        help="memory for models and what they compute: 8GB for every device, or cpu=2GB, cuda:0=8GB (default: what is free)",
    )
    group.add_argument(
        "--devices",
        type=values.devices,
        metavar="NAMES",
        help="the devices to use: cuda:0,cuda:2 (default: every CUDA device, else cpu; cpu:0,cpu:1 are two on the host)",
    )
    group.add_argument("--disk-cache", type=values.size, metavar="SIZE", help="results kept on disk: 500MB, 10GB, off")


def add_server_flags(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """For commands that talk to a server."""
    parser.add_argument(
        "--server",
        type=values.server,
        metavar="URL",
        default=default,
        help="the server to use" + (f" (default: {default})" if default else ""),
    )
    parser.add_argument(
        "--token", default=os.environ.get("ANYLOOM_TOKEN"), help="the server's token (or set ANYLOOM_TOKEN)"
    )


WARM_S = 600.0
"""How long processes of devices keep the libraries that they imported ahead and nobody used."""


def settings_of(arguments: argparse.Namespace) -> Settings:
    """Only what was given; the rest has its defaults."""
    named = {device: size for device, size in arguments.vram if device}
    every = next((size for device, size in reversed(arguments.vram) if not device), None)
    if every is not None:
        named = dict.fromkeys(arguments.devices or find_devices(), every) | named
    given = {
        "data_dir": arguments.data,
        "models_dir": arguments.models_dir,
        "workflows_dirs": tuple(arguments.workflows) or None,
        "custom_nodes": tuple(arguments.custom_nodes) or None,
        "cache": arguments.cache,
        "disk_cache_bytes": arguments.disk_cache,
        "device_bytes": tuple(named.items()) or None,
        "devices": arguments.devices,
        "workers": getattr(arguments, "workers", None),
        "warm_s": WARM_S if getattr(arguments, "workers", None) == "process" else None,
    }
    return Settings(**{name: value for name, value in given.items() if value is not None})
