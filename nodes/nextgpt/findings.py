"""Findings: what a model said of several things, side by side as a table, with how sure it was."""

from __future__ import annotations

import math
from typing import Any

from graph_engine import Needs, NodeError, node
from nodes.control.port_order import natural
from nodes.data.kinds import Table
from nodes.nextgpt.kinds import Generation


@node(id="nextgpt.findings", category="NExT-GPT/stages", needs=Needs(inline=True))
def findings(**answers: list[Generation]) -> Table:
    """Answers as a table with a row each, in the natural order of the port names: source, says, tokens, certainty.

    The port's name is the source, without a number in front of it ("_2_picture"). certainty: the geometric mean of the
    probabilities of the tokens that were said, in per cent; empty where the model did not keep them.
    """
    rows = []
    for name in natural(answers):
        for generation in answers[name] or []:
            source = name.lstrip("_0123456789").strip("_ ").replace("_", " ") or name
            says = " ".join("".join(generation["pieces"]).split())
            rows.append([source, says, len(generation["ids"]), _certainty(generation)])
    if not rows:
        raise NodeError("there is no answer.", remedy="Link a generation.", code="nothing_to_do")
    return {"columns": ["source", "says", "tokens", "certainty"], "rows": rows}


def _certainty(generation: Any) -> float | None:
    kept = generation.get("confidence")
    known = [chance for chance in map(float, kept if kept is not None else ()) if chance > 0]
    return round(100 * math.exp(sum(map(math.log, known)) / len(known)), 1) if known else None
