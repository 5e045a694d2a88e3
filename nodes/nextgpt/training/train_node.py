"""Train: one stage of training as a node, so that a recipe is a workflow, drawn and watched like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from graph_engine import Effect, Image, Json, Needs, NodeContext, NodeError, Widget, node
from nodes.control.seed import MAX_SEED
from nodes.nextgpt.preset import PresetName
from nodes.nextgpt.training.plan import NODE_TYPE, Plan, StageName

CATEGORY = "NExT-GPT/training"
ROOT = "training"
"""Folder under the models folder where stages keep what they make."""
_EVERY = 10
"""Steps between two drawings of the curve."""


@node(
    id=NODE_TYPE,
    title="Train a stage",
    category=CATEGORY,
    effect=Effect.EXTERNAL,
    needs=Needs(device=True),
    output=True,
)
def train(
    context: NodeContext,
    preset: PresetName = "mini",
    stage: StageName = "autoencoder",
    modality: Literal["all", "image", "video", "audio"] = "all",
    folder: str = "mini",
    data: str = "",
    begin: str = "",
    pool: Annotated[int, Widget(min=0, max=10_000_000)] = 0,
    steps: Annotated[int, Widget(min=1, max=10_000_000)] = 1000,
    batch: Annotated[int, Widget(min=1, max=65_536)] = 32,
    accumulate: Annotated[int, Widget(min=1, max=4096)] = 1,
    learning_rate: Annotated[float, Widget(min=1e-8, max=1.0)] = 3e-4,
    projector_rate: Annotated[float, Widget(min=0, max=1000)] = 1.0,
    weight_decay: Annotated[float, Widget(min=0, max=1)] = 0.0,
    warmup: Annotated[float, Widget(min=0, max=1)] = 0.03,
    schedule: Literal["cosine", "linear", "constant"] = "cosine",
    clip: Annotated[float, Widget(min=1e-6, max=1e6)] = 1.0,
    optimiser: Literal["adamw", "muon"] = "adamw",
    ema: Annotated[float, Widget(min=0, max=0.999999)] = 0.0,
    precision: Literal["float32", "bfloat16"] = "float32",
    checkpointing: bool = False,
    checkpoint_every: Annotated[int, Widget(min=1, max=1_000_000)] = 500,
    caption_weight: Annotated[float, Widget(min=0, max=1000)] = 1.0,
    denoise_weight: Annotated[float, Widget(min=0, max=1000)] = 1.0,
    words_weight: Annotated[float, Widget(min=0, max=1000)] = 1.0,
    condition_drop: Annotated[float, Widget(min=0, max=1)] = 0.1,
    snr_gamma: Annotated[float, Widget(min=0, max=1000)] = 5.0,
    focus: Annotated[float, Widget(min=0, max=1000)] = 4.0,
    spectra_weight: Annotated[float, Widget(min=0, max=1000)] = 1.0,
    rank: Annotated[int, Widget(min=0, max=1024)] = 32,
    alpha: Annotated[float, Widget(min=0, max=4096)] = 32.0,
    dropout: Annotated[float, Widget(min=0, max=1)] = 0.1,
    targets: str = "q_proj,k_proj,v_proj,o_proj",
    embeddings: Literal["signals", "all", "none"] = "signals",
    stand_ins: Annotated[float, Widget(min=0, max=1)] = 0.0,
    slips: Annotated[float, Widget(min=0, max=1)] = 0.0,
    train_text_encoder: bool = True,
    own_weights: bool = False,
    noisiest: Annotated[float, Widget(min=0, max=1)] = 0.0,
    unnamed: Annotated[float, Widget(min=0, max=1)] = 0.0,
    crowded: Annotated[float, Widget(min=0, max=1)] = 0.0,
    things: Annotated[int, Widget(min=1, max=3)] = 3,
    placeless: Annotated[float, Widget(min=0, max=1)] = 0.0,
    motions: str = "",
    own_words: bool = False,
    anew: str = "",
    typical: bool = False,
    seed: Annotated[int, Widget(min=0, max=MAX_SEED)] = 13,
    after: Json | None = None,
) -> Json:
    """Train one stage of a preset and keep its weights under the models folder, in `training/FOLDER`.

    A stage that was interrupted, in another run too, goes on from its last snapshot; one that is finished is not trained
    again. data: a set under the input folder, or what `nextgpt.build_mosit` gives; empty for the small world. after: the
    report of a stage whose weights this one begins with. Gives the report: losses, numbers of trained
    and frozen parameters, files. What the numbers mean: docs/training.md. `anyloom train` follows the same recipe without
    a server.
    """
    given = dict(locals())
    from nodes.nextgpt.training.curve import picture_of
    from nodes.nextgpt.training.data.place import place_of as place_of_data
    from nodes.nextgpt.training.loop import train as follow
    from nodes.nextgpt.training.parts import Parts

    if data:
        given["data"] = str(place_of_data(context, data))
    plan = Plan(**{name: value for name, value in given.items() if name in Plan.__dataclass_fields__})
    parts = Parts(
        preset, place_of(context.models_dir, folder), context.models_dir, context.device, seed, not own_weights
    )
    losses: list[float] = []

    def heard(event: Any) -> None:
        losses.append(event["loss"])
        context.progress(event["step"], event["steps"], f"loss {event['loss']:.4g}")
        if event["step"] % _EVERY == 0:
            context.preview(picture_of({plan.stage: losses}, 480, 240), "image/png")

    report = follow(plan, parts, context.node, resume=True, on_event=heard, stopped=lambda: context.cancelled)
    context.check()
    return report.to_json()


@node(id="nextgpt.loss_curve", title="Loss curve", category=CATEGORY)
def loss_curve(
    width: Annotated[int, Widget(min=240, max=4096)] = 960,
    height: Annotated[int, Widget(min=160, max=2160)] = 480,
    **reports: Json,
) -> Image:
    """The losses of stages over their steps, as a picture "1 H W 3": every step thin, their moving mean thick."""
    from nodes.nextgpt.training.curve import curve

    lines: dict[str, Any] = {}
    for port, entry in reports.items():
        told = entry if isinstance(entry, dict) else {}
        lines[str(told.get("stage", port))] = told.get("losses")
    wrong = [name for name, losses in lines.items() if not isinstance(losses, list) or not losses]
    if wrong or not lines:
        raise NodeError(
            f"there are no losses in the report of {', '.join(wrong) or 'any stage'}.",
            remedy="Link reports of nextgpt.train.",
            code="no_losses",
            port="reports",
        )
    return curve(lines, width, height)


def place_of(models_dir: Path, folder: str) -> Path:
    """Raises NodeError for a name that leads out of the training folder."""
    root = (models_dir / ROOT).resolve()
    path = (root / folder).resolve()
    if not folder or path == root or not path.is_relative_to(root):
        raise NodeError(
            f"{folder!r} names no folder under {root}.", remedy="Give a plain name, mini for example.", port="folder"
        )
    return path
