"""A model of 200 MB in half the memory: `python -m tests.bench.offload_host [--check] [--dtype bfloat16]`.

A language model of the tiny preset's kind, scaled up, speaks twice: in a process that has room for all of it, and in one
whose budget is half of the weights. Prints whether both said the same, to the bit, and how much memory the second process
took at its peak above what it had before it asked for the model (resident set: /proc/self/status; libraries, the module's
skeleton and what they keep for products of these shapes are in the base line; activations are in the peak).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BOUND = 1.10
MB = 1e6
HIDDEN, LAYERS = 768, 7
TOKENS = 12
DTYPES = ("float32", "bfloat16", "float16")


def config() -> dict[str, Any]:
    from nodes.nextgpt.model.language import LanguageConfig

    return LanguageConfig.tiny(HIDDEN, layers=LAYERS).to_json()


def make(path: Path) -> None:
    """Random weights, written once."""
    from safetensors.torch import save_file

    from nodes.nextgpt.model.language import LanguageConfig, LanguageModel

    save_file(LanguageModel.random(LanguageConfig.from_json(config()), 3).state_dict(), path)


def resident(field: str) -> int:
    """Bytes of VmRSS (now) or VmHWM (the most since the mark was reset)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {field} in /proc/self/status")


def child(path: Path, budget: int, dtype: str) -> dict[str, Any]:
    """One process: lease, speak, measure."""
    import torch

    from graph_engine.memory.outline import Outline
    from graph_engine.memory.pool import ModelPool
    from graph_engine.models.catalog import Catalog
    from graph_engine.models.spec import ModelSpec, WeightFile
    from nodes.nextgpt.families import FAMILIES, LANGUAGE_MODEL
    from nodes.nextgpt.model.generation import GenerateOptions, generate
    from nodes.nextgpt.model.language import LanguageConfig, LanguageModel

    torch.set_num_threads(1)
    options = GenerateOptions(max_new_tokens=TOKENS, greedy=True)
    small = LanguageModel.random(LanguageConfig.tiny(), 0)
    generate(small, small.embed([1, 2, 3])[None], options)
    warm_up(getattr(torch, dtype))
    catalog = Catalog(FAMILIES)
    spec = ModelSpec(LANGUAGE_MODEL, config(), (WeightFile.of(path),), dtype)
    weights = Outline(spec, catalog[LANGUAGE_MODEL], "cpu").bytes
    pool = ModelPool(catalog, {"cpu": budget or weights})
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    began, cpu = time.perf_counter(), time.process_time()
    with torch.no_grad():
        module = pool.lease(spec, "cpu")
        said = generate(module, module.embed([1, 5, 9, 200])[None], options)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    digest = hashlib.blake2b(said.hidden.contiguous().view(torch.uint8).numpy().tobytes(), digest_size=8)
    digest.update(repr(said.ids).encode())
    (model,) = pool.stats()[0]["models"]
    return {
        "weights": weights,
        "budget": budget or weights,
        "peak": resident("VmHWM") - before,
        "said": digest.hexdigest(),
        "seconds": seconds,
        "cpu_seconds": cpu,
        "streamed": model.get("streamed_bytes", 0),
        "misses": model.get("misses", 0),
    }


def warm_up(dtype: Any) -> None:
    """One product of every shape: libraries keep workspace and code of their own, which no budget of weights can bound."""
    import torch

    for rows in (1, 4):
        for outer, inner in ((HIDDEN, HIDDEN), (2 * HIDDEN, HIDDEN), (HIDDEN, 2 * HIDDEN), (1985, HIDDEN)):
            torch.nn.functional.linear(torch.ones(1, rows, inner, dtype=dtype), torch.ones(outer, inner, dtype=dtype))


def in_child(path: Path, budget: int, dtype: str) -> dict[str, Any]:
    words = [sys.executable, "-m", "tests.bench.offload_host", "--child", str(path), str(budget), dtype]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, timeout=600)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(arguments: argparse.Namespace) -> int:
    if arguments.child:
        path, budget, dtype = arguments.child
        print(json.dumps(child(Path(path), int(budget), dtype)))
        return 0
    missed = 0
    with tempfile.TemporaryDirectory(prefix="offload-") as folder:
        path = Path(folder) / "weights.safetensors"
        make(path)
        for dtype in arguments.dtype or DTYPES:
            missed += not compare(path, dtype)
    return 1 if arguments.check and missed else 0


def compare(path: Path, dtype: str) -> bool:
    """Prints one row for all of the memory and one for half of it; whether the bounds hold."""
    whole = in_child(path, 0, dtype)
    half = in_child(path, whole["weights"] // 2, dtype)
    same = whole["said"] == half["said"]
    for name, found in (("whole", whole), ("half", half)):
        print(
            f"{dtype:9}{name:6} budget {found['budget'] / MB:6.1f} MB of {found['weights'] / MB:.1f}   peak above base "
            f"{found['peak'] / MB:6.1f} MB   {found['peak'] / found['budget']:.3f} of the budget   "
            f"{found['streamed'] / MB:6.1f} MB per pass, {found['misses']} misses   {found['seconds']:.2f} s "
            f"({found['cpu_seconds']:.2f} s of computing)"
        )
    ratio = half["peak"] / half["budget"]
    print(f"{dtype}: the same to the bit: {'yes' if same else 'NO'}; peak / budget {ratio:.3f} (bound {BOUND})")
    return same and ratio <= BOUND


def parse(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="exit 1 when a bound is missed")
    parser.add_argument(
        "--dtype", action="append", help=f"of the model; the file has float32 (default: {', '.join(DTYPES)})"
    )
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main(parse()))
