"""What a recipe costs: floating-point operations of every stage, counted on real samples.

    python -m nodes.nextgpt.training.cost mini [RATE]

RATE: operations a second that one may count on, 3e13 by default: small layers keep an accelerator waiting for work, so
this is a thirtieth of what an H200 does at best in bfloat16.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import torch

from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import Plan, plans_of
from nodes.nextgpt.training.seeds import drawer
from nodes.nextgpt.training.stages import open_stage

RECIPES = Path(__file__).resolve().parents[3] / "workflows" / "train"
SAMPLES = 6


def operations(plan: Plan, parts: Parts) -> float:
    """Of one sample, forward and backward."""
    from torch.utils.flop_counter import FlopCounterMode

    stage = open_stage(plan, parts)
    with FlopCounterMode(display=False) as counter:
        loss, _ = stage.loss(drawer(0), SAMPLES)
        loss.backward()
    for module in stage.modules.values():
        module.requires_grad_(False)
    return counter.get_total_flops() / SAMPLES


def main(name: str, rate: float) -> None:
    torch.set_num_threads(1)
    plans = plans_of(json.loads((RECIPES / f"{name}.json").read_text(encoding="utf-8")))
    total = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for stage, plan in plans.items():
            each = operations(plan, Parts(plan.preset, Path(folder), Path(folder)))
            whole = each * plan.batch * plan.steps
            total += whole
            print(
                f"{stage:20} {each / 1e9:8.2f} GFLOP/sample  {plan.steps:>6} x {plan.batch:<4} {whole / 1e15:8.2f} PFLOP"
                f"  {whole / rate / 60:6.1f} min"
            )
    print(f"{'all':20} {total / 1e15:55.2f} PFLOP  {total / rate / 60:6.1f} min at {rate:.0e} operations a second")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "mini", float(sys.argv[2]) if len(sys.argv) > 2 else 3e13)
