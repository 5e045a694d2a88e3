"""The rows of the compile-ahead gate for attention: every launch of the production models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from custom_kernels import attention_plan as plan
from custom_kernels.gate import ARCHITECTURES, Compilation

POINTERS = ("Q", "K", "V", "OUT", "M")
ALIGNED = ("q_batch8", "k_batch8", "v_batch8", "o_batch8", "q_frame8", "k_frame8", "v_frame8", "o_frame8")

# Head dim and heads of SD 1.5 (40, 80, 160), SD 2 and Zeroscope (64), AudioLDM s (32, 48, 80), m (48, 72, 120), l (64, 96, 160)
HALVES = (40, 64)  # compiled for float16 as well, which differs in the name of an instruction, and with masks
QUICK = ((40, True), (64, False), (160, True))
LONG = ((32, 8), (40, 8), (48, 8), (64, 5), (72, 8), (80, 8), (96, 8), (120, 8), (128, 8), (160, 8))
# Of the text and the smallest levels, and the most keys and values that the kernel may hold: 128 of 120.
SHORT = (
    (40, 8, 77), (64, 5, 77), (80, 8, 77), (160, 8, 77), (160, 8, 64), (80, 8, 64), (120, 8, 64), (64, 20, 45), (120, 8, 128),
)  # fmt: skip
PACKED = ((64, 5, 24), (64, 8, 24), (64, 20, 16), (64, 5, 32))


MASK_LOADS = 64  # a mask may be of any type and stride, so it is read element by element

# Warps that a multiprocessor must hold, by architecture. The hot rows (self-attention of 4096 and 2880, text, frames) have
# more; of the others, eight are two blocks. On 8.x shared memory for one block of a head dim of 160 is all there is.
WARPS = {80: {"long": 8, "short": 4, "packed": 16}, 90: {"long": 8, "short": 8, "packed": 16}}
HOT = {
    (90, "long/40"): 16,
    (90, "long tail/40"): 16,
    (90, "long/64"): 16,
    (90, "long tail/64"): 16,
    (90, "long/80"): 16,
}


def rows() -> list[Compilation]:
    found: dict[Any, Compilation] = {}
    for arch in ARCHITECTURES:
        for dtype in ("bfloat16", "float16"):
            for row in (*_long(dtype, arch), *_short(dtype, arch), *_packed(dtype, arch)):
                same = (row.kernel.__name__, *sorted(row.constants.items()), row.num_warps, row.num_stages, dtype, arch)
                found.setdefault(same, row)
        # Of float32 `auto` takes only films to these kernels.
        found |= {("float32", row.name, arch): row for row in _packed("float32", arch) if row.name.startswith("frames")}
    return list(found.values())


def _long(dtype: str, arch: int) -> Iterator[Compilation]:
    from custom_kernels.attention_kernels import long_attention

    for head_dim, heads in LONG:
        if dtype == "float16" and head_dim not in HALVES:
            continue
        masked = ("masked",) if dtype == "bfloat16" and head_dim in HALVES else ()  # no UNet has masks of long rows
        for which in ("long", "few", *masked):
            for even in (True, False):
                launch = plan.default_launch(which, head_dim, dtype, arch)
                constants = _constants(head_dim, heads, launch)
                constants |= {
                    "BLOCK_N": launch.block_n,
                    "EVEN_N": even,
                    "MASK": which == "masked",
                    **_row_strides(head_dim * heads),
                }
                name = f"{which}{'' if even else ' tail'}/{head_dim}"
                quick = dtype == "bfloat16" and which == "long" and (head_dim, even) in QUICK
                warps = HOT.get((arch, name), WARPS[arch]["long"])
                narrow = MASK_LOADS if which == "masked" else 0
                yield _row(f"{name}/{dtype}", long_attention, constants, dtype, launch, arch, quick, warps, narrow)


def _short(dtype: str, arch: int) -> Iterator[Compilation]:
    from custom_kernels.attention_kernels import short_attention

    for head_dim, heads, keys in SHORT:
        if dtype == "float16" and head_dim not in HALVES:
            continue
        launch = plan.default_launch("short", head_dim, dtype, arch)
        keys0, keys1 = plan.split(keys)
        constants = _constants(head_dim, heads, launch)
        constants |= {"KEYS0": keys0, "KEYS1": keys1, "MASK": False, **_row_strides(head_dim * heads)}
        quick = dtype == "bfloat16" and (head_dim, keys) in ((40, 77), (120, 128))
        # The corner of both second parts, 16 x 16, is less than 8 bytes per thread. It is read once per program.
        corner = 2 if keys1 == constants["SECOND"] == 16 else 0
        warps = WARPS[arch]["short"]
        yield _row(
            f"short {keys}/{head_dim}/{dtype}", short_attention, constants, dtype, launch, arch, quick, warps, corner
        )


def _packed(dtype: str, arch: int) -> Iterator[Compilation]:
    from custom_kernels.attention_kernels import packed_attention

    for head_dim, heads, length in PACKED:
        launch = plan.default_launch("packed", head_dim, dtype, arch)
        # Sequences in rows of their own, and the frames of a film where they lie.
        for name, place in (("packed", 0), ("frames", heads * head_dim)):
            places = dict.fromkeys(("PLACE_Q", "PLACE_K", "PLACE_V", "PLACE_O"), place)
            constants = _constants(head_dim, heads, launch) | {"L": length, **places}
            quick = dtype != "float16" and (name, heads, length) == ("frames", 5, 24)
            name = f"{name} {length}/{head_dim}x{heads}/{dtype}"
            yield _row(name, packed_attention, constants, dtype, launch, arch, quick, WARPS[arch]["packed"])


def _constants(head_dim: int, heads: int, launch: plan.Launch) -> dict[str, Any]:
    first, second = plan.split(head_dim)
    return {
        "HEADS": heads,
        "D": head_dim,
        "FIRST": first,
        "SECOND": second,
        "BLOCK_M": launch.block_m,
        "PRECISION": "ieee",
        "UPCAST": False,
    }


def _row_strides(row: int) -> dict[str, int]:
    return {"ROW_Q": row, "ROW_K": row, "ROW_V": row}


def _row(
    name: str,
    kernel: Any,
    constants: dict[str, Any],
    dtype: str,
    launch: plan.Launch,
    arch: int,
    quick: bool,
    fewest_warps: int,
    narrow_loads: int = 0,
) -> Compilation:
    return Compilation(
        name, kernel, constants, dtype, POINTERS, launch.num_warps, launch.num_stages,
        floats=("qk_scale",), aligned=ALIGNED, arch=(arch,), quick=quick, fewest_warps=fewest_warps,
        narrow_loads=narrow_loads, tensor_cores=dtype != "float32",
    )  # fmt: skip
