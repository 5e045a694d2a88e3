"""Route: one left-to-right pass over what was said gives the text and, per modality, the signals to be decoded."""

from __future__ import annotations

from typing import Any, NamedTuple

from graph_engine import Json, Needs, NodeContext, Signals, Skip, node
from nodes.nextgpt.kinds import Generation, Reply
from nodes.nextgpt.modality import SPOKEN, stamped
from nodes.nextgpt.per_modality import Port, per_modality
from nodes.nextgpt.trace import in_words, trace_of


@per_modality(signals=lambda row: Port(row.name, list[Signals]))
class Routed(NamedTuple):
    text: str
    signals: Any
    reply: Reply
    trace: str
    events: Json


@node(id="nextgpt.route", version=stamped("1.1.0"), category="NExT-GPT/stages", needs=Needs(inline=True), skips=True)
def route(
    generation: Generation,
    context: NodeContext = None,  # type: ignore[assignment]  # None where it is called as a plain function
) -> Routed:
    """Take an answer apart.

    text: all words. image, video, audio: one SIGNALS {hidden "n H", embeds "n H", order, caption} per item, in spoken
    order; a modality that was not asked for is skipped, so its decoder is neither run nor loaded. reply: words and
    signals in spoken order, for `nextgpt.assemble`. trace: why each item is there, for people. events: the same as
    JSON {tokens, finished, events, modalities, warnings}.
    """
    trace = trace_of(generation)
    signals: dict[str, list[Any]] = {name: [] for name in SPOKEN}
    reply: list[dict[str, Any]] = []
    for event in trace["events"]:
        if event["type"] == "text" and event["text"]:
            reply.append({"type": "text", "text": event["text"]})
        elif event["type"] == "signal":
            reply.append({"type": "signal", "modality": event["modality"], "order": event["order"]})
            if event["decodable"]:
                signals[event["modality"]].append(_signals(generation, event))
    if context is not None:
        for warning in trace["warnings"]:
            context.log(warning)
    asked: dict[str, Any] = {
        name: found or Skip(_absence(name, trace["modalities"][name]["outcome"])) for name, found in signals.items()
    }
    text = "".join(generation["pieces"])
    return Routed(text=text, reply=reply, trace=in_words(trace), events=trace, **asked)


def _signals(generation: Any, event: Any) -> dict[str, Any]:
    """SIGNALS of one run: its states are those in which its tokens were the input, the last one's too."""
    start, stop = event["start"], event["stop"]
    return {
        "modality": event["modality"],
        "hidden": generation["hidden"][start:stop].clone(),
        "embeds": generation["embeds"][start:stop].clone(),
        "order": event["order"],
        "caption": event["caption"],
    }


def _absence(name: str, outcome: str) -> str:
    noun = SPOKEN[name].a_noun
    if outcome == "forbidden":
        return f"the language model did not ask for {noun}: it was forbidden to"
    if outcome == "missing":
        return f"the answer has no {SPOKEN[name].noun} although it was wished for always"
    return f"the language model did not ask for {noun}"
