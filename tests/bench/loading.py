"""How fast weights come into memory, and what a check costs: `python -m tests.bench.loading [--check]`.

Each rate both from disk (the system forgets the file first) and from the system's cache, best of the rounds. The plain
rate is that of reading the whole file into memory of our own. Either is done when every byte was looked at once: files
are mapped, so nothing of a model is read before. --check exits 1 when a bound is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

LAYERS, WIDTH = 25, 2000
"""25 layers of 2000 x 2000 in float32: 400 MB."""
ROUNDS = 5
PRESET = "nextgpt-7b-tiva-v0"
RATIO, SECONDS, GIGABYTES = 0.80, 60.0, 2.0


def build(config: Any) -> Any:
    import torch

    return torch.nn.ModuleList(torch.nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS))


def written(folder: Path, dtype: str) -> Path:
    import torch
    from safetensors.torch import save_file

    path = folder / f"{dtype}.safetensors"
    save_file({key: value.detach().to(getattr(torch, dtype)) for key, value in build({}).state_dict().items()}, path)
    return path


def plain(path: Path) -> None:
    """The whole file into memory, as fast as the system gives it."""
    import torch

    size = path.stat().st_size
    whole = torch.empty(size, dtype=torch.uint8)
    memory = memoryview(whole.numpy())
    with path.open("rb", buffering=0) as file:
        read = 0
        while read < size:
            count = file.readinto(memory[read : read + (16 << 20)])
            assert count, "the file ended early"
            read += count
    look_at(whole)


def load(path: Path, dtype: str) -> None:
    """A module of the file, every byte of it looked at."""
    import torch

    from graph_engine.models.catalog import Family
    from graph_engine.models.load import materialise
    from graph_engine.models.spec import ModelSpec, WeightFile

    module = materialise(ModelSpec("bench", {}, (WeightFile.of(path),), dtype), Family("bench", build), "cpu")
    for tensor in module.state_dict().values():
        look_at(tensor.view(-1).view(torch.uint8))


def look_at(data: Any) -> None:
    """Every byte once, so that what is only mapped is really read."""
    import torch

    data[: len(data) // 8 * 8].view(torch.int64).sum().item()


def forget(path: Path) -> None:
    """Let the system drop what it keeps of the file, so that the next reader goes to the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def rates(path: Path, cold: bool, *works: Callable[[], None]) -> list[float]:
    """Bytes a second of each, by the clock and at its best; in turns, so that other work on the machine hits all alike."""
    best = [float("inf")] * len(works)
    for _ in range(ROUNDS):
        for place, work in enumerate(works):
            if cold:
                forget(path)
            began = time.perf_counter()
            work()
            best[place] = min(best[place], time.perf_counter() - began)
    return [path.stat().st_size / seconds for seconds in best]


def measure_check(folder: Path) -> dict[str, float]:
    """Seconds and gigabytes of the check of the whole 2023 preset, in a process of its own."""
    from tests.vendor import full_preset

    full_preset(folder)
    words = [sys.executable, "-m", "tests.bench.loading", "--one-check", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def one_check(folder: str) -> int:
    began = time.perf_counter()
    from nodes.nextgpt.inventory import add_checks, inventory

    found = inventory([PRESET], Path(folder))
    add_checks(found, Path(folder))
    parts = [part for part in found[0]["parts"] if part["family"]]
    assert found[0]["complete"] and all("fit" in part for part in parts), found
    seconds, processor = time.perf_counter() - began, time.process_time()
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(json.dumps({"seconds": seconds, "processor": processor, "gigabytes": gigabytes}))
    return 0


def main(arguments: argparse.Namespace) -> int:
    if arguments.one_check:
        return one_check(arguments.one_check)
    import torch

    torch.set_num_threads(1)
    held = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        for dtype in ("float32", "float16"):
            path = written(folder, dtype)
            for cold in (True, False):
                read, loaded = rates(path, cold, partial(plain, path), partial(load, path, dtype))
                held.append(loaded / read >= RATIO)
                what = f"{dtype}, {path.stat().st_size / 1e6:.0f} MB, {'from disk' if cold else 'in the cache'}"
                print(f"{what}: plain read    {read / 1e9:8.2f} GB/s")
                print(f"{what}: into a module {loaded / 1e9:8.2f} GB/s")
                print(f"{what}: ratio {loaded / read:16.2f}        at least {RATIO}{'' if held[-1] else '   MISSED'}")
        path = folder / "float32.safetensors"
        (cast,) = rates(path, False, partial(load, path, "float16"))
        print(f"float32 file, float16 in memory      {cast / 1e9:8.2f} GB/s of the file")
        check = measure_check(folder / "full")
    for what, bound, unit in (("seconds", SECONDS, "s"), ("gigabytes", GIGABYTES, "GB")):
        held.append(check[what] <= bound)
        missed = "" if held[-1] else "   MISSED"
        print(f"check of {PRESET}: {check[what]:8.2f} {unit}   at most {bound:g}{missed}")
    print(f"check of {PRESET}: {check['processor']:8.2f} s of the processor, imports included")
    return 1 if arguments.check and not all(held) else 0


def parse(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 when a bound is missed")
    parser.add_argument("--folder", help="where the files are made: another disk than that of the temporary folder")
    parser.add_argument("--one-check", metavar="DIR", help=argparse.SUPPRESS)
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main(parse()))
