"""Which models a workflow uses, asked of its load nodes: they look at files and read no weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graph_engine.engine import Engine
from graph_engine.errors import ModelError
from graph_engine.graph.kinds import ModelKind
from graph_engine.graph.plan import Step, StepLink
from graph_engine.models.spec import ModelSpec

ASKING = "anyloom plan"
"""The client of runs that only look for models."""
FIRST = 1_000_000
GRACE_S = 10.0


async def models_of(
    engine: Engine, document: Mapping[str, Any], values: Mapping[str, Any]
) -> list[tuple[Step, list[ModelSpec]]]:
    """The steps that use models, in order, each with what arrives at its model ports.

    Only what models come from is run: load nodes, which look at files and read no weights. Raises what they raise.
    """
    planned, _ = await engine._planner.plan(document, values or None, None)
    steps = planned.plan.steps
    wanted = [(step, model_links(step)) for step in steps if model_links(step)]
    sources = {link.source for _, links in wanted for link in links}
    if not sources:
        return []
    asked = [steps[index].node for index in sorted(sources)]
    record = await engine.submit(document, values=values or None, targets=asked, client=ASKING, priority=FIRST)
    try:
        record = await engine.wait(record.id)
    finally:  # a question leaves no run behind, even if nobody waits for the answer any more
        if await engine.cancel(record.id):
            await engine.wait(record.id, GRACE_S)
        await engine.delete([record.id])
    if record.status != "succeeded":
        stated = [(step, [published(steps[link.source], link.output) for link in links]) for step, links in wanted]
        if all(spec is not None for _, specs in stated for spec in specs):
            return [(step, [spec for spec in specs if spec is not None]) for step, specs in stated]
        problem = record.errors[0] if record.errors else {"message": f"the load nodes {record.status}."}
        raise ModelError(
            str(problem["message"]), remedy=str(problem.get("remedy", "")), code=str(problem.get("code", "")),
            node=str(problem.get("node", "")),
        )  # fmt: skip
    found = []
    for step, links in wanted:
        arrived = [await engine.artifact(steps[link.source].key, link.output) for link in links]
        found.append((step, [spec for spec in arrived if isinstance(spec, ModelSpec)]))
    return found


def published(load: Step, output: int) -> ModelSpec | None:
    """What a load node of NExT-GPT would give if the files of its preset were here: a spec without files."""
    from nodes.nextgpt.preset import PRESETS

    preset = PRESETS.get(str(load.literals.get("preset", "")))
    part = load.type.outputs[output].name
    if load.type.id != "nextgpt.load":
        part = load.type.id.removeprefix("nextgpt.load_").replace("output_projector", "projector")
        part = f"{load.literals.get('modality')}_{part}" if part in ("projector", "decoder") else part
    if preset is None or part not in preset.parts:
        return None
    entry = preset.parts[part]
    return ModelSpec(entry.family, entry.config(), (), entry.dtype, entry.extras)


def model_links(step: Step) -> list[StepLink]:
    return [link for link in step.links if isinstance(link.input.kind, ModelKind)]
