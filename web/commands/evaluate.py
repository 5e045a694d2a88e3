"""`anyloom evaluate`: a preset answers prompts that were withheld from training, and rules judge the answers."""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
from pathlib import Path
from typing import Any

from graph_engine.errors import RequestError
from graph_engine.memory.devices import find_devices
from web.commands.flags import settings_of


def evaluate(arguments: argparse.Namespace) -> int:
    """Exit code 1 if a bar is missed."""
    from nodes.nextgpt.checkpoint import specs_of
    from nodes.nextgpt.training.evaluation.evaluate import evaluate as judge_all
    from nodes.nextgpt.training.evaluation.figures import BARS, missed
    from nodes.nextgpt.training.evaluation.page import digest_of, write_page
    from nodes.nextgpt.training.evaluation.prompts import read_prompts, withheld
    from nodes.nextgpt.training.evaluation.speaker import Speaker
    from nodes.nextgpt.training.evaluation.speakers import answers
    from nodes.nextgpt.training.parts import Parts

    settings = settings_of(arguments)
    if arguments.processes < 1:
        raise RequestError(
            f"--processes must be at least 1, is {arguments.processes}.",
            remedy="Give the number of prompts to answer at a time.",
            code="bad_request",
        )
    if arguments.processes > 1 and arguments.device not in (None, "cpu"):
        raise RequestError(
            f"--processes {arguments.processes} is for the CPU, not for {arguments.device}.",
            remedy="Leave out one of --processes and --device.",
            code="bad_request",
        )
    if not (arguments.scale > 0 and math.isfinite(arguments.scale)):
        raise RequestError(
            f"--scale must be above 0, is {arguments.scale:g}.",
            remedy="1 asks 366 prompts, 0.1 a tenth of them.",
            code="bad_request",
        )
    folder = arguments.folder or settings.models_path / "training" / arguments.preset
    parts = Parts(
        arguments.preset,
        folder,
        settings.models_path,
        arguments.device or ("cpu" if arguments.processes > 1 else find_devices()[0]),
    )
    lacking = [name for name in parts.preset.parts if name != "video_upscaler" and not parts.path(name).is_file()]
    if lacking and not parts.preset.made:
        specs_of(arguments.preset, lacking, settings.models_path)  # raises, and says what is missing
    prompts = read_prompts(arguments.prompts) if arguments.prompts else withheld(scale=arguments.scale)

    _make_room(arguments)

    def told(done: int, total: int, outcome: Any) -> None:
        word = "right" if outcome.good else "wrong"
        print(f"{done}/{total} {outcome.prompt.kind} ({outcome.prompt.language}): {word}", file=sys.stderr, flush=True)

    given = None
    if arguments.processes > 1:
        given = answers(arguments.processes, arguments.preset, folder, settings.models_path, prompts)
    found = judge_all(Speaker(parts), prompts, None if arguments.quiet else told, given=given)
    # Other prompts ask for some things only; then only what they ask for is held against the bars.
    lacked = [name for name in missed(found.figures) if name in found.figures or not arguments.prompts]
    for name in sorted({*found.figures, *(() if arguments.prompts else BARS)}):
        value = f"{found.figures[name]:8.3f}" if name in found.figures else "    none"
        bar = f"  bar {BARS[name][0]} {BARS[name][1]:g}" if name in BARS else ""
        print(f"{name:32}{value}{bar}{'  MISSED' if name in lacked else ''}")
    # After the figures were shown: a disk that is full by now takes the file and not what was found.
    if arguments.json:
        arguments.json.write_text(json.dumps(found.figures, indent=1) + "\n", encoding="utf-8")
    if arguments.page:
        command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
        print(write_page(found, arguments.page, f"Evaluation of {arguments.preset}", command, digest_of(parts)))
    return 1 if lacked else 0


def _make_room(arguments: argparse.Namespace) -> None:
    """The folders of what is to be written, before minutes are spent on what it is. Raises RequestError."""
    for flag, folder in (("--json", arguments.json and arguments.json.parent), ("--page", arguments.page)):
        try:
            if folder:
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RequestError(
                f"{flag}: the folder {folder} cannot be made: {error.strerror or error}.",
                remedy="Name a place that can be written.",
                code="bad_request",
            ) from error
    if arguments.json and arguments.json.is_dir():
        raise RequestError(f"--json: {arguments.json} is a folder.", remedy="Name a file in it.", code="bad_request")
