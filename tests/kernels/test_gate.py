"""The compile-ahead gate: the production launches pass it, and it does notice what it is there to notice."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from custom_kernels import gate
from custom_kernels.gate import Code, Compilation

pytest.importorskip("triton")
ROOT = Path(__file__).parents[2]
QUICK = (
    *("long/40/bfloat16", "long tail/64/bfloat16", "long/160/bfloat16"),
    *("short 77/40/bfloat16", "short 128/120/bfloat16", "frames 24/64x5/bfloat16", "frames 24/64x5/float32"),
    *("group_norm.chunks", "group_norm.fold", "group_norm.apply", "group_norm.whole", "group_norm.whole of one place"),
    *("group_norm.whole/float32", "geglu", "geglu/float32", "add_bias", "add_layer_norm.320"),
)


def outside_the_interpreter(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python without TRITON_INTERPRET, which decides when a kernel's module is imported, and with an empty cache."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"PYTHONPATH": str(ROOT), "TRITON_CACHE_DIR": str(folder)}
    command = [sys.executable, "-W", "error", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.law("P12")
def test_production_launches_pass(tmp_path: Path) -> None:
    done = outside_the_interpreter(tmp_path, "-m", "custom_kernels.gate", "--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    compiled = {(line[:34].strip(), line.split("sm_")[1][:2]) for line in lines[:-1]}
    assert compiled == {(name, arch) for name in QUICK for arch in ("80", "90")}
    products = [line for line in lines if line.startswith(("long", "short", "frames")) and "/float32" not in line]
    assert len(products) == 12 and all((" 0 HGMMA" in line) == ("sm_80" in line) for line in products)


BAD = """
from dataclasses import replace
from custom_kernels import gate

rows = {(row.name, row.arch): row for row in gate.rows()}
long = rows["long/40/bfloat16", (90,)]
frames = rows["frames 24/64x5/bfloat16", (80,)]
greedy = replace(long, constants={**long.constants, "BLOCK_N": 128}, num_warps=4)
unaligned = replace(long, constants={**long.constants, "ROW_K": 325, "ROW_V": 325})
for row, arch in ((greedy, 90), (unaligned, 90), (replace(frames, most_registers=64), 80)):
    print("; ".join(gate.failings(row, gate.compile_ahead(row, arch), arch)))
"""


def test_spills_narrow_loads_and_budgets_are_noticed(tmp_path: Path) -> None:
    done = outside_the_interpreter(tmp_path, "-c", BAD)
    assert done.returncode == 0, done.stderr
    greedy, unaligned, budget = done.stdout.splitlines()
    assert "registers are spilled" in greedy
    assert "loads of less than 8 bytes" in unaligned
    assert "registers, the budget is 64" in budget


LAUNCHES = """
import sys
import torch, triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction
from custom_kernels import attention_triton

class Driver:  # of a GPU that is not here: enough of one to compile for
    get_current_device = staticmethod(lambda: 0)
    get_current_stream = staticmethod(lambda device=None: 0)
    get_current_target = staticmethod(lambda: GPUTarget("cuda", int(sys.argv[1]), 32))
    get_active_torch_device = staticmethod(lambda: torch.device("cpu"))

def compiled_only(self, grid):
    assert len(grid) == 1 and 0 < grid[0] < 2**31, grid
    def launch(*arguments, **constants):
        kernel = self.warmup(*arguments, grid=grid, **constants)
        print(self.__name__, kernel.metadata.shared)
    return launch

triton.runtime.driver.set_active(Driver())
JITFunction.__getitem__ = compiled_only

def attend(batch, lq, lk, head_dim, heads=2, repeat=1, masked=False):
    q = torch.zeros(batch, lq, heads * head_dim, dtype=torch.bfloat16)
    k = torch.zeros(batch // repeat, lk, heads * head_dim, dtype=torch.bfloat16)
    mask = torch.zeros(1, 1, lq, lk) if masked else None
    attention_triton.attention(q, k, k, heads, mask)

attend(1, 1, 129, 16, heads=1, masked=True)  # ones become constants
attend(2, 256, 256, 40)
attend(4, 128, 77, 64, repeat=2)
attend(1, 1, 1, 48, heads=1)
film = torch.zeros(1, 24, 1, 64, dtype=torch.bfloat16)
attention_triton.frame_attention(film, film, film, 1)
"""


@pytest.mark.parametrize("arch", ["80", "90"])
def test_launches_of_the_host_compile_as_they_are(arch: str, tmp_path: Path) -> None:
    """The way from a call to machine code that a GPU would take, up to the launch: options, types, integers that are 1."""
    done = outside_the_interpreter(tmp_path, "-c", LAUNCHES, arch)
    assert done.returncode == 0, done.stderr
    kernels = [line.split() for line in done.stdout.splitlines()]
    assert [name for name, _ in kernels] == [
        "long_attention", "long_attention", "short_attention", "packed_attention", "packed_attention",
    ]  # fmt: skip
    assert all(0 < int(shared) <= gate.SHARED_LIMIT[int(arch)] for _, shared in kernels)


def a_row() -> Compilation:
    return Compilation("a", None, {}, "bfloat16", (), num_warps=4, num_stages=2)


FINE = Code(100, 0, 40_000, {"HGMMA.64x64x16.F32": 8, "LDGSTS.E.BYPASS.128": 4, "LDG.E.64": 1, "STG.E.128": 2})


@pytest.mark.parametrize(
    ("row", "code", "says"),
    [
        (a_row(), FINE, []),
        (a_row(), replace(FINE, stack=8), ["spilled: 8 bytes"]),
        (a_row(), replace(FINE, instructions={**FINE.instructions, "STL.64": 3}), ["3 loads and stores"]),
        (a_row(), replace(FINE, shared=240_000), ["240000 bytes of shared memory"]),
        (replace(a_row(), fewest_warps=32), FINE, ["16 warps fit a multiprocessor, should be 32"]),
        (
            a_row(),
            replace(FINE, instructions={"LDG.E.128": 4, "HMMA.16816.F32": 4}),
            ["no tensor-core instruction HGMMA"],
        ),
        (a_row(), replace(FINE, instructions={**FINE.instructions, "LDG.E.U16": 5}), ["5 loads of less than 8 bytes"]),
        (replace(a_row(), narrow_loads=5), replace(FINE, instructions={**FINE.instructions, "LDG.E.U16": 5}), []),
        (a_row(), replace(FINE, instructions={}), ["was not understood"]),
    ],
)
def test_failings_are_told_in_words(row: Compilation, code: Code, says: list[str]) -> None:
    wrong = gate.failings(row, code, 90)
    assert len(wrong) == len(says)
    assert all(part in text for part, text in zip(says, wrong, strict=True))


def test_blocks_are_limited_by_registers_shared_memory_and_threads() -> None:
    assert Code(128, 0, 0).blocks(90, 8) == 2
    assert Code(129, 0, 0).blocks(90, 8) == 1
    assert Code(16, 0, 100_000).blocks(90, 4) == 2
    assert Code(16, 0, 0).blocks(90, 4) == 16


def test_interpreted_kernels_cannot_be_compiled(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert gate.main(["--quick"]) == 2
    assert "unset it" in capsys.readouterr().err
