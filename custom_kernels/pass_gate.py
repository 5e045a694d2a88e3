"""The gate's rows for the kernels without a matrix product (gate.py): norms, GEGLU, sums. Shapes are those of SD 1.5.

They wait for memory and nothing else, so what counts is wide loads, few registers and many threads at a time.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from custom_kernels.gate import Compilation
from custom_kernels.group_norm import plan_of, warps_of


def rows() -> list[Compilation]:
    from custom_kernels import geglu, group_norm, residual

    plan = plan_of(4096, 320)
    lines = {"SCALED": True, "BIASED": True, "HAS_ADD": True, "HAS_SCALE": False, "HAS_SHIFT": False}
    tile = {"BLOCK_C": plan.block_c}
    given = ("WEIGHT", "BIAS", "ADD", "SCALE", "SHIFT")
    found = [
        _row(
            "group_norm.chunks",
            group_norm._chunks,
            {**tile, "BLOCK_L": plan.read_l},
            ("X",),
            8,
            parts=("MEAN", "SPREAD"),
            quick=True,
        ),
        _row(
            "group_norm.fold",
            group_norm._fold,
            {"SIZE": 10, **lines, "BLOCK_K": 32, "BLOCK_G": 16},
            given,
            4,
            parts=("MEAN", "SPREAD", "A", "B"),
            quick=True,
            narrow=4,
        ),
        _row(
            "group_norm.apply",
            group_norm._apply,
            {**tile, "SILU": True, "BLOCK_L": plan.write_l},
            ("X", "Y"),
            4,
            parts=("A", "B"),
            quick=True,
        ),
        _row(
            "group_norm.whole",
            group_norm._whole,
            {"SIZE": 40, **lines, "SILU": True, "BLOCK_L": 256, "BLOCK_G": 64},
            ("X", *given, "Y"),
            warps_of(256 * 64),
            quick=True,
        ),
        # Triton makes a constant of an integer that is 1.
        _row(
            "group_norm.whole of one place",
            group_norm._whole,
            {"SIZE": 40, **lines, "SILU": True, "BLOCK_L": 1, "BLOCK_G": 64, "length": 1},
            ("X", *given, "Y"),
            4,
            quick=True,
            narrow=4,
        ),
        _row(
            "group_norm.fold of one place",
            group_norm._fold,
            {"SIZE": 10, **lines, "BLOCK_K": 1, "BLOCK_G": 16, "length": 1},
            given,
            4,
            parts=("MEAN", "SPREAD", "A", "B"),
            narrow=5,
        ),
        _row("geglu", geglu._geglu, {"BLOCK_R": 2, "BLOCK_I": 512}, ("X", "Y"), 4, quick=True),
        _row(
            "add_bias",
            residual._add,
            {"BIASED": True, "BLOCK_R": 4, "BLOCK_C": 512},
            ("X", "RESIDUAL", "BIAS", "Y"),
            4,
            quick=True,
        ),
        *(
            _row(
                f"add_layer_norm.{channels}",
                residual._add_layer_norm,
                {
                    "SCALED": True,
                    "BIASED": True,
                    "BLOCK_C": block,
                    "BLOCK_R": max(1, 2048 // block),
                },
                ("X", "RESIDUAL", "WEIGHT", "BIAS", "SUM", "NORM"),
                4,
                quick=channels == 320,
            )
            for channels, block in ((320, 512), (1280, 2048))
        ),
    ]
    # `auto` takes float32 to these kernels, too. That an integer is 1 makes no difference between types.
    wide = [
        replace(row, name=f"{row.name}/float32", dtype="float32", quick=row.name in ("group_norm.whole", "geglu"))
        for row in found
        if "one place" not in row.name
    ]
    # A group that is held whole takes twice the registers; one block of 16 warps is what fits then.
    held: dict[str, Any] = {"most_registers": 128, "fewest_warps": 16}
    return found + [replace(row, **held) if row.name.startswith("group_norm.whole") else row for row in wide]


def _row(
    name: str,
    kernel: Any,
    constants: dict[str, Any],
    pointers: tuple[str, ...],
    warps: int,
    parts: tuple[str, ...] = (),
    quick: bool = False,
    narrow: int = 0,
) -> Compilation:
    return Compilation(
        name=name,
        kernel=kernel,
        constants=constants,
        dtype="bfloat16",
        pointers=pointers,
        singles=parts,
        num_warps=warps,
        num_stages=3,
        floats=("eps",),
        aligned=tuple(name for name in ("C", "INNER") if name in kernel.arg_names),
        quick=quick,
        tensor_cores=False,
        most_registers=96,
        fewest_warps=24,
        narrow_loads=narrow,
    )
