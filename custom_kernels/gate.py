"""Compile the kernels ahead for GPUs that are not here, and read in the machine code what can be read: `python -m
custom_kernels.gate`.

Needs the triton wheel, which brings ptxas, cuobjdump and nvdisasm; no GPU, no driver. A row says how a kernel is launched
in production and what its code must be like: no spills, so many registers and bytes of shared memory, tensor-core
instructions, wide loads. A row that fails is printed with its reasons, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ARCHITECTURES = (80, 90)
# Bytes of shared memory that one block may have, and that a multiprocessor has (CUDA programming guide, technical
# specifications per compute capability). What is compiled for 8.0 also runs on 8.6 and 8.9, which have less: theirs count.
SHARED_LIMIT = {80: 101_376, 90: 232_448}
SHARED_TOTAL = {80: 102_400, 90: 233_472}
REGISTERS = 65_536  # of a multiprocessor
THREADS = 2_048
LOADS = r"LDG(STS)?\b"
SIGNATURES = {"float16": "*fp16", "bfloat16": "*bf16", "float32": "*fp32"}


@dataclass(frozen=True)
class Compilation:
    """A row: a kernel as it is launched, and what its machine code must be like."""

    name: str
    kernel: Any  # the @triton.jit function
    constants: Mapping[str, Any]
    dtype: str
    pointers: tuple[str, ...]
    num_warps: int
    num_stages: int
    singles: tuple[str, ...] = ()  # pointers to float32, whatever the dtype
    floats: tuple[str, ...] = ()
    aligned: tuple[str, ...] = ()  # integers that are multiples of 16 in production
    arch: tuple[int, ...] = ARCHITECTURES
    quick: bool = False  # part of the subset that the tests compile
    tensor_cores: bool = True
    most_registers: int = 255
    fewest_warps: int = 4  # that a multiprocessor holds at one time: what hides the latency of loads and exponentials
    narrow_loads: int = 0  # loads from global memory below 8 bytes that are right (statistics, masks)


@dataclass(frozen=True)
class Code:
    """What the machine code is like."""

    registers: int
    stack: int
    shared: int
    instructions: Mapping[str, int] = field(default_factory=dict)

    def count(self, pattern: str) -> int:
        return sum(times for name, times in self.instructions.items() if re.match(pattern, name))

    def blocks(self, arch: int, num_warps: int) -> int:
        """Blocks that fit a multiprocessor at one time. Registers are given per warp in units of 256."""
        per_warp = -(-max(self.registers, 1) * 32 // 256) * 256
        by_registers = REGISTERS // (per_warp * num_warps)
        by_shared = SHARED_TOTAL[arch] // (self.shared + 1024)
        return min(by_registers, by_shared, THREADS // (32 * num_warps))


def compile_ahead(row: Compilation, arch: int) -> Code:
    """Compile for an architecture and take the machine code apart."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = [parameter.name for parameter in row.kernel.params]
    signature, attrs = {}, {}
    for place, name in enumerate(names):
        if name in row.constants:
            signature[name] = "constexpr"
            continue
        pointer = name in row.pointers or name in row.singles
        scalar = "fp32" if name in row.floats else "i32"
        signature[name] = "*fp32" if name in row.singles else SIGNATURES[row.dtype] if pointer else scalar
        if pointer or name in row.aligned:
            attrs[(place,)] = [["tt.divisibility", 16]]
    source = ASTSource(fn=row.kernel, signature=signature, constexprs=dict(row.constants), attrs=attrs)
    options = {"num_warps": row.num_warps, "num_stages": row.num_stages, "enable_fp_fusion": True}
    compiled = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(compiled.asm["cubin"])
        usage = _said(tools / "cuobjdump", "--dump-resource-usage", cubin)
        listing = _said(tools / "nvdisasm", "-c", cubin)
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    if not found:
        raise RuntimeError(f"cuobjdump says nothing about registers: {usage[:400]!r}")
    instructions: dict[str, int] = {}
    for name in re.findall(r"^\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]+)", listing, re.M):
        instructions[name] = instructions.get(name, 0) + 1
    return Code(int(found[1]), int(found[2]), compiled.metadata.shared, instructions)


def _said(tool: Path, *arguments: object) -> str:
    return subprocess.run([tool, *map(str, arguments)], check=True, capture_output=True, text=True).stdout


def failings(row: Compilation, code: Code, arch: int) -> list[str]:
    """What is wrong with the code, in words; empty if the row passes."""
    wrong = []
    if not code.instructions:
        return ["the listing of nvdisasm was not understood"]
    spills = code.count(r"(LDL|STL)\b")
    if code.stack or spills:
        wrong.append(f"registers are spilled: {code.stack} bytes of stack, {spills} loads and stores")
    if code.registers > row.most_registers:
        wrong.append(f"{code.registers} registers, the budget is {row.most_registers}")
    if code.shared > SHARED_LIMIT[arch]:
        wrong.append(f"{code.shared} bytes of shared memory, a block may have {SHARED_LIMIT[arch]}")
    elif (warps := code.blocks(arch, row.num_warps) * row.num_warps) < row.fewest_warps:
        wrong.append(f"{warps} warps fit a multiprocessor, should be {row.fewest_warps}")
    matrix = "HGMMA" if arch >= 90 else "HMMA"
    if row.tensor_cores and not code.count(rf"{matrix}\b"):
        wrong.append(f"no tensor-core instruction {matrix}")
    # 8 bytes are what a part of 16 columns gives each of 256 threads; rows that are not aligned come in 2 and 4.
    narrow = code.count(LOADS) - code.count(LOADS + r".*\.(64|128)\b")
    if narrow > row.narrow_loads:
        wrong.append(f"{narrow} loads of less than 8 bytes")
    return wrong


def rows() -> list[Compilation]:
    from custom_kernels import attention_gate, pass_gate

    return attention_gate.rows() + pass_gate.rows()


def report(row: Compilation, code: Code, arch: int) -> str:
    mma = code.count(r"HGMMA\b"), code.count(r"HMMA\b")
    return (
        f"{row.name:34} sm_{arch}  {code.registers:3} registers  {code.shared:6} B shared  "
        f"{code.blocks(arch, row.num_warps):2} blocks/SM  {mma[0]:3} HGMMA {mma[1]:3} HMMA  "
        f"{code.count(LOADS):3} loads, {code.count(r'LDGSTS'):3} of them asynchronous"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m custom_kernels.gate", description=__doc__)
    parser.add_argument("--arch", type=int, nargs="+", choices=ARCHITECTURES, default=list(ARCHITECTURES))
    parser.add_argument("--only", default="", help="a regular expression that the names of the rows must contain")
    parser.add_argument("--quick", action="store_true", help="the subset that the tests compile")
    chosen = parser.parse_args(arguments)
    if os.environ.get("TRITON_INTERPRET", "0") not in ("", "0"):
        print("TRITON_INTERPRET is set: interpreted kernels cannot be compiled; unset it", file=sys.stderr)
        return 2
    failed = 0
    began = time.perf_counter()
    selected = [row for row in rows() if re.search(chosen.only, row.name) and (row.quick or not chosen.quick)]
    for row in selected:
        for arch in (arch for arch in chosen.arch if arch in row.arch):
            code = compile_ahead(row, arch)
            wrong = failings(row, code, arch)
            failed += bool(wrong)
            print(report(row, code, arch), "  FAILS: " + "; ".join(wrong) if wrong else "", flush=True)
    print(f"{len(selected)} rows, {failed} failed, {time.perf_counter() - began:.0f} s")
    return 1 if failed or not selected else 0


if __name__ == "__main__":
    sys.exit(main())
