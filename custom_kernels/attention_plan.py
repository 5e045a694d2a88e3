"""Which attention kernel computes which shapes, how widths are split, and how a kernel is launched. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

HEAD_DIMS = (16, 32, 40, 48, 64, 72, 80, 96, 120, 128, 160)
LONGEST_SHORT = 128  # keys that `short_attention` holds at once
HELD_BYTES = 65_536  # of keys and values: leaves room for queries and scores in the smallest shared memory, 99 KiB
LONGEST_PACKED = 32  # longer sequences fill a tile by themselves
LONGEST_FRAMES = 64  # but strided ones are packed up to here, because nothing else reads them without a copy
SMALLEST = 16  # what a tensor core takes


def split(width: int) -> tuple[int, int]:
    """The one or two powers of two, at least 16, that hold `width` with the least padding: 40 is (32, 16), 64 (64, 0)."""
    one = max(SMALLEST, 1 << (width - 1).bit_length())
    first = max(SMALLEST, 1 << (width.bit_length() - 1))
    if width <= first:
        return one, 0
    second = max(SMALLEST, 1 << (width - first - 1).bit_length())
    return (first, second) if first + second < one else (one, 0)


def kind(lq: int, lk: int, head_dim: int, repeat: int, masked: bool, element_bytes: int) -> str:
    """The kernel that computes it: "packed", "short" or "long"."""
    if lq == lk and lq <= LONGEST_PACKED and repeat == 1 and not masked:
        return "packed"
    if lk > LONGEST_SHORT:
        return "long"
    held = 2 * sum(split(lk)) * sum(split(head_dim)) * element_bytes
    return "short" if held <= HELD_BYTES else "long"


def long_launch_name(rows: int, lq: int, processors: int, masked: bool) -> str:
    """Masks need registers of their own; "few" is where blocks of 128 queries would leave multiprocessors with less than
    two blocks; else "long"."""
    if masked:
        return "masked"
    return "few" if rows * -(-lq // 128) < 2 * processors else "long"


class Launch(NamedTuple):
    """How a kernel is launched. `block_n` is the keys per step of the long kernel; the others do not use it."""

    block_m: int
    block_n: int
    num_warps: int
    num_stages: int


def launch(which: str, head_dim: int, dtype: str, arch: int, tuned: Mapping[str, Mapping[str, int]]) -> Launch:
    """What the tuned table says, else what the compile-ahead gate (gate.py) has passed for this architecture."""
    default = default_launch(which, head_dim, dtype, arch)
    name = key(which, head_dim, dtype)
    return checked({**default._asdict(), **tuned[name]}, name) if name in tuned else default


def key(which: str, head_dim: int, dtype: str) -> str:
    """The name of a launch in the tuned tables."""
    return f"{which}/{head_dim}/{dtype}"


def checked(sizes: Mapping[str, int], name: str) -> Launch:
    """Raises ValueError for a launch that no kernel can have, such as one from a table that was edited by hand."""
    if set(sizes) == set(Launch._fields):
        launch = Launch(**sizes)
        powers = all(size >= SMALLEST and size & (size - 1) == 0 for size in (launch.block_m, launch.block_n))
        if powers and launch.num_warps in (1, 2, 4, 8, 16) and 1 <= launch.num_stages <= 8:
            return launch
    raise ValueError(
        f"the tuned table has a launch that no kernel can have: {name} is {dict(sizes)}. Blocks are powers of two from "
        "16, warps a power of two up to 16, stages 1 to 8. Write it anew with `python -m custom_kernels.tune`"
    )


def default_launch(which: str, head_dim: int, dtype: str, arch: int) -> Launch:
    """Chosen among launches without spills by what keeps a multiprocessor fullest, as the compile-ahead gate counts it."""
    if dtype == "float32":  # no tensor cores: the products are made by multiply-adds, which need many registers
        return Launch(32, 32, 4, 1)
    if which in ("packed", "short"):
        return Launch(64, 16, 4, 1)
    if which == "masked":
        return Launch(64, 32, 4, 2)
    if 90 <= arch < 120:  # 12.x has neither the wide tensor-core instructions of 9.0 nor its shared memory
        if which == "few" or head_dim in (96, 160):
            return Launch(64, 64, 4, 2)
        return Launch(128, 64, 8, 3 if head_dim <= 64 or head_dim >= 120 else 2)
    if head_dim > 64:
        return Launch(64, 64 if head_dim <= 96 else 32, 4, 2)
    return Launch(64, 32, 4, 3) if which == "few" or head_dim <= 48 else Launch(128, 64, 8, 3)


def candidates(which: str, head_dim: int, arch: int) -> tuple[Launch, ...]:
    """Launches worth trying on a device, the default first; those that do not fit or spill fail or lose by themselves."""
    default = default_launch(which, head_dim, "bfloat16", arch)
    if which == "packed":
        found = [Launch(block, 16, warps, 1) for block in (32, 64, 128) for warps in (2, 4, 8) if block <= 32 * warps]
    elif which == "short":
        found = [Launch(block, 16, block // 16, stages) for block in (64, 128) for stages in (1, 2, 3)]
    else:
        blocks = ((64, 4), (128, 4), (128, 8))
        found = [
            Launch(m, n, warps, stages)
            for m, warps in blocks
            for n in (32, 64, 128)
            for stages in (2, 3, 4)
            if (n == 32) <= (head_dim > 64 or arch < 90) and (m, warps, n) != (128, 4, 128)
        ]
    return tuple(dict.fromkeys([default, *found]))
