"""`anyloom plan`: before a run, whether its models fit, which are streamed, what is copied when and how long that takes."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, replace
from pathlib import Path

from graph_engine.engine import Engine
from graph_engine.graph.plan import Step
from graph_engine.memory.devices import find_devices
from graph_engine.models.spec import ModelSpec
from web.asked_models import models_of
from web.commands.flags import settings_of
from web.commands.run import find
from web.commands.session import LocalSession
from web.forecast import BUS, GB, Report, amount, expected_s, gates_of, report_of

PROBE_BYTES = 256 << 20


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
