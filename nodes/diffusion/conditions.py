"""Combine conditions: two of them as one, after one another or mixed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from graph_engine import Conditioning, NodeError, Widget, node
from nodes.diffusion.load import CATEGORY
from nodes.nextgpt.denoise import even_rows

POOLED = "pooled_output"
Weight = Annotated[float, Widget(min=0, max=1, step=0.01)]
One = tuple[Any, dict[str, Any]]
"""A condition "1 rows width" and what is said of it."""


@node(id="diffusion.combine_conditions", category=CATEGORY)
def combine_conditions(
    first: Conditioning, second: Conditioning, mode: Literal["concat", "average"] = "concat", weight: Weight = 0.5
) -> Conditioning:
    """Two conditions as one: the rows of both after one another, or their average.

    weight: in an average that of the first; the second has the rest. The summaries of SDXL are averaged too; rows after one
    another keep that of the first, as they keep its sizes. Rows of an average are repeated where one has fewer than the
    other, which a denoiser does not notice. One condition is combined with each of several.
    """
    import torch

    left, right = _one_by_one(first, "first"), _one_by_one(second, "second")
    if 1 not in (len(left), len(right)) and len(left) != len(right):
        raise NodeError(
            f"{len(left)} conditions cannot be combined with {len(right)}.",
            remedy="Give as many on both sides, or one on one of them.",
            code="bad_condition",
            port="second",
        )
    count = max(len(left), len(right))
    pairs = zip(left * (count // len(left)), right * (count // len(right)), strict=True)
    found = []
    for (rows, facts), (others, more) in pairs:
        _fit(rows, others, "rows")
        facts, pooled = dict(facts), [said[POOLED] for said in (facts, more) if said.get(POOLED) is not None]
        if mode == "concat":
            together = torch.cat([rows, others], dim=1)
        else:
            one, other = even_rows(rows, others)
            together = one * weight + other * (1 - weight)
            if len(pooled) == 2:
                _fit(pooled[0], pooled[1], "summaries")
                pooled = [pooled[0] * weight + pooled[1] * (1 - weight)]
        if pooled:
            facts[POOLED] = pooled[0]
        found.append([together, facts])
    return found


def _one_by_one(conditioning: Any, port: str) -> list[One]:
    """The conditions of all batches, each with its own summary "1 width"."""
    found: list[One] = []
    for tensor, facts in conditioning:
        pooled = facts.get(POOLED)
        wrong = tensor.ndim != 3 or not len(tensor) or (pooled is not None and len(pooled) not in (1, len(tensor)))
        if wrong:
            shape = "x".join(map(str, tensor.shape))
            beside = "" if pooled is None else f" with a summary of {'x'.join(map(str, pooled.shape))}"
            raise NodeError(
                f"the condition is {shape}{beside}; a batch of rows is wanted, with a summary for each.",
                remedy="Link the output of diffusion.encode_text or nextgpt.project_out.",
                code="bad_condition",
                port=port,
            )
        for index in range(len(tensor)):
            own = {} if pooled is None else {POOLED: pooled[index % len(pooled)][None].float().cpu()}
            found.append((tensor[index : index + 1].float().cpu(), {**facts, **own}))
    if not found:
        raise NodeError("there is no condition.", remedy="Link one.", code="bad_condition", port=port)
    return found


def _fit(one: Any, other: Any, noun: str) -> None:
    if one.shape[-1] != other.shape[-1]:
        raise NodeError(
            f"the first condition has {noun} of {one.shape[-1]} numbers, the second of {other.shape[-1]}.",
            remedy="Encode both with the CLIP of the same checkpoint, or project signals to the same width.",
            code="wrong_width",
            port="second",
        )
