"""`anyloom train`: the stages of a recipe, one after the other, in this process; interrupted anywhere, it goes on."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graph_engine.errors import NotFoundError, RequestError
from graph_engine.graph.document import load_json, parse
from graph_engine.memory.devices import find_devices
from nodes.nextgpt.training.plan import Plan, plans_of
from web.commands.flags import settings_of
from web.library import Library

EXIT_STOPPED = 2
"""A limit was reached before the recipe's end; `--resume` goes on."""


def train(arguments: argparse.Namespace) -> int:
    """Synchronous: it computes, and Ctrl-C has to reach it in the main thread."""
    settings = settings_of(arguments)
    name, document = find_recipe(arguments.recipe, Library.of(settings))
    plans = plans_of(document)
    unknown = [stage for stage in arguments.only if stage not in plans]
    if unknown:
        raise RequestError(
            f"the recipe has no stage {', '.join(unknown)}.", remedy=f"It has {', '.join(plans)}.", code="unknown_stage"
        )
    if arguments.list:
        for stage, plan in plans.items():
            print(f"{stage:24} {plan.preset:8} {plan.stage:16} {plan.modality:6} {plan.steps:>7} x {plan.batch}")
        return 0
    folder = arguments.folder or settings.models_path / "training" / Path(name).name
    device = arguments.device or find_devices()[0]
    reports, done = _follow(arguments, plans, folder, settings.models_path, device)
    if arguments.json:
        print(json.dumps([report.to_json() for report in reports], indent=1))
    if done and arguments.publish:
        from nodes.nextgpt.training.parts import Parts
        from nodes.nextgpt.training.publish import publish

        preset = next(iter(plans.values())).preset
        for path in publish(Parts(preset, folder, settings.models_path), settings.models_path / preset):
            print(path)
    return 0 if done else EXIT_STOPPED


def _follow(
    arguments: argparse.Namespace, plans: Mapping[str, Plan], folder: Path, models_dir: Path, device: str
) -> tuple[list[Any], bool]:
    """Reports of the stages that were trained, and whether all of them are finished."""
    from nodes.nextgpt.training.board import Board
    from nodes.nextgpt.training.loop import train as follow
    from nodes.nextgpt.training.parts import Parts

    board = Board(arguments.tensorboard) if arguments.tensorboard else None
    began, left, reports = time.monotonic(), arguments.steps, []
    limit = arguments.minutes * 60 if arguments.minutes else None
    opened: dict[tuple[str, bool], Parts] = {}
    try:
        for stage, plan in plans.items():
            if arguments.only and stage not in arguments.only:
                continue
            kind = (plan.preset, plan.own_weights)
            if kind not in opened:
                opened = {kind: Parts(plan.preset, folder, models_dir, device, plan.seed, not plan.own_weights)}
            shown = _Progress(stage)

            def heard(event: Mapping[str, Any], shown: _Progress = shown) -> None:
                shown.show(event)
                if board is not None:
                    board.add(event)

            rest = None if limit is None else max(0.0, limit - (time.monotonic() - began))
            report = follow(
                plan, opened[kind], stage, resume=arguments.resume, steps=left, seconds=rest, on_event=heard
            )
            reports.append(report)
            _account(report)
            if report.status == "stopped":
                return reports, False
            if left is not None and report.status == "finished":
                left = max(0, left - shown.steps)
    finally:
        if board is not None:
            board.close()
    return reports, True


def find_recipe(word: str, library: Library) -> tuple[str, Mapping[str, Any]]:
    """Of a file, or of a saved workflow's name; "mini" is short for "train/mini"."""
    path = Path(word)
    if path.suffix == ".json":
        if not path.is_file():
            raise NotFoundError(f"there is no file {word!r}.", remedy="Check the path, or give a recipe's name.")
        return path.stem, parse(load_json(path.read_bytes(), max_bytes=1 << 24)).raw
    names = {entry["name"] for entry in library.entries()}
    for name in (f"train/{word}", word):
        if name in names:
            return name, library.load(name)
    known = sorted(name.removeprefix("train/") for name in names if name.startswith("train/"))
    raise NotFoundError(f"there is no recipe {word!r}.", remedy=f"Known are {', '.join(known)}; or give a .json file.")


class _Progress:
    """A line of loss every few seconds."""

    def __init__(self, stage: str) -> None:
        self.stage, self.steps, self._last = stage, 0, 0.0

    def show(self, event: Mapping[str, Any]) -> None:
        self.steps += 1
        now = time.monotonic()
        if now - self._last < 5 and event["step"] != event["steps"]:
            return
        self._last = now
        told = {k: v for k, v in event.items() if isinstance(v, float) and k not in ("seconds", "gradient", "rate")}
        facts = "  ".join(f"{name} {value:.4g}" for name, value in told.items())
        print(
            f"{self.stage} {event['step']}/{event['steps']}  {facts}  {event['seconds']:.0f} s",
            file=sys.stderr,
            flush=True,
        )


def _account(report: Any) -> None:
    account = report.ledger
    print(
        f"{report.stage}: {report.status} at step {report.steps}, {account.trained:,} of {account.total:,} parameters "
        f"trained ({account.share:.2%}; {account.embeddings:,} of them rows of token embeddings), {report.seconds:.0f} s",
        file=sys.stderr,
    )
