"""Route: one left-to-right pass over what was said gives the text and, per modality, the signals to be decoded."""

from __future__ import annotations

from typing import Any, NamedTuple

from graph_engine import Needs, Signals, Skip, node
from nodes.nextgpt.kinds import Generation, Reply
from nodes.nextgpt.modality import SPOKEN
from nodes.nextgpt.model.signals import Media, SignalEvent, SignalVocabulary, Text, scan

_REASONS = {
    "chosen": "the model asked for it",
    "ending": "forced when the model wanted to end",
    "budget": "forced before the tokens ran out",
}


class Routed(NamedTuple):
    text: str
    image: list[Signals]
    video: list[Signals]
    audio: list[Signals]
    reply: Reply
    trace: str


@node(id="nextgpt.route", category="NExT-GPT/stages", needs=Needs(inline=True))
def route(generation: Generation) -> Routed:
    """Take an answer apart.

    text: all words. image, video, audio: one SIGNALS {hidden "n H", embeds "n H", order} per item, in spoken order; a
    modality that was not asked for is skipped, so its decoder is neither run nor loaded. reply: words and signals in
    spoken order, for `nextgpt.assemble`. trace: why each item is there, for people.
    """
    vocabulary = SignalVocabulary.from_json(generation["vocabulary"])
    events = scan(generation["ids"], vocabulary)
    signals: dict[str, list[Any]] = {name: [] for name in SPOKEN}
    reply: list[dict[str, Any]] = []
    for event in events:
        if isinstance(event, Text):
            words = "".join(generation["pieces"][event.start : event.stop])
            if words:
                reply.append({"type": "text", "text": words})
        elif isinstance(event, Media):
            signals[event.modality].append(
                {
                    "modality": event.modality,
                    "hidden": generation["hidden"][event.start : event.stop].clone(),
                    "embeds": generation["embeds"][event.start : event.stop].clone(),
                    "order": event.order,
                }
            )
            reply.append({"type": "signal", "modality": event.modality, "order": event.order})
    asked: dict[str, Any] = {
        name: found or Skip(f"the language model did not ask for {_article(SPOKEN[name].noun)}")
        for name, found in signals.items()
    }
    return Routed(text="".join(generation["pieces"]), reply=reply, trace=_trace(generation, events), **asked)


def _trace(generation: Any, events: list[SignalEvent]) -> str:
    """A line per item, per modality that was not asked for, and one on how the answer ended."""
    runs = {run["position"]: run for run in generation["runs"]}
    lines, counts = [], dict.fromkeys(SPOKEN, 0)
    for event in events:
        if isinstance(event, Text):
            continue
        if not isinstance(event, Media):
            lines.append(f"token {event.start}: a broken run of signals, ignored")
            continue
        counts[event.modality] += 1
        run = runs.get(event.start)
        why = f"{_REASONS[run['reason']]} (p = {run['probability']:.2g})" if run else "in the text given"
        lines.append(f"{SPOKEN[event.modality].noun} {counts[event.modality]} at token {event.start}: {why}")
    for name, count in counts.items():
        if not count:
            forbidden = generation.get("wishes", {}).get(name) == "never"
            lines.append(f"no {SPOKEN[name].noun}: {'forbidden' if forbidden else 'the model did not ask for it'}")
    ends = {"stop": "the model ended its answer", "length": "the tokens ran out; raise max_new_tokens for more"}
    length = len(generation["ids"])
    lines.append(f"{length} tokens, {ends.get(generation['finished'], generation['finished'])}")
    return "\n".join(lines)


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
