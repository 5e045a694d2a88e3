"""What a recipe costs: floating-point operations of every stage, and the orders that a host gives, counted on real samples.

    python -m nodes.nextgpt.training.cost mini [--rate R] [--microseconds M] [--precision float32]

rate: operations a second that one may count on, 3e13 by default: small layers keep an accelerator waiting for work, so
this is a thirtieth of what an H200 does at best in bfloat16. microseconds: what it takes to order one operation from
PyTorch, 10 by default; of small models that is the longer time. precision: instead of the plans', whose casts are orders, too.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nodes.nextgpt.training.dependencies import dependencies
from nodes.nextgpt.training.ledger import parameters
from nodes.nextgpt.training.optimiser import optimiser
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import Plan, plans_of
from nodes.nextgpt.training.precision import precision
from nodes.nextgpt.training.seeds import drawer
from nodes.nextgpt.training.stages import open_stage

RECIPES = Path(__file__).resolve().parents[3] / "workflows" / "train"
SAMPLES = 6


class Orders(TorchDispatchMode):
    """Counts what PyTorch is told to compute; another view of a tensor is no computing."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        self.count += not getattr(func, "is_view", False)
        return func(*args, **(kwargs or {}))


def operations(plan: Plan, parts: Parts) -> tuple[float, int]:
    """Operations of one sample, forward and backward, and orders of one step, however many samples it has."""
    from torch.utils.flop_counter import FlopCounterMode

    stage = open_stage(plan, parts)
    weights = {key: tensor for key, tensor in parameters(stage.modules) if tensor.requires_grad}
    steps = optimiser(plan, stage, weights)
    with FlopCounterMode(display=False) as counter:
        loss, _ = stage.loss(drawer(0), SAMPLES)
        loss.backward()
    # The first step of an optimiser also makes what it keeps.
    steps.step()
    with Orders() as orders:
        steps.zero_grad(set_to_none=True)
        with precision(parts.device, plan.precision):
            loss, _ = stage.loss(drawer(1), SAMPLES)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(weights.values()), plan.clip)
        steps.step()
    for module in stage.modules.values():
        module.requires_grad_(False)
    return counter.get_total_flops() / SAMPLES, orders.count


def main(name: str, rate: float, microseconds: float, kind: Any) -> None:
    torch.set_num_threads(1)
    plans = plans_of(json.loads((RECIPES / f"{name}.json").read_text(encoding="utf-8")))
    waits = dependencies(plans)
    total = 0.0
    took: dict[str, float] = {}
    ends: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for stage, plan in plans.items():
            plan = replace(plan, precision=kind or plan.precision)
            each, orders = operations(plan, Parts(plan.preset, Path(folder), Path(folder)))
            whole, minutes = each * plan.batch * plan.steps, orders * plan.steps * microseconds / 6e7
            total += whole
            took[stage] = minutes
            ends[stage] = minutes + max((ends[earlier] for earlier in waits[stage]), default=0.0)
            print(
                f"{stage:20} {each / 1e9:8.2f} GFLOP/sample  {plan.steps:>6} x {plan.batch:<4} {whole / 1e15:8.2f} PFLOP"
                f"  {whole / rate / 60:6.1f} min  {orders:>6} orders/step {minutes:6.1f} min"
            )
    print(
        f"{'all':20} {total / 1e15:55.2f} PFLOP  {total / rate / 60:6.1f} min at {rate:.0e} a second, orders"
        f" {sum(took.values()):6.1f} min at {microseconds:g} us each, {max(ends.values()):.1f} min in the longest row of stages"
        " that wait for each other"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("recipe", nargs="?", default="mini")
    parser.add_argument("--rate", type=float, default=3e13)
    parser.add_argument("--microseconds", type=float, default=10.0)
    parser.add_argument("--precision", choices=("float32", "bfloat16"))
    given = parser.parse_args()
    main(given.recipe, given.rate, given.microseconds, given.precision)
