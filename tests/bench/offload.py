"""Memory offloading on an accelerator: `python -m tests.bench.offload [--quick] [--out DIR] [--check]`.

The models of the full NExT-GPT in their true sizes, with random weights; a turn that looks at a picture, answers, draws, makes
a sound and a film. Budgets of 8, 12, 16 and 24 GB are enforced by `torch.cuda.set_per_process_memory_fraction`. Ours beside
the offloading of diffusers, on the same models in the same process. "least" is `graph_engine.memory.forecast.least_seconds`,
a bound that no schedule can beat, with computing times and the rate of copies as they are measured here.

Writes offload.csv; `python -m tests.bench.offload_plot offload.csv` draws it. Without a CUDA device it says so and ends
with 2. `--device cpu --scale tiny` goes the same way in seconds, to see that the script works; its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import csv
import gc
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from graph_engine.memory.ahead import Expected
from graph_engine.memory.blocks import pinned, sizes
from graph_engine.memory.forecast import Phase, least_seconds
from graph_engine.memory.outline import Outline
from graph_engine.memory.pool import ModelPool
from tests.bench import offload_others
from tests.bench.offload_turn import CATALOG, Size, Stage, forget_words, stages

GB, GIB = 1e9, 2**30
BUDGETS = (8, 12, 16, 24)
FITS, STREAMS = 1.10, 1.15
"""Bounds of time / least where everything fits after eviction, and where a model is streamed."""
SLACK = 0.6 * GIB
"""Of each budget for what the allocator rounds up and libraries keep: ours has the rest, and so has the least it is compared
with; the others, which count nothing, have all of it. That the budget holds for everything together is enforced."""
METHODS = ("ours", "group", "model", "sequential")
"""The slowest last: there may be no time for it."""
COLUMNS = (
    "device", "driver", "torch", "scale", "budget_gb", "method", "status", "seconds", "least_s", "ratio", "streams",
    "compute_s", "peak_gb", "bandwidth_gb_s", "tokens", "steps",
)  # fmt: skip


class Machine:
    """The device, and what can be done with it: a budget, a clock, a peak."""

    def __init__(self, device: str) -> None:
        self.device, self.cuda = device, device.startswith("cuda")
        self.name, self.driver = "cpu", ""
        if self.cuda:
            self.name = torch.cuda.get_device_name(device)
            self.driver = str(_driver())
            self.total = torch.cuda.get_device_properties(device).total_memory

    def limit(self, bytes: float | None) -> None:
        """Allocations beyond this fail; None: no limit."""
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.set_per_process_memory_fraction(1.0 if bytes is None else min(1.0, bytes / self.total))
            torch.cuda.reset_peak_memory_stats()

    def peak(self) -> int:
        return int(torch.cuda.max_memory_reserved()) if self.cuda else 0

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def time(self, work: Callable[[], Any]) -> float:
        self.wait()
        began = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - began

    def bandwidth(self) -> float:
        """Bytes a second from pinned memory of the host to the device, in copies of 256 MiB."""
        size = 256 << 20 if self.cuda else 16 << 20
        source = torch.empty(size, dtype=torch.uint8)
        source = source.pin_memory() if self.cuda else source
        target = torch.empty(size, dtype=torch.uint8, device=self.device)
        target.copy_(source, non_blocking=True)
        return 10 * size / self.time(lambda: [target.copy_(source, non_blocking=True) for _ in range(10)])

    def tidy(self) -> None:
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()


def _driver() -> str:
    path = Path("/proc/driver/nvidia/version")
    words = path.read_text().split() if path.exists() else []
    return next((word for word in words if word.count(".") >= 1 and word[0].isdigit()), "unknown")


class Ours:
    """A pool with the slabs of the runs before it, as a server has them."""

    def __init__(self, machine: Machine, turn: Sequence[Stage]) -> None:
        self.machine, self.turn = machine, turn
        self.slabs: Any = None
        self.orders: dict[str, list[str]] = {}

    def pool(self, bytes: float) -> ModelPool:
        from graph_engine.memory.mover import HostMover

        budgets = {self.machine.device: int(bytes)} | ({"cpu": 96 * GIB} if self.machine.cuda else {})
        pool = ModelPool(CATALOG, budgets, None if self.machine.cuda else lambda outline: HostMover())
        pool.movers.slabs, pool.hollow.orders = self.slabs, self.orders
        return pool

    def run(self, pool: ModelPool, passes: int | None = None) -> list[float]:
        """The turn, as the engine's jobs do it. passes: of each stage, no more than these. Seconds per stage."""
        took, device = [], self.machine.device
        for number, stage in enumerate(self.turn):
            began = time.perf_counter()
            pool.reserve(device, stage.working)
            try:  # what fails gives back what it had, or it would lie in the next budget
                module = pool.lease(stage.spec, device, self._next(number))
                try:
                    pool.expect("turn", device, self._coming(number))
                    stage.compute(module, device, stage.passes if passes is None else min(passes, stage.passes))
                    if passes is not None:
                        self.machine.wait()
                finally:
                    pool.release(stage.spec, device)
            finally:
                pool.unreserve(device, stage.working)
            forget_words(self.turn, number)
            took.append(time.perf_counter() - began)
        pool.forget("turn")
        self.slabs = pool.movers.slabs
        return took

    def _next(self, number: int) -> int | None:
        key = self.turn[number].spec.key
        later = (index for index in range(number + 1, len(self.turn)) if self.turn[index].spec.key == key)
        found = next(later, None)
        return None if found is None else found - number

    def _coming(self, number: int) -> list[Expected]:
        coming = []
        for index in range(number + 1, len(self.turn)):
            again = self._next(index)
            stage = self.turn[index]
            coming.append(
                Expected(stage.spec, index - number, None if again is None else index - number + again, stage.working)
            )
        return coming


def measured(machine: Machine, turn: Sequence[Stage]) -> list[float]:
    """Seconds of computing of each stage, with all its weights in place."""
    from graph_engine.models.load import materialise

    found, modules = [], {}
    for stage in turn:
        if stage.spec.key not in modules:
            modules.clear()
            machine.tidy()
            modules[stage.spec.key] = materialise(stage.spec, CATALOG[stage.spec.family], machine.device)
        work = partial(stage.compute, modules[stage.spec.key], machine.device)
        work(min(2, stage.passes))
        found.append(machine.time(partial(work, stage.passes)))
    modules.clear()
    machine.tidy()
    return found


def phases_of(turn: Sequence[Stage], seconds: Sequence[float], device: str) -> list[Phase]:
    """As the forecast wants them: computing shared among the blocks by their bytes."""
    outlines: dict[str, Outline] = {}
    phases = []
    for stage, took in zip(turn, seconds, strict=True):
        key = stage.spec.key
        if key not in outlines:
            outlines[key] = Outline(stage.spec, CATALOG[stage.spec.family], device)
        blocks = sizes(outlines[key].blocks)
        shares = tuple(took / stage.passes * size / sum(blocks) for size in blocks)
        phases.append(Phase(key, blocks, shares, stage.passes, stage.working, pinned(outlines[key].blocks)))
    return phases


def bench(arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    machine = Machine("cuda:0" if arguments.device == "cuda" else "cpu")
    tiny = arguments.scale == "tiny"
    size = Size(2, 12, 2, 2, 1.0) if tiny else Size(12, 600, 6, 24, 10.0) if arguments.quick else Size()
    began = time.perf_counter()
    torch.set_grad_enabled(False)
    turn = list(stages(arguments.scale, size, folder))
    say(f"{machine.name}; weights written in {time.perf_counter() - began:.0f} s")
    rate = machine.bandwidth()
    seconds = measured(machine, turn)
    say(
        f"copies at {rate / GB:.1f} GB/s; computing {sum(seconds):.2f} s: "
        + ", ".join(f"{stage.name} {took:.3f}" for stage, took in zip(turn, seconds, strict=True))
    )
    phases = phases_of(turn, seconds, machine.device)
    ours = Ours(machine, turn)
    every = max(stage.spec.weight_bytes + stage.working for stage in turn)
    budgets = [2 * every, 3 * every] if tiny else [budget * GIB for budget in BUDGETS]
    rows: list[dict[str, Any]] = []

    def row(budget: float, method: str, status: str, took: float | None, peak: int) -> None:
        room = int(budget - (0 if tiny else SLACK))
        least = least_seconds(phases, room, rate)
        streams = any(phase.weight_bytes > room - phase.working_bytes for phase in phases)
        rows.append({
            "device": machine.name, "driver": machine.driver, "torch": torch.__version__, "scale": arguments.scale,
            "budget_gb": round(budget / GIB, 3), "method": method, "status": status,
            "seconds": "" if took is None else round(took, 3), "least_s": round(least, 3),
            "ratio": "" if took is None else round(took / least, 3), "streams": int(streams),
            "compute_s": round(sum(seconds), 3), "peak_gb": round(peak / GB, 3), "bandwidth_gb_s": round(rate / GB, 2),
            "tokens": size.tokens, "steps": size.steps,
        })  # fmt: skip
        write(arguments.out, rows)
        last = rows[-1]
        say(f"{last['budget_gb']:7} {method:10} {status:8} {last['seconds']!s:>8} s  least {last['least_s']:.3f}  "
            f"ratio {last['ratio']!s:>6}  peak {last['peak_gb']} GB")  # fmt: skip

    for budget in budgets:
        machine.limit(budget)
        status, took = "ok", None
        pool = ours.pool(budget - (0 if tiny else SLACK))
        try:
            # Slabs are built, and the order of layers is learned: where the first one is called again.
            ours.run(pool, passes=2)
            pool.clear()
            machine.tidy()
            machine.limit(budget)
            took = machine.time(lambda pool=pool: ours.run(pool))
        except Exception as error:
            status = failed(error)
        row(budget, "ours", status, took, machine.peak())
        pool.clear()
        pool.close()
        pool = None
        machine.tidy()
    if ours.slabs is not None:
        ours.slabs.clear()
    known: dict[str, float] = {}
    for method in METHODS[1:]:
        for budget in budgets:
            if method in known:  # they do the same whatever room there is
                row(budget, method, "as before", known[method], 0)
                continue
            if time.perf_counter() - began > arguments.most_seconds:
                row(budget, method, "no time", None, 0)
                continue
            machine.limit(budget)
            status, took, prepared = "ok", None, None
            try:
                prepared = offload_others.Prepared(method, on_the_host(turn), machine.device)
                offload_others.run(prepared, turn, passes=1)  # as ours: memory is touched, what is traced is traced
                took = machine.time(partial(offload_others.run, prepared, turn))
                known[method] = took
            except Exception as error:
                status = failed(error)
            row(budget, method, status, took, machine.peak())
            prepared = None
            machine.tidy()
    say(f"in {time.perf_counter() - began:.0f} s")
    return rows


def write(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """After every row: a borrowed machine may be gone before the end."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "offload.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def on_the_host(turn: Sequence[Stage]) -> dict[str, Any]:
    from graph_engine.models.load import materialise

    return {
        stage.spec.key: materialise(stage.spec, CATALOG[stage.spec.family], "cpu")
        for stage in {stage.spec.key: stage for stage in turn}.values()
    }


def failed(error: Exception) -> str:
    """What is written instead of a time."""
    if "out of memory" in str(error).lower() or type(error).__name__ in ("OutOfMemoryError", "OutOfMemory"):
        return "no room"
    say(f"  {type(error).__name__}: {str(error)[:300]}")
    return "failed"


def missed(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Bounds that do not hold, in words; and comparisons that were not made, for they show nothing."""
    found = [] if any(row["method"] == "ours" for row in rows) else ["ours was not measured at any budget"]
    for mine in (row for row in rows if row["method"] == "ours"):
        budget, bound = mine["budget_gb"], STREAMS if mine["streams"] else FITS
        if mine["status"] != "ok" or float(mine["ratio"]) > bound:
            found.append(f"{budget} GB: {mine['status']}, {mine['ratio']} of the least (at most {bound})")
        if mine["peak_gb"] * GB > budget * GIB + 1e6:  # the peak is rounded
            found.append(f"{budget} GB: {mine['peak_gb']} GB were reserved")
        others = [
            row for row in rows if row["budget_gb"] == budget and row["method"] != "ours" and row["seconds"] != ""
        ]
        found += [
            f"{budget} GB: {other['method']} takes {other['seconds']} s, ours {mine['seconds']}"
            for other in others
            if mine["seconds"] != "" and float(other["seconds"]) <= float(mine["seconds"])
        ]
        compared = {row["method"] for row in others} | {
            row["method"] for row in rows if row["budget_gb"] == budget and row["status"] == "no room"
        }
        found += [
            f"{budget} GB: {method} was not measured ({_why(rows, budget, method)})"
            for method in METHODS[1:]
            if method not in compared
        ]
    return found


def _why(rows: Sequence[dict[str, Any]], budget: float, method: str) -> str:
    return next(
        (row["status"] for row in rows if (row["budget_gb"], row["method"]) == (budget, method)), "it has no row"
    )


def say(line: str) -> None:
    print(line, flush=True)


def main(arguments: argparse.Namespace) -> int:
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print(
            "There is no CUDA device here; this benchmark measures one. (--device cpu --scale tiny tries the script.)"
        )
        return 2
    shared = Path("/dev/shm")
    roomy = arguments.scale == "full" and shared.is_dir() and shutil.disk_usage(shared).free > 40 * GIB
    with tempfile.TemporaryDirectory(prefix="offload-", dir=shared if roomy else None) as folder:
        rows = bench(arguments, Path(arguments.weights) if arguments.weights else Path(folder))
    wrong = missed(rows)
    for line in wrong:
        say(f"MISSED  {line}")
    return 1 if wrong and arguments.check else 0


def parse(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--scale", choices=("full", "tiny"), default="full", help="sizes of the models")
    parser.add_argument("--quick", action="store_true", help="fewer tokens and steps: under 3 minutes on an H200")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder for offload.csv")
    parser.add_argument("--weights", default="", help="folder for the weight files, kept (default: a temporary one)")
    parser.add_argument("--most-seconds", type=float, default=330.0, help="begin no further comparison after this")
    parser.add_argument("--check", action="store_true", help="exit 1 when a bound is missed or a comparison is")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main(parse()))
