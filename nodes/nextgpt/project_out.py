"""Project out: states of signal tokens become the condition of a decoder."""

from __future__ import annotations

from graph_engine import Conditioning, Needs, NodeContext, NodeError, OutputProjector, Signals, node
from nodes.nextgpt.load import lease
from nodes.nextgpt.refusal import refusals


@node(id="nextgpt.project_out", category="NExT-GPT/stages", needs=Needs(device=True))
def project_out(context: NodeContext, signals: Signals, projector: OutputProjector) -> Conditioning:
    """Map signal states "n H" to CONDITIONING [["1 rows width", {...}]], as the decoder takes it.

    "1 77 768" (or 1024) for a picture, "1 77 1024" for a video, "1 1 512" for a sound.
    """
    meant = projector.extras.get("modality", signals["modality"])
    if meant != signals["modality"]:
        raise NodeError(
            f"the signals are for {signals['modality']}, the output projector for {meant}.",
            remedy=f"Link the projector of {signals['modality']}.",
            code="wrong_modality",
            port="projector",
        )
    width, wanted = signals["hidden"].shape[-1], projector.config.get("in_dim", 4096)
    if width != wanted:
        raise NodeError(
            f"the language model is {width} wide, the output projector takes {wanted}.",
            remedy="Load language model and output projector from the same preset, or a projector that was trained for "
            f"this model with nextgpt.load_output_projector_file (its first layer must take {width}).",
            code="wrong_width",
            port="projector",
        )
    module = lease(context, projector)
    like = next(module.parameters())
    with refusals("bad_signals", "signals"):
        condition = module(signals["hidden"][None].to(like), signals["embeds"][None].to(like))
    return [[condition.float().cpu(), {"modality": signals["modality"], "order": signals["order"]}]]
