"""The tuned table of a device: which implementation is fastest for which sizes, and how its kernels are launched.

A JSON file per device in `custom_kernels/tuned/` (or in the folder that ANYLOOM_TUNED names, which comes first), called
after the device (`nvidia_h200.json`) or its architecture (`sm_90.json`); `python -m custom_kernels.tune` writes it:

    {"made": {"device": ..., "torch": ..., "triton": ...},
     "choices": [{"operation": "attention", "when": {"D": 40, "Lq": [1024, null]}, "use": ["triton", "sdpa.cudnn"]}],
     "launches": {"self/40/bfloat16": {"block_m": 128, "block_n": 64, "num_warps": 4, "num_stages": 3}}}

The first row of `choices` that fits decides; `when` gives a size or an inclusive range per name, and may name "dtype".
A device without a file has the rows of `DEFAULTS`, which follow from arithmetic, not from measurements.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from custom_kernels.device import DeviceFacts
from custom_kernels.implementation import Case

FOLDER = Path(__file__).parent / "tuned"


@dataclass(frozen=True)
class Rule:
    """One row of `choices`."""

    operation: str
    use: tuple[str, ...]  # best first
    when: Mapping[str, Any] = field(default_factory=dict)

    def fits(self, case: Case) -> bool:
        if case.operation != self.operation:
            return False
        for name, wanted in self.when.items():
            if name == "dtype":
                if case.dtype not in (wanted if isinstance(wanted, list | tuple) else [wanted]):
                    return False
                continue
            low, high = wanted if isinstance(wanted, list | tuple) else (wanted, wanted)
            size = case.size(name)
            if (low is not None and size < low) or (high is not None and size > high):
                return False
        return True


@dataclass(frozen=True)
class Tuned:
    """A table as read. `source` says where it came from, for `python -m custom_kernels.tune --show`."""

    choices: tuple[Rule, ...]
    launches: Mapping[str, Mapping[str, int]]
    source: str = "defaults"

    def preferred(self, case: Case) -> tuple[str, ...]:
        for rule in self.choices:
            if rule.fits(case):
                return rule.use
        return ()


# Where nothing was measured on this device: docs/performance.md, "What the model expects".
DEFAULTS = {
    "cuda": Tuned(
        (
            Rule("attention", ("sdpa",), {"dtype": ["float32", "float64"]}),
            Rule("attention", ("sdpa",), {"mask": 1, "Lk": [129, None]}),
            Rule("attention", ("triton", "sdpa"), {"Lk": [1, 128]}),
            Rule("attention", ("sdpa",), {"D": [64, 64]}),
            Rule("attention", ("sdpa",), {"D": [120, 128]}),
            Rule("attention", ("triton", "sdpa")),
            # The gate: what tensor cores do not multiply spills registers where tiles are larger than 32 x 96.
            Rule("frame_attention", ("sdpa",), {"dtype": "float32", "Lq": [33, None]}),
            Rule("frame_attention", ("sdpa",), {"dtype": "float32", "D": [97, None]}),
            Rule("frame_attention", ("triton", "sdpa")),
            Rule("group_norm_silu", ("triton", "torch")),
            Rule("geglu", ("triton", "torch")),
            Rule("add_scaled", ("torch",)),
            Rule("add_bias", ("triton", "torch")),
            Rule("add_layer_norm", ("triton", "torch")),
            Rule("layer_norm", ("torch",)),
        ),
        {},
    ),
}
# Elsewhere exactly what diffusers calls: results on a CPU do not depend on this folder.
PLAIN = Tuned(
    (
        Rule("attention", ("sdpa",)),
        Rule("frame_attention", ("sdpa",)),
        *(
            Rule(name, ("torch",))
            for name in ("group_norm_silu", "geglu", "add_scaled", "add_bias", "add_layer_norm", "layer_norm")
        ),
    ),
    {},
)


def tuned_for(facts: DeviceFacts) -> Tuned:
    """The table that holds for a device. Read once per process; `forget()` reads again."""
    return _tuned_for(facts, os.environ.get("ANYLOOM_TUNED", ""))


@lru_cache(maxsize=64)
def _tuned_for(facts: DeviceFacts, extra: str) -> Tuned:
    defaults = DEFAULTS.get(facts.type, PLAIN)
    for folder in (Path(extra) if extra else None, FOLDER):
        for name in facts.table_names:
            path = folder / f"{name}.json" if folder else None
            if path and path.is_file():
                table = read(path)
                # A table may know only some operations; the rest keeps its defaults.
                return Tuned(table.choices + defaults.choices, {**defaults.launches, **table.launches}, table.source)
    return defaults


def forget() -> None:
    _tuned_for.cache_clear()


def read(path: Path) -> Tuned:
    """Read a table. Raises ValueError that names the file and what is wrong with it."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        choices = tuple(
            Rule(str(row["operation"]), tuple(map(str, row["use"])), dict(row.get("when", {})))
            for row in data.get("choices", [])
        )
        launches = {str(k): {str(n): int(x) for n, x in v.items()} for k, v in data.get("launches", {}).items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"the tuned table {path} cannot be read ({type(error).__name__}: {error}); "
            "write it anew with `python -m custom_kernels.tune`, or delete it to use the defaults"
        ) from error
    return Tuned(choices, launches, str(path))


def write(
    path: Path, made: Mapping[str, str], choices: Sequence[Rule], launches: Mapping[str, Mapping[str, int]]
) -> None:
    """Write a table so that a crash leaves the old one or the new one."""
    data = {
        "made": dict(made),
        "choices": [{"operation": rule.operation, "when": dict(rule.when), "use": list(rule.use)} for rule in choices],
        "launches": {key: dict(launches[key]) for key in sorted(launches)},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)
