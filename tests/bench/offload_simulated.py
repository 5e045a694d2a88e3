"""What memory offloading costs, computed: `python -m tests.bench.offload_simulated [--check]`.

The models of the legacy preset in their true sizes (built on the meta device, float16) and the computing times of an
H200 (estimates of the roofline model: specs of the project, gpu-performance section 2); copies at 55 GB/s. Nothing runs on
an accelerator here. Ours is `graph_engine.memory.forecast`; the least is a bound that no schedule can beat.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from graph_engine.memory.blocks import Block, pack, pinned, sizes
from graph_engine.memory.forecast import Phase, forecast, least_seconds, lru_on_demand
from graph_engine.memory.streaming import moved_bytes
from nodes.nextgpt.checkpoint import find_preset
from nodes.nextgpt.families import FAMILIES

GB, GIB = 1e9, 2**30
BANDWIDTH = 55 * GB
READ = 0.75 * 4.3e12
"""Bytes a second at which decoding one token reads the weights."""
TOKENS, STEPS = 150, 50
BOUND = 1.05
RESERVE = {8: 2, 12: 2, 16: 2, 24: 3}
"""GiB of each card for activations, caches and the driver."""


def built(part: Any) -> Any:
    import torch

    build = {family.name: family.build for family in FAMILIES}[part.family]
    with torch.device("meta"):
        return build(part.config()).to(torch.float16)


def phase(name: str, blocks: list[Block], seconds: float, passes: int = 1) -> Phase:
    """seconds: of one pass, shared among the blocks by their bytes."""
    total = sum(sizes(blocks))
    shares = tuple(seconds * size / total for size in sizes(blocks))
    return Phase(name, sizes(blocks), shares, passes, pinned=pinned(blocks))


@cache
def any_to_any() -> tuple[Phase, ...]:
    """Picture and sound in, 150 tokens, picture, sound and video of 24 frames out."""
    parts = find_preset("nextgpt-7b-tiva-v0").parts
    encoder = built(parts["encoder"])
    wanted = [
        f"modality_{kind}.{trunk}" for kind in ("preprocessors", "trunks", "heads") for trunk in ("vision", "audio")
    ]
    language = pack(built(parts["language_model"]))
    phases = [
        phase("ImageBind", pack(encoder, under(encoder, wanted)), 0.012),
        phase("Vicuna", language, 0.016),
        phase("Vicuna", language, sum(sizes(language)) / READ, TOKENS),
    ]
    for modality, step, last in (("image", 5.0e-3, 0.02), ("audio", 2.5e-3, 0.02), ("video", 90e-3, 0.3)):
        projector, decoder = built(parts[f"{modality}_projector"]), built(parts[f"{modality}_decoder"])
        phases.append(phase(f"{modality} projector", pack(projector), 0.001))
        phases.append(phase(f"{modality} denoiser", pack(decoder, under(decoder, ["unet"])), step, STEPS))
        rest = [name for name, _ in decoder.named_children() if name != "unet"]
        phases.append(phase(f"{modality} rest", pack(decoder, under(decoder, rest)), last))
    return tuple(phases)


def under(module: Any, prefixes: Iterable[str]) -> list[str]:
    """The layers whose names begin with one of these, in their order."""
    from graph_engine.memory.blocks import layers_of

    starts = tuple(f"{prefix}." for prefix in prefixes)
    return [name for name in layers_of(module) if f"{name}.".startswith(starts)]


def main(arguments: argparse.Namespace) -> int:
    phases = any_to_any()
    models = {entry.model: entry for entry in phases}
    weights, computing = sum(entry.weight_bytes for entry in models.values()), sum(entry.compute_s for entry in phases)
    print(f"{len(models)} models, {weights / GB:.2f} GB of weights, {computing:.2f} s of computing, 55 GB/s\n")
    print(
        "card      room      time      least     ratio   moved        formula      by bytes alone       LRU: time   moved"
    )
    missed = 0
    for card, reserve in RESERVE.items():
        room = (card - reserve) * GIB
        ours = forecast(phases, room, BANDWIDTH)
        least, lru = least_seconds(phases, room, BANDWIDTH), lru_on_demand(phases, room, BANDWIDTH)
        expected = formula(phases, room)
        ratio, (fewest, most) = ours.seconds / least, bounds(phases, room)
        wrong = ratio > BOUND or ours.moved_bytes != expected or not fewest <= ours.moved_bytes <= most
        missed += wrong
        print(
            f"{card:2d} GiB  {room / GB:6.2f} GB {ours.seconds:7.2f} s {least:7.2f} s {ratio:9.3f} "
            f"{ours.moved_bytes / GB:8.1f} GB  {expected / GB:8.1f} GB  {fewest / GB:7.1f} - {most / GB:.1f} GB "
            f"{lru.seconds:9.2f} s {lru.moved_bytes / GB:7.1f} GB{'   MISSED' if wrong else ''}"
        )
    print(f"\nbound: at most {BOUND} of the least time, the bytes of the formula, and those between the bytes alone")
    return 1 if missed and arguments.check else 0


def formula(phases: Sequence[Phase], room: int) -> int:
    """Every model once, and of a model that does not fit W - R + b more in every further pass (b: the ring), with the blocks
    that `streaming.split` keeps."""
    total = 0
    for model in dict.fromkeys(entry.model for entry in phases):
        mine = [entry for entry in phases if entry.model == model]
        found = moved_bytes(mine[0].blocks, room, sum(entry.passes for entry in mine), pinned=mine[0].pinned)
        assert found is not None
        total += found
    return total


def bounds(phases: Sequence[Phase], room: int) -> tuple[int, int]:
    """Between which bytes the moved ones must lie, from the sizes of blocks alone: nobody is asked which of them are kept.

    As `formula`. The ring holds two blocks, so b is no less than two of the smallest. Nothing larger has to be streamed than
    L, where all blocks up to L are enough bytes for W - R + 2 L; with whole blocks that is exceeded by less than one.
    """
    fewest = most = 0
    for model in dict.fromkeys(entry.model for entry in phases):
        mine = [entry for entry in phases if entry.model == model]
        weights, further = mine[0].weight_bytes, sum(entry.passes for entry in mine) - 1
        fewest, most, lacking = fewest + weights, most + weights, weights - room
        if lacking > 0:
            may_go = sorted(mine[0].blocks[mine[0].pinned :])
            largest = next(size for size in may_go if sum(s for s in may_go if s <= size) >= lacking + 2 * size)
            fewest += further * (lacking + 2 * may_go[0])
            most += further * (lacking + 3 * largest)
    return fewest, most


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 when a bound is missed")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(parse()))
