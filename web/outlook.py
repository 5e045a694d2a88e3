"""Before a run: what would be computed, whether its models fit, which of them move, and how long that may take.

What `anyloom plan` says, for programs, with what only a running engine knows: results that are there already, models that
are on the device now, and how long steps of each type took so far.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from graph_engine.engine import Engine
from graph_engine.errors import RequestError
from graph_engine.graph.kinds import ModelKind
from graph_engine.graph.plan import Plan, Step
from graph_engine.models.spec import ModelSpec
from graph_engine.telemetry import Telemetry
from web.asked_models import models_of
from web.forecast import BUS, Report, amount, expected_s, gates_of, report_of
from web.state import House
from web.submission import Submission

READING = 1e9
"""Bytes a second at which weight files are read where nothing was observed yet."""
PATIENCE_S = 60.0
OBSERVED_BYTES = 16 << 20
"""Fewer bytes than these say nothing about a rate."""


class Computing(NamedTuple):
    """seconds: of all wanted steps whose type has been seen, and by node; unknown: the types that have not."""

    steps: int
    cached: int
    seconds: float
    by_node: dict[str, float]
    unknown: tuple[str, ...]


async def outlook(house: House, submission: Submission, device: str = "", budget: int | None = None) -> dict[str, Any]:
    """What `POST /api/v1/plan` answers. budget: bytes, as if the device had so many. Raises as a submission does.

    Load nodes on the way to models are run, which look at files and read no weights.
    """
    engine = house.engine
    document = await submission.resolve(house)
    plan, wanted = await engine.plan(document, values=submission.values, targets=submission.targets)
    nodes = {plan.steps[index].node for index in wanted}
    device = device or engine.devices[0]
    found: list[tuple[Step, list[ModelSpec]]] = []
    if any(isinstance(link.input.kind, ModelKind) for index in wanted for link in plan.steps[index].links):
        targets = submission.targets or document.get("targets", [])
        found = await _models(engine, {**document, "targets": targets}, submission.values)
    found = [(step, specs) for step, specs in found if step.node in nodes and specs]
    rate, observed = bandwidth_of(engine.telemetry, device)
    report = await asyncio.to_thread(report_of, engine, found, gates_of(plan.steps), device, rate, budget)
    computing = computing_of(engine, plan, wanted, report)
    return told(report, {spec.key: spec.family for _, specs in found for spec in specs}, computing, engine, observed)


async def _models(
    engine: Engine, document: Mapping[str, Any], values: Mapping[str, Any]
) -> list[tuple[Step, list[ModelSpec]]]:
    """What load nodes give. Raises RequestError when they cannot run now."""
    if engine.queue()["held"]:
        raise RequestError(
            "load nodes cannot be asked while the queue is held.", remedy="Release the queue.", code="held"
        )
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await models_of(engine, document, values)
    except TimeoutError:
        raise RequestError(
            f"the load nodes took longer than {PATIENCE_S:g} s; other runs keep every thread busy.",
            remedy="Ask again when less is going on.",
            code="busy",
        ) from None


def computing_of(engine: Engine, plan: Plan, wanted: frozenset[int], report: Report) -> Computing:
    """report: of the steps with models, whose sizes are known better there."""
    by_node, unknown = {}, set()
    lasts = {use.step: use.usual for use in report.uses}
    for index in wanted:
        type, literals = plan.steps[index].type, plan.steps[index].literals
        usual = lasts.get(plan.steps[index].node)
        if usual is None:
            usual = engine.usual_s(type, literals, report.device)
        if usual is None:
            unknown.add(type.id)
        else:
            by_node[plan.steps[index].node] = usual
    cached = len(plan.steps) - len(wanted)
    return Computing(len(wanted), cached, sum(by_node.values()), by_node, tuple(sorted(unknown)))


def bandwidth_of(telemetry: Telemetry, device: str) -> tuple[float, bool]:
    """Bytes a second to the device, and whether that was observed: over all that came so far, as far as it is kept.

    Blocks are asked for many at a time and come one after the other: a second in which several are on their way is one.
    """
    spans = [
        span for span in list(telemetry.spans) if span.device == device and span.what in ("load", "copy") and span.bytes
    ]
    bytes, seconds, until = sum(span.bytes for span in spans), 0.0, -math.inf
    for begin_s, end_s in sorted((span.begin_s, span.end_s) for span in spans):
        seconds += max(0.0, end_s - max(begin_s, until))
        until = max(until, end_s)
    if bytes >= OBSERVED_BYTES and seconds > 0:
        return bytes / seconds, True
    return (READING if device == "cpu" else BUS), False


def told(
    report: Report, models: dict[str, str], computing: Computing, engine: Engine, observed: bool
) -> dict[str, Any]:
    """The answer. A model that is on the device now is not copied for its first use."""
    [entry] = [entry for entry in engine.memory()["devices"] if entry["device"] == report.device]
    there = {model["family"]: model["weight_bytes"] for model in entry["models"]
             if model["key"] in models and model["share"] == 1.0}  # fmt: skip
    uses, moving, copied, spared_bytes = [], set(), 0, []
    for use in report.uses:
        spared = min(use.copied, there.pop(use.model, 0))
        if use.copied > spared:
            moving.add(use.model)
        copied += use.copied - spared
        spared_bytes.append(spared)
        uses.append({
            "node": use.step, "model": use.model, "weight_bytes": use.weights, "kept_bytes": use.kept,
            "streamed_bytes": use.streamed, "passes": use.passes, "copied_bytes": use.copied - spared, "here": bool(spared),
        })  # fmt: skip
    fits = "no" if report.problem else "streamed" if any(use.streamed for use in report.uses) else "whole"
    copy_s = copied / report.bandwidth
    others = sum(
        seconds for node, seconds in computing.by_node.items() if node not in {use.step for use in report.uses}
    )
    expected = others + expected_s(report.uses, report.bandwidth, spared_bytes)
    answer = {
        "fits": fits,
        "problem": report.problem,
        "device": report.device,
        "budget_bytes": report.budget,
        "bandwidth": report.bandwidth,
        "bandwidth_observed": observed,
        "models": uses,
        "moving": len(moving),
        "copied_bytes": copied,
        "working_bytes": report.working,
        "weights_here": report.here,
        "steps": computing.steps,
        "cached": computing.cached,
        "copy_s": round(copy_s, 3),
        "compute_s": round(computing.seconds, 3),
        "expected_s": round(expected, 3),
        "unknown": list(computing.unknown),
    }
    return answer | {"summary": summary(answer)}


def summary(answer: dict[str, Any]) -> str:
    """One line for a button: `fits in 8.0 GB: 14.6 s, 2 models move`."""
    if answer["fits"] == "no":
        return f"does not fit in {amount(answer['budget_bytes'])}: {answer['problem']}"
    if not answer["steps"]:
        return "nothing to compute: every result is there"
    seconds = answer["expected_s"]
    time = f"{seconds:.1f} s" if not answer["unknown"] else f"{seconds:.1f} s and what is new" if seconds else "new"
    if not answer["models"]:
        return f"{time}, no model"
    moving = (
        f"{answer['moving']} model{'s' if answer['moving'] != 1 else ''} move{'s' if answer['moving'] == 1 else ''}"
    )
    how = "streams in" if answer["fits"] == "streamed" else "fits in"
    return f"{how} {amount(answer['budget_bytes'])}: {time}, {moving if answer['moving'] else 'no model moves'}"
