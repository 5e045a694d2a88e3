"""Trace: what the router saw in an answer and decided, as data, and the same in words.

    {"tokens": 41, "finished": "stop",
     "events": [{"type": "text", "start": 0, "stop": 12, "text": "..."},
                {"type": "signal", "start": 12, "stop": 16, "modality": "image", "order": 0, "decodable": true,
                 "caption": "...", "reason": "chosen", "probability": 0.31},
                {"type": "broken", "start": 16, "stop": 17}],
     "modalities": {"image": {"wish": "always", "limit": 1, "items": 1, "outcome": "made"}, ...},
     "warnings": ["..."]}

`reason` is `chosen`, `ending`, `budget` or `given` (a run that the generation does not explain; then `probability` is
null). `outcome` is `made`, `forbidden`, `not asked for` or `missing` (wished for `always`, and yet not there).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graph_engine.errors import NodeError
from nodes.nextgpt.modality import SPOKEN, noun_of
from nodes.nextgpt.model.signals import Media, SignalVocabulary, Text, scan

REASONS = {
    "chosen": "the model asked for it",
    "ending": "forced when the model wanted to end",
    "budget": "forced before the tokens ran out",
    "given": "in the text given",
}
ENDS = {
    "stop": "the model ended its answer",
    "length": "the tokens ran out; raise max_new_tokens for more",
    "cancelled": "it was cancelled",
}


def trace_of(generation: Any) -> dict[str, Any]:
    """The trace of a GENERATION. Raises NodeError for one whose vocabulary cannot be read."""
    events = _events(generation)
    items = dict.fromkeys(SPOKEN, 0)
    for event in events:
        if event["type"] == "signal":
            items[event["modality"]] = items.get(event["modality"], 0) + 1
    wishes, limits = generation.get("wishes", {}), generation.get("limits", {})
    modalities = {
        name: {
            "wish": wishes.get(name, "auto"),
            "limit": limits.get(name),
            "items": count,
            "outcome": _outcome(wishes.get(name), count),
        }
        for name, count in items.items()
    }
    return {
        "tokens": len(generation["ids"]),
        "finished": generation["finished"],
        "events": events,
        "modalities": modalities,
        "warnings": _warnings(events, modalities),
    }


def vocabulary_of(generation: Any) -> SignalVocabulary:
    """The signal tokens with which an answer was said: its own, not those of this table."""
    try:
        return SignalVocabulary.from_json(generation["vocabulary"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NodeError(
            f"the signal tokens of the generation cannot be read: {type(error).__name__}: {error}.",
            remedy="Link an output of nextgpt.reason.",
            code="bad_generation",
            port="generation",
        ) from error


def _events(generation: Any) -> list[dict[str, Any]]:
    """Text, signals and broken runs in spoken order.

    The caption of a signal is what was said since the signal before it; where that is nothing, as between forced runs,
    the caption of the signal before.
    """
    runs = {run.get("position"): run for run in generation["runs"]}
    events: list[dict[str, Any]] = []
    words = caption = ""
    for event in scan(generation["ids"], vocabulary_of(generation)):
        place = {"start": event.start, "stop": event.stop}
        if isinstance(event, Text):
            said = "".join(generation["pieces"][event.start : event.stop])
            words += said
            events.append({"type": "text", **place, "text": said})
        elif isinstance(event, Media):
            run = runs.get(event.start, {})
            caption, words = words.strip() or caption, ""
            events.append(
                {
                    "type": "signal",
                    **place,
                    "modality": event.modality,
                    "order": event.order,
                    "decodable": event.modality in SPOKEN,
                    "caption": caption,
                    "reason": run.get("reason", "given"),
                    "probability": run.get("probability"),
                }
            )
        else:
            events.append({"type": "broken", **place})
    return events


def _outcome(wish: str | None, count: int) -> str:
    if count:
        return "made"
    return {"never": "forbidden", "always": "missing"}.get(wish or "", "not asked for")


def _warnings(events: list[dict[str, Any]], modalities: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What a person would not expect: broken runs, what nothing here can decode, wishes that were not fulfilled."""
    found = []
    for event in events:
        if event["type"] == "broken":
            found.append(f"token {event['start']}: a broken run of signals, ignored")
        elif event["type"] == "signal" and not event["decodable"]:
            found.append(f"token {event['start']}: signals for {event['modality']!r}, which nothing here can decode")
    for name, facts in modalities.items():
        if facts["outcome"] == "missing":
            found.append(f"a {noun_of(name)} was wished for always, but the answer has none")
    return found


def in_words(trace: Mapping[str, Any]) -> str:
    """A line per item, per modality that was not asked for, per warning, and one on how the answer ended."""
    lines, numbers = [], dict.fromkeys(trace["modalities"], 0)
    for event in trace["events"]:
        if event["type"] != "signal":
            continue
        numbers[event["modality"]] += 1
        why = REASONS.get(event["reason"], event["reason"])
        if event["probability"] is not None:
            why += f" (p = {event['probability']:.2g})"
        lines.append(f"{noun_of(event['modality'])} {numbers[event['modality']]} at token {event['start']}: {why}")
    for name, facts in trace["modalities"].items():
        if facts["outcome"] == "forbidden":
            lines.append(f"no {noun_of(name)}: forbidden")
        elif facts["outcome"] == "not asked for":
            lines.append(f"no {noun_of(name)}: the model did not ask for it")
    lines += [f"warning: {warning}" for warning in trace["warnings"]]
    if all(facts["outcome"] in ("not asked for", "forbidden") for facts in trace["modalities"].values()):
        free = [name for name, facts in trace["modalities"].items() if facts["outcome"] == "not asked for"]
        if free:
            lines.append(f"only text came out; set {' or '.join(free)} of nextgpt.reason to 'always' to insist")
    lines.append(f"{trace['tokens']} tokens, {ENDS.get(trace['finished'], trace['finished'])}")
    return "\n".join(lines)
