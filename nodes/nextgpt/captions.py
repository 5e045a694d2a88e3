"""Captions: the words that belong to each signal, for decoders that are driven by text instead of signal states."""

from __future__ import annotations

from typing import Any, NamedTuple

from graph_engine import Needs, Skip, node
from nodes.nextgpt.kinds import Reply
from nodes.nextgpt.modality import SPOKEN, stamped
from nodes.nextgpt.per_modality import Port, per_modality


@per_modality(captions=lambda row: Port(row.name, list[str]))
class Captions(NamedTuple):
    captions: Any


@node(id="nextgpt.captions", version=stamped("1.0.0"), category="NExT-GPT/stages", needs=Needs(inline=True), skips=True)
def captions(reply: Reply) -> Captions:
    """The words before each signal, per modality, in the order of the signals that `nextgpt.route` gives.

    A caption reaches back to the signal before. Where nothing was said between two signals, the second one has the
    caption of the first.
    """
    found: dict[str, list[str]] = {name: [] for name in SPOKEN}
    words = caption = ""
    for event in reply:
        if event["type"] == "text":
            words += event["text"]
        elif event["type"] == "signal":
            caption, words = words.strip() or caption, ""
            if event["modality"] in found:
                found[event["modality"]].append(caption)
    named: dict[str, Any] = {
        name: said or Skip(f"the language model did not ask for {SPOKEN[name].a_noun}") for name, said in found.items()
    }
    return Captions(**named)
