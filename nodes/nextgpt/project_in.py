"""Project in: embeddings become tokens of the language model."""

from __future__ import annotations

from graph_engine import Embedding, InputProjector, Needs, NodeContext, NodeError, Tokens, node
from nodes.nextgpt.load import lease
from nodes.nextgpt.refusal import refusals


@node(id="nextgpt.project_in", category="NExT-GPT/stages", needs=Needs(device=True))
def project_in(context: NodeContext, embedding: Embedding, projector: InputProjector) -> Tokens:
    """Map an embedding "B N D" into the language model's space: "B M H".

    M = N for a linear projector, a fixed number for a grouping one (8 in v1.5, 16 in mini), whatever N is.
    """
    width, wanted = embedding["tensor"].shape[-1], projector.config.get("in_dim", 1024)
    if width != wanted:
        raise NodeError(
            f"the embedding is {width} wide, the input projector takes {wanted}.",
            remedy="Load encoder and input projector from the same preset, or a projector that was trained for this "
            f"encoder with nextgpt.load_input_projector_file (its first layer must take {width}).",
            code="wrong_width",
            port="projector",
        )
    module = lease(context, projector)
    parameter = next(module.parameters(), None)
    tensor = embedding["tensor"].to(context.device)
    with refusals("bad_embedding", "embedding"):
        tokens = module(tensor if parameter is None else tensor.to(parameter.dtype))
    return {"tensor": tokens.float().cpu(), "modality": embedding["modality"], "form": embedding["form"]}
