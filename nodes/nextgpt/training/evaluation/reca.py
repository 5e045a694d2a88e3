"""The RecA experiment (docs/reca.md): a bias is trained in, measured, and trained out again with pictures alone.

    python -m nodes.nextgpt.training.evaluation.reca OUT [--count N] [--scale X] [--device NAME]

Trains the two stages of the recipe `mini-reca` in OUT/before and OUT/after, from the weights that ship, and measures after
each: the grid of every shape in every colour, and those prompts of the evaluation that are answered with pictures. Writes
OUT/figures.json and OUT/grid.png and prints a table; exit code 1 if RecA does not reach its bars. Interrupted, it goes on
where it was.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

import workflows
from graph_engine.graph.document import load_json, parse
from nodes.nextgpt.training.evaluation.evaluate import evaluate
from nodes.nextgpt.training.evaluation.grid import drawn, grid, shares
from nodes.nextgpt.training.evaluation.prompts import withheld
from nodes.nextgpt.training.evaluation.speaker import Speaker
from nodes.nextgpt.training.loop import train
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import Plan, plans_of

RECIPE = Path(workflows.__file__).parent / "train" / "mini-reca.json"
KINDS = ("make image", "edit", "cross", "mixed")
"""Kinds of prompts that ask for pictures; what the stages leave alone answers all others as before."""

GAIN = 0.15
"""Least by which more things have the colour that was asked for, of those that have it rarely."""
LOSS = 0.02
"""Most by which any other figure may be worse."""
_LOWER = ("frechet_",)
"""What figures begin with that are better where they are lower."""
_NO_QUALITY = frozenset({"prompts", "turn_seconds"})


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=4, help="pictures of each pair of the grid (default: 4)")
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of prompts (default: 1)")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    plans = plans_of(parse(load_json(RECIPE.read_bytes(), max_bytes=1 << 24)).raw)
    before, after = arguments.out / "before", arguments.out / "after"
    figures, grids = {}, []
    for folder, stage in ((before, "typical"), (after, "reconstruction")):
        if folder is after and not (after / "weights").is_dir():
            shutil.copytree(before / "weights", after / "weights")
        parts = trained(plans[stage], folder, stage, arguments.device)
        speaker = Speaker(parts)
        squares = grid(speaker, arguments.count)
        prompts = [prompt for prompt in withheld(scale=arguments.scale) if prompt.kind in KINDS]
        figures[folder.name] = {**shares(squares), **evaluate(speaker, prompts).figures}
        grids.append((folder.name, squares))
    (arguments.out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    drawn(grids).save(arguments.out / "grid.png")
    print(table(figures["before"], figures["after"]))
    lacked = missed(figures["before"], figures["after"])
    for name in lacked:
        print(f"{name}: MISSED")
    return 1 if lacked else 0


def trained(plan: Plan, folder: Path, stage: str, device: str) -> Parts:
    parts = Parts(plan.preset, folder, folder / "models", device, plan.seed)
    report = train(plan, parts, stage, resume=True, on_event=_tell)
    print(f"{stage}: {report.status}, {report.steps} steps, {report.seconds:.0f} s")
    return Parts(plan.preset, folder, folder / "models", device, plan.seed)


def _tell(event: Mapping[str, object]) -> None:
    if int(str(event["step"])) % 50 == 0:
        print(f"{event['stage']} {event['step']}/{event['steps']}  loss {event['loss']:.4g}", flush=True)


def missed(before: Mapping[str, float], after: Mapping[str, float]) -> list[str]:
    """Figures that are not as RecA is to leave them: `rare_colour` better by `GAIN`, no other worse by more than `LOSS`. One
    that is lacking after counts as missed."""
    wrong = []
    for name in ("rare_colour", *sorted({*before} - _NO_QUALITY - {"rare_colour"})):
        least = GAIN if name == "rare_colour" else -LOSS
        # To the last digits, a change of exactly as much as is allowed is none too many.
        if not _gain(name, before.get(name, math.nan), after.get(name, math.nan)) >= least - 1e-9:
            wrong.append(name)
    return wrong


def _gain(name: str, before: float, after: float) -> float:
    if name == "chinese_gap":  # between two languages; which of them is the better one is no matter
        return abs(before) - abs(after)
    return before - after if name.startswith(_LOWER) else after - before


def table(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """Markdown: one line per figure."""
    rows = ["| figure | before | after | change |", "|---|---:|---:|---:|"]
    for name in before:
        if name in after:
            rows.append(f"| {name} | {before[name]:.3f} | {after[name]:.3f} | {after[name] - before[name]:+.3f} |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
