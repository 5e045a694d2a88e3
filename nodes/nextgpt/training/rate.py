"""How the learning rate goes: up in a straight line, then down by a cosine or a line, or on as it is."""

from __future__ import annotations

import math

from nodes.nextgpt.training.plan import Plan


def rate(plan: Plan, step: int) -> float:
    """Share of the highest rate in step 0, 1, ...; the last step of a cosine or line still moves a little."""
    rising = round(plan.warmup * plan.steps)
    if step < rising:
        return (step + 1) / rising
    if plan.schedule == "constant":
        return 1.0
    done = (step - rising) / max(1, plan.steps - rising)
    return 0.5 * (1 + math.cos(math.pi * done)) if plan.schedule == "cosine" else 1 - done
