"""The RecA experiment (docs/reca.md): a bias is trained in, measured, and trained out again with pictures alone.

    python -m nodes.nextgpt.training.evaluation.reca OUT [--count N] [--scale X] [--device NAME]

Trains the two stages of the recipe `mini-reca` in OUT/before and OUT/after, from the weights that ship, and measures after
each: the grid of every shape in every colour, and those prompts of the evaluation that are answered with pictures. Writes
OUT/figures.json and OUT/grid.png and prints a table. Interrupted, it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import shutil
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


def main() -> None:
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


def trained(plan: Plan, folder: Path, stage: str, device: str) -> Parts:
    parts = Parts(plan.preset, folder, folder / "models", device, plan.seed)
    report = train(plan, parts, stage, resume=True, on_event=_tell)
    print(f"{stage}: {report.status}, {report.steps} steps, {report.seconds:.0f} s")
    return Parts(plan.preset, folder, folder / "models", device, plan.seed)


def _tell(event: Mapping[str, object]) -> None:
    if int(str(event["step"])) % 50 == 0:
        print(f"{event['stage']} {event['step']}/{event['steps']}  loss {event['loss']:.4g}", flush=True)


def table(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """Markdown: one line per figure."""
    rows = ["| figure | before | after | change |", "|---|---:|---:|---:|"]
    for name in before:
        if name in after:
            rows.append(f"| {name} | {before[name]:.3f} | {after[name]:.3f} | {after[name] - before[name]:+.3f} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
