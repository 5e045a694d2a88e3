"""What a device will hold and copy while a workflow runs: of each use of a model what stays, what moves when, and how long."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from graph_engine.engine import Engine
from graph_engine.errors import OutOfMemory
from graph_engine.graph.plan import Step
from graph_engine.memory.blocks import Block, pack, pinned, sizes
from graph_engine.memory.forecast import Phase, Stretch, forecast
from graph_engine.memory.reservations import models_of as models_of_step
from graph_engine.memory.reservations import passes_of
from graph_engine.memory.residency import Coming, Residency
from graph_engine.memory.streaming import least_room, split
from graph_engine.models.catalog import Catalog
from graph_engine.models.spec import ModelSpec
from web.asked_models import model_links

BUS = 55e9
"""Bytes a second of pinned copies over PCIe 5.0 x16 that one may count on (specs of the project); older cards have half."""
GB = 1e9


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
        ports = dict(zip((link.input.name for link in model_links(step)), arrived, strict=True))
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


def amount(bytes: int) -> str:
    """For people."""
    return f"{bytes / GB:.2f} GB" if bytes >= 1e8 else f"{bytes / 1e6:.2f} MB"
