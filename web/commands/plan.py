"""`anyloom plan`: before a run, whether its models fit, which are streamed, what is copied when and how long that takes."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from graph_engine.engine import Engine
from graph_engine.errors import ModelError, OutOfMemory
from graph_engine.graph.kinds import ModelKind
from graph_engine.graph.plan import Step, StepLink
from graph_engine.memory.blocks import Block, pack, pinned, sizes
from graph_engine.memory.devices import find_devices
from graph_engine.memory.forecast import Phase, Stretch, forecast
from graph_engine.memory.reservations import models_of as models_of_step
from graph_engine.memory.reservations import passes_of
from graph_engine.memory.residency import Coming, Residency
from graph_engine.memory.streaming import least_room, split
from graph_engine.models.catalog import Catalog
from graph_engine.models.spec import ModelSpec
from web.commands.flags import settings_of
from web.commands.run import find
from web.commands.session import LocalSession

BUS = 55e9
"""Bytes a second of pinned copies over PCIe 5.0 x16 that one may count on (specs of the project); older cards have half."""
PROBE_BYTES = 256 << 20
GB = 1e9
ASKING = "anyloom plan"
"""The client of runs that only look for models."""
FIRST = 1_000_000
GRACE_S = 10.0


@dataclass(frozen=True)
class Use:
    """A model at work in a step: bytes of its weights, of what stays, of what every pass copies, and of copies in this step.

    seconds  of these copies, with all passes
    during   the step that computes while this model, or `ahead` bytes of it, comes; empty when it comes once it is used
    passes   how often the step goes through it, as its type says: most tokens, or denoising steps
    beside   it computes while it is copied; else it is there before
    usual    seconds that steps of this type and size took so far; None where none was seen
    """

    step: str
    model: str
    weights: int
    kept: int
    streamed: int
    copied: int
    seconds: float
    during: str = ""
    ahead: int = 0
    passes: int = 1
    beside: bool = False
    usual: float | None = None


@dataclass(frozen=True)
class Report:
    """What will happen, all passes of each model. problem: why it cannot; then `uses` end before it."""

    device: str
    budget: int
    bandwidth: float
    uses: tuple[Use, ...]
    copied: int
    seconds: float
    problem: str = ""
    working: int = 0
    """The most that a step needs beside its models, as far as nodes say."""
    here: bool = True
    """The weights are on this machine; else the sizes are those that the preset states."""


async def plan(arguments: argparse.Namespace) -> int:
    settings = replace(settings_of(arguments), cache="bytes:64MB")
    engine = await Engine.open(settings)
    try:
        session = LocalSession(engine, "anyloom plan")
        document = await find(session, arguments.workflow)
        values = {setting.name: setting.literal("") for setting in arguments.set}
        found = await models_of(engine, document, values)
        device = (settings.devices or find_devices())[0]
        bandwidth = float(arguments.bandwidth or (BUS if device != "cpu" else reading_rate(found)))
        planned, _ = await engine._planner.plan(document, values or None, None)
        report = report_of(engine, found, gates_of(planned.plan.steps), device, bandwidth)
    finally:
        await engine.close()
    if arguments.json:
        print(json.dumps(asdict(report), indent=2))
    else:
        measured = device == "cpu" and report.here
        show(report, "as given" if arguments.bandwidth else "as files are read here" if measured else "assumed")
    return 1 if report.problem else 0


async def models_of(
    engine: Engine, document: Mapping[str, Any], values: Mapping[str, Any]
) -> list[tuple[Step, list[ModelSpec]]]:
    """The steps that use models, in order, each with what arrives at its model ports.

    Only what models come from is run: load nodes, which look at files and read no weights. Raises what they raise.
    """
    planned, _ = await engine._planner.plan(document, values or None, None)
    steps = planned.plan.steps
    wanted = [(step, _model_links(step)) for step in steps if _model_links(step)]
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


def blocks_of(spec: ModelSpec, catalog: Catalog, device: str) -> list[Block]:
    """The blocks of a model, from its files, or from its sizes alone where there are none."""
    import torch

    if catalog[spec.family].is_whole(spec):
        return [Block((), catalog[spec.family].size_of(spec), pinned=True)]
    if spec.files:
        from graph_engine.memory.outline import Outline

        return Outline(spec, catalog[spec.family], device).blocks
    with torch.device("meta"):
        module = catalog[spec.family].build(spec.config).to(getattr(torch, spec.dtype))
    return pack(module)


def _model_links(step: Step) -> list[StepLink]:
    return [link for link in step.links if isinstance(link.input.kind, ModelKind)]


def report_of(
    engine: Engine,
    found: list[tuple[Step, list[ModelSpec]]],
    gates: Sequence[int],
    device: str,
    bandwidth: float,
    budget: int | None = None,
) -> Report:
    """The forecast of copies, with the passes that node types state. budget: in bytes, instead of the device's own."""
    budget = engine.models.budget_of(device) if budget is None else budget
    models: dict[str, list[Block]] = {}
    whole: set[str] = set()
    phases: list[Phase] = []
    names: list[tuple[str, str]] = []
    places: list[Step] = []
    usual: list[float | None] = []
    for step, arrived in found:
        ports = dict(zip((link.input.name for link in _model_links(step)), arrived, strict=True))
        values = {**step.literals, **ports}
        lasts = engine.usual_s(step.type, values, device)
        working = engine.provision.working_bytes(step.type, values, device)
        for spec in models_of_step(step.type, step.literals, ports):
            if spec.key not in models:
                models[spec.key] = blocks_of(spec, engine.catalog, device)
                if not engine.models.movers.in_pieces(device, spec):
                    whole.add(spec.key)
            blocks = models[spec.key]
            bytes = sizes(blocks)
            passes = passes_of(step.type, values) if sum(bytes) > budget - working else 1  # what stays comes once
            phases.append(Phase(spec.key, bytes, (0.0,) * len(bytes), passes, working, pinned(blocks)))
            names.append((step.node, spec.family))
            places.append(step)
            usual.append(lasts)
    problem, done = "", len(phases)
    while True:
        try:
            result = forecast(phases[:done], budget, bandwidth) if done else None
            break
        except OutOfMemory:  # the first one that does not fit ends the list
            done -= 1
    stretches = result.stretches if result is not None else ()
    ahead = brought_ahead(phases[:done], places, gates, budget, whole)
    uses = tuple(
        _use(phase, stretch, budget, phase.model not in whole, lasts, *name, *came)
        for phase, stretch, lasts, name, came in zip(phases, stretches, usual, names, ahead, strict=False)
    )
    if done < len(phases):
        last, working = phases[done], phases[done].working_bytes
        least = least_room(last.blocks, pinned=last.pinned)
        beside = f" and {amount(working)} for its work" if working else ""
        problem = (
            f"{names[done][0]}: {names[done][1]} ({amount(last.weight_bytes)}) needs {amount(least)} of weights at "
            f"once{beside}, even block by block; the budget is {amount(budget)}."
        )
    copied = sum(use.copied for use in uses)
    working_most = max((phase.working_bytes for phase in phases), default=0)
    here = all(spec.files for _, specs in found for spec in specs)
    return Report(device, budget, bandwidth, uses, copied, copied / bandwidth, problem, working_most, here)


def brought_ahead(
    phases: list[Phase], steps: list[Step], gates: Sequence[int], budget: int, whole: Collection[str]
) -> list[tuple[str, int]]:
    """For each use, the step before it that computes while the model comes, and how many bytes of it; ("", 0) for none.

    As the engine decides it (`Residency.bring`), when every step takes long enough. gates: see `gates_of`. whole: models that
    come whole or not at all. What hangs on a step that may leave its outputs out comes after that step at the soonest.
    """
    residency = Residency("plan", budget)
    came = [("", 0)] * len(phases)
    for number, phase in enumerate(phases):
        here = residency.residents.get(phase.model)
        streamed = phase.weight_bytes > budget - phase.working_bytes
        if here is None and not streamed:
            residency.admit(phase.model, phase.weight_bytes)
        elif here is not None and not streamed and here.bytes < phase.weight_bytes:
            residency.grow(phase.model, phase.weight_bytes)
        if streamed:  # it takes all the room there is
            residency.residents.clear()
            continue
        later = range(number + 1, len(phases))
        uses = {
            other: next((n for n in later if phases[n].model == other), None) for other in {p.model for p in phases}
        }
        upcoming = uses[phase.model]
        residency.lease(phase.model, None if upcoming is None else upcoming - number)
        coming = []
        for other in later:
            if gates[steps[other].position] > steps[number].position:
                break
            again = next((n for n in range(other + 1, len(phases)) if phases[n].model == phases[other].model), None)
            working = max(entry.working_bytes for entry in phases[number : other + 1])
            least = 0 if phases[other].model in whole else least_room(phases[other].blocks, pinned=phases[other].pinned)
            position = residency.clock - number
            coming.append(
                Coming(
                    phases[other].model, phases[other].weight_bytes, position + other,
                    float("inf") if again is None else position + again, working, least,
                )
            )  # fmt: skip
        residency.expect(coming)
        while (found := residency.bring(coming)) is not None:
            first = next(n for n in later if phases[n].model == found[0])
            came[first] = steps[number].node, found[1]
        residency.release(phase.model)
    return came


def gates_of(steps: Sequence[Step]) -> list[int]:
    """For each step the last one before it that may leave out what it cannot do without; -1 for none."""
    gates: list[int] = []
    for step in steps:
        sources = [link.source for link in step.links if link.input.required and not link.input.lazy]
        found = [max(gates[source], source if steps[source].type.skips else -1) for source in sources if source >= 0]
        gates.append(max(found, default=-1))
    return gates


def _use(
    phase: Phase,
    stretch: Stretch,
    budget: int,
    pieces: bool,
    usual: float | None,
    step: str,
    family: str,
    during: str,
    ahead: int,
) -> Use:
    """pieces: it comes block by block even where it fits."""
    found = split(phase.blocks, budget - phase.working_bytes, pinned=phase.pinned)
    streamed = sum(phase.blocks[index] for index in found.streamed) if found is not None else 0
    kept, copied = phase.weight_bytes - streamed, stretch.moved_bytes
    seconds = stretch.end_s - stretch.begin_s
    beside = pieces or bool(streamed or during)
    return Use(
        step, family, phase.weight_bytes, kept, streamed, copied, seconds, during, ahead, phase.passes, beside, usual
    )


def reading_rate(found: list[tuple[Step, list[ModelSpec]]]) -> float:
    """Bytes a second at which the largest weight file is read here, as far as the system has it in its cache or not."""
    files = {file.path: file.bytes for _, specs in found for spec in specs for file in spec.files}
    if not files:
        return BUS
    path = max(files, key=lambda name: files[name])
    buffer, done, began = bytearray(4 << 20), 0, time.perf_counter()
    with Path(path).open("rb", buffering=0) as file:
        while done < PROBE_BYTES and (count := file.readinto(buffer)):
            done += count
    return max(done, 1) / max(time.perf_counter() - began, 1e-6)


def show(report: Report, how: str) -> None:
    """how: where the rate of copies comes from."""
    print(f"{report.device}: {amount(report.budget)} for models, copies at {report.bandwidth / GB:.1f} GB/s ({how})\n")
    if not report.here:
        print("Weight files are missing; these are the sizes of the preset.\n")
    if not report.uses and not report.problem:
        print("No step uses a model.")
        return
    if report.uses:
        show_uses(report)
    if report.problem:
        print(f"It does not fit. {report.problem}")
        return
    streamed = [use for use in report.uses if use.streamed]
    fits = "It runs, streamed where it does not fit." if streamed else "It fits."
    print(f"{fits} Copies: {amount(report.copied)} in {report.seconds:.3g} s.")
    if any(use.passes > 1 for use in streamed):
        print("A pass is a token or a denoising step; as many are counted as the step may make.")
    if unsaid := sorted({use.step for use in streamed if use.passes == 1}):
        print(f"Counted with one pass, because their nodes state none: {', '.join(unsaid)}.")
    if not report.working:
        print("What the nodes need beside their models they do not say: leave room for it.")
    known = {use.step: use.usual for use in report.uses if use.usual is not None}
    if known:
        print(f"Expected, with computing as it went so far: {expected_s(report.uses):.3g} s.")
    if len(known) < len({use.step for use in report.uses}):
        print("How long a step computes is known once one of its type and size ran with this --data.", end=" ")
    print("Copies beside computing cost no time if they are shorter.")


def expected_s(uses: Sequence[Use], bandwidth: float = 0.0, spared: Sequence[int] = ()) -> float:
    """Seconds of all these steps one after the other: of each the longer of copying and computing, or their sum where it is
    copied before it computes. spared: bytes of each use that need not be copied, at so many bytes a second."""
    less = [bytes / bandwidth for bytes in spared] or [0.0] * len(uses)
    steps: dict[str, tuple[float, float, float]] = {}
    for use, gone in zip(uses, less, strict=True):
        before, beside, _ = steps.get(use.step, (0.0, 0.0, 0.0))
        copies = max(0.0, use.seconds - gone)
        here = (before, beside + copies) if use.beside else (before + copies, beside)
        steps[use.step] = (*here, use.usual or 0.0)
    return sum(before + max(beside, usual) for before, beside, usual in steps.values())


def show_uses(report: Report) -> None:
    width, family = max(len(use.step) for use in report.uses), max(len(use.model) for use in report.uses)
    for use in report.uses:
        if use.streamed:
            fate = f"streamed: {amount(use.kept)} stay, every pass copies {amount(use.streamed)}"
            fate += f" in {use.streamed / report.bandwidth:.3g} s"
            if use.passes > 1:
                fate += f", {use.passes} passes {use.seconds:.3g} s"
        else:
            fate = "stays whole while it is used"
        copied = f"copies {amount(use.copied)}" if use.copied else "is there already"
        if use.during and use.copied:
            part = "" if use.ahead == use.weights else f", {amount(use.ahead)} of it"
            copied += f" while {use.during} computes{part}"
        if use.usual is not None:
            fate += f"; such steps took {use.usual:.3g} s so far"
        print(f"{use.step:{width}}  {use.model:{family}}  {amount(use.weights):>8}  {copied}; {fate}")
    print()


def amount(bytes: int) -> str:
    """For people."""
    return f"{bytes / GB:.2f} GB" if bytes >= 1e8 else f"{bytes / 1e6:.2f} MB"
