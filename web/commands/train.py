"""`anyloom train`: the stages of a recipe, one after the other in this process, or several at a time in processes of their own;
interrupted anywhere, it goes on."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graph_engine.errors import NotFoundError, RequestError
from graph_engine.graph.document import load_json, parse
from graph_engine.memory.devices import find_devices
from nodes.nextgpt.training.plan import Plan, plans_of
from web.commands.flags import settings_of
from web.library import Library

if TYPE_CHECKING:
    from nodes.nextgpt.training.loop import Report
    from nodes.nextgpt.training.side_by_side import Site

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
    chosen = {stage: plan for stage, plan in plans.items() if not arguments.only or stage in arguments.only}
    folder = arguments.folder or settings.models_path / "training" / Path(name).name
    devices = (arguments.device,) if arguments.device else tuple(find_devices())
    follow = _side_by_side if _processes(arguments) > 1 else _in_turn

    from nodes.nextgpt.training.side_by_side import Site

    site = Site(folder, settings.models_path, devices)
    with _Watched(arguments.tensorboard) as watched:
        reports = follow(arguments, chosen, site, watched)
    if arguments.json:
        print(json.dumps([report.to_json() for report in reports], indent=1))
    done = len(reports) == len(chosen) and all(report.status != "stopped" for report in reports)
    if done and arguments.publish:
        from nodes.nextgpt.training.parts import Parts
        from nodes.nextgpt.training.publish import publish

        preset = next(iter(plans.values())).preset
        for path in publish(Parts(preset, folder, settings.models_path), settings.models_path / preset):
            print(path)
    return 0 if done else EXIT_STOPPED


def _processes(arguments: argparse.Namespace) -> int:
    """Raises RequestError for a number that cannot be, or that goes with nothing else that was asked for."""
    count: int = arguments.processes
    wrong, remedy = "", "Leave out one of the two."
    if count < 1:
        wrong, remedy = f"--processes must be at least 1, is {count}.", "Give the number of stages to train at a time."
    elif count > 1 and arguments.steps is not None:
        wrong = "--steps counts through stages that come one after the other, and --processes trains several at a time."
        remedy = "Bound the time instead, by --minutes, or leave out one of the two."
    elif count > 1 and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        wrong = "torchrun has several processes train one stage, and --processes gives each stage one of its own."
    if wrong:
        raise RequestError(wrong, remedy=remedy, code="bad_request")
    return count


def _in_turn(arguments: argparse.Namespace, plans: Mapping[str, Plan], site: Site, watched: _Watched) -> list[Report]:
    """Reports of the stages that were trained, up to the first that a limit stopped."""
    from nodes.nextgpt.training.loop import train as follow
    from nodes.nextgpt.training.parts import Parts

    began, left, reports = time.monotonic(), arguments.steps, []
    limit = arguments.minutes * 60 if arguments.minutes else None
    opened: dict[tuple[str, bool, int], Parts] = {}
    for stage, plan in plans.items():
        kind = (plan.preset, plan.own_weights, plan.seed)
        if kind not in opened:
            opened = {
                kind: Parts(plan.preset, site.folder, site.models_dir, site.devices[0], plan.seed, not plan.own_weights)
            }
        rest = None if limit is None else max(0.0, limit - (time.monotonic() - began))
        report = follow(
            plan, opened[kind], stage, resume=arguments.resume, steps=left, seconds=rest, on_event=watched.event
        )
        reports.append(report)
        watched.report(report)
        if report.status == "stopped":
            break
        if left is not None and report.status == "finished":
            left = max(0, left - report.taken)
    return reports


def _side_by_side(
    arguments: argparse.Namespace, plans: Mapping[str, Plan], site: Site, watched: _Watched
) -> list[Report]:
    """The same by several processes, in the order of the recipe."""
    from nodes.nextgpt.training.side_by_side import train_side_by_side

    reports = train_side_by_side(
        plans,
        site,
        arguments.processes,
        resume=arguments.resume,
        seconds=arguments.minutes * 60 if arguments.minutes else None,
        on_event=watched.event,
        on_report=watched.report,
    )
    order = list(plans)
    return sorted(reports, key=lambda report: order.index(report.stage))


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


class _Watched:
    """What a person sees: lines of losses now and then, the account of a stage at its end; and TensorBoard."""

    def __init__(self, tensorboard: Path | None) -> None:
        from nodes.nextgpt.training.board import Board

        self._board = Board(tensorboard) if tensorboard else None
        self._progress: dict[str, _Progress] = {}

    def __enter__(self) -> _Watched:
        return self

    def __exit__(self, *_: object) -> None:
        if self._board is not None:
            self._board.close()

    def event(self, event: Mapping[str, Any]) -> None:
        self._progress.setdefault(event["stage"], _Progress(event["stage"])).show(event)
        if self._board is not None:
            self._board.add(event)

    def report(self, report: Report) -> None:
        _account(report)


class _Progress:
    """A line of loss every few seconds."""

    def __init__(self, stage: str) -> None:
        self.stage, self._last = stage, 0.0

    def show(self, event: Mapping[str, Any]) -> None:
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


def _account(report: Report) -> None:
    account = report.ledger
    print(
        f"{report.stage}: {report.status} at step {report.steps}, {account.trained:,} of {account.total:,} parameters "
        f"trained ({account.share:.2%}; {account.embeddings:,} of them rows of token embeddings), {report.seconds:.0f} s",
        file=sys.stderr,
    )
