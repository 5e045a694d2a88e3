"""Evaluate: what `anyloom evaluate` does, as a node, so that a recipe can end with how good it came out."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

from graph_engine import Effect, File, Json, Needs, NodeContext, Widget, node
from nodes.data.kinds import Table
from nodes.nextgpt.preset import PresetName
from nodes.nextgpt.training.train_node import CATEGORY, place_of


class Evaluated(NamedTuple):
    file: File
    figures: Table
    reached: bool


@node(
    id="nextgpt.evaluate",
    title="Evaluate",
    category=CATEGORY,
    effect=Effect.EXTERNAL,
    needs=Needs(device=True),
    output=True,
)
def evaluate(
    context: NodeContext,
    preset: PresetName = "mini",
    folder: str = "mini",
    prompts: Annotated[str, Widget(upload="text", placeholder="those that were withheld")] = "",
    scale: Annotated[float, Widget(min=0.001, max=10)] = 1.0,
    name: str = "evaluation/page",
    after: Json | None = None,
) -> Evaluated:
    """Ask a preset what was withheld from its training, and let rules judge the answers: one page with samples.

    folder: of the training, whose newest weights count; parts that it lacks are the preset's own. prompts: a JSON list of
    other prompts, {text, language, wishes}. scale: of the number of prompts; 1 asks 366. after: the report of a stage that
    has to be finished before. figures: a row per figure with its bar; reached: whether every bar that was asked about is.
    """
    from nodes.nextgpt.checkpoint import specs_of
    from nodes.nextgpt.training.evaluation.evaluate import evaluate as judge_all
    from nodes.nextgpt.training.evaluation.figures import BARS, missed
    from nodes.nextgpt.training.evaluation.page import digest_of, write_page
    from nodes.nextgpt.training.evaluation.prompts import read_prompts, withheld
    from nodes.nextgpt.training.evaluation.speaker import Speaker
    from nodes.nextgpt.training.parts import Parts

    parts = Parts(preset, place_of(context.models_dir, folder), context.models_dir, context.device)
    lacking = [part for part in parts.preset.parts if part != "video_upscaler" and not parts.path(part).is_file()]
    if lacking and not parts.preset.made:
        specs_of(preset, lacking, context.models_dir)  # raises, and says what is missing
    asked = read_prompts(context.input_path(prompts)) if prompts else withheld(scale=scale)
    right = 0

    def told(done: int, total: int, outcome: Any) -> None:
        nonlocal right
        right += outcome.good
        context.progress(done, total, f"{right} right")

    found = judge_all(Speaker(parts), asked, told, lambda: context.cancelled)
    context.check()
    place = context.output_path(name, "html")
    samples = place.with_suffix("")
    page = write_page(found, samples, f"Evaluation of {preset}", f"nextgpt.evaluate {preset}", digest_of(parts))
    # The page lies beside the folder of its pictures, under the number that it was given.
    place.write_text(page.read_text(encoding="utf-8").replace('src="', f'src="{samples.name}/'), encoding="utf-8")
    page.unlink()
    # Other prompts ask for some things only; then only what they ask for is held against the bars.
    wrong = {figure for figure in missed(found.figures) if figure in found.figures or not prompts}
    rows = [
        [
            figure,
            round(found.figures[figure], 4) if figure in found.figures else None,
            f"{BARS[figure][0]} {BARS[figure][1]:g}" if figure in BARS else None,
            figure not in wrong if figure in BARS else None,
        ]
        for figure in sorted({*found.figures, *(() if prompts else BARS)}, key=lambda one: (one not in BARS, one))
    ]
    table = {"columns": ["figure", "value", "bar", "reached"], "rows": rows}
    return Evaluated(context.file(place, "text/html", prompts=len(found.outcomes)), table, not wrong)
