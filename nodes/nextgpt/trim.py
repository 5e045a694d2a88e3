"""Trim: what of a long conversation the language model still sees."""

from __future__ import annotations

import sys
from typing import Annotated, Any, NamedTuple

from graph_engine import Conversation, LanguageModel, NodeContext, Widget, node
from graph_engine.graph.kinds import LANGUAGE_MODEL

Exchanges = list[list[Any]]


class Trimmed(NamedTuple):
    conversation: Conversation
    dropped: str


@node(id="nextgpt.trim_conversation", category="NExT-GPT/conversation")
def trim_conversation(
    context: NodeContext,
    conversation: Conversation,
    model: Annotated[Any, LANGUAGE_MODEL] | None = None,
    exchanges: Annotated[int, Widget(min=0, max=10_000)] = 0,
    max_tokens: Annotated[int, Widget(min=0, max=10_000_000)] = 0,
    reserve_tokens: Annotated[int, Widget(min=0, max=1_000_000)] = 150,
    keep_first: bool = True,
) -> Trimmed:
    """Leave out the oldest turns of a conversation that is too long for the language model.

    Whole exchanges go, a user's turn with its answer, because half of one would mislead. The newest turn always stays;
    the first exchange stays as long as it fits (keep_first), because it says what the talk is about.

    exchanges: keep so many of the last (and the first), 0 for all. With a model linked, what is kept fits into
    max_tokens (0: the model's context) less reserve_tokens, the room for the answer; put it behind
    `nextgpt.encode_conversation`, whose features count as the model will see them.
    dropped: which turns were left out and why; empty if none.
    """
    every = _exchanges(conversation)
    kept = list(range(len(every)))
    reasons = []
    if exchanges and len(kept) > exchanges:
        kept = ([0] if keep_first else []) + kept[-exchanges:]
        reasons.append(f"the last {exchanges} exchanges are kept" if exchanges > 1 else "the last exchange is kept")
    if model is not None and len(kept) > 1:
        budget = (max_tokens or _context_length(model)) - reserve_tokens
        count = _Counter(context, model)
        whole = length = count([turn for index in kept for turn in every[index]])
        while length > budget and len(kept) > 1:
            del kept[1 if keep_first and len(kept) > 2 else 0]
            length = count([turn for index in kept for turn in every[index]])
        if whole > budget:
            reasons.append(f"{whole} tokens are more than the {budget} there is room for, {length} are left")
    gone = _numbers(every, set(kept))
    said = f"left out {gone}: {'; '.join(reasons)}." if gone else ""
    if said:
        context.log(said)
    return Trimmed([turn for index in kept for turn in every[index]], said)


def _exchanges(conversation: Any) -> Exchanges:
    """Each begins with a turn of the user."""
    found: Exchanges = []
    for turn in conversation:
        if turn["role"] == "user" or not found:
            found.append([])
        found[-1].append(turn)
    return found


def _numbers(every: Exchanges, kept: set[int]) -> str:
    """Which turns are gone, counted from 1: "turns 3 to 6"."""
    numbers: list[int] = []
    at = 0
    for index, exchange in enumerate(every):
        if index not in kept:
            numbers += range(at + 1, at + len(exchange) + 1)
        at += len(exchange)
    spans: list[list[int]] = []
    for number in numbers:
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    words = [f"{low} to {high}" if low < high else f"{low}" for low, high in spans]
    return f"turn{'s' * (len(numbers) > 1)} {' and '.join(words)}" if words else ""


def _context_length(model: LanguageModel) -> int:
    """From the spec, so that no weight is loaded to count; without end where the model does not count its positions."""
    options = model.config.get("options", model.config)
    options = options.get("text_config", options)
    return int(options.get("max_position_embeddings") or sys.maxsize)


class _Counter:
    """Tokens of a conversation, laid out as `nextgpt.reason` does it. Media that were not encoded count for nothing."""

    def __init__(self, context: NodeContext, model: Any) -> None:
        from nodes.nextgpt.words import words_of

        self.words = words_of(model.extras, context.models_dir)

    def __call__(self, turns: list[Any]) -> int:
        from nodes.nextgpt.model.prompts import FeaturePart, SignalPart, TextPart, Turn, lay_out

        words = self.words
        made: dict[str, Any] = {
            "text": lambda part: TextPart(part["text"]),
            "features": lambda part: FeaturePart(part["tensor"]),
            "signal": lambda part: SignalPart(part["modality"]),
        }
        prompt = [
            Turn(turn["role"], tuple(made[part["type"]](part) for part in turn["parts"] if part["type"] in made))
            for turn in turns
        ]
        return sum(len(piece) for piece in lay_out(prompt, words.layout, words.tokenizer, words.vocabulary))
