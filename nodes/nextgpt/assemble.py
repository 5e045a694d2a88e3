"""Assemble: words and decoded media as the assistant's turn, in the order in which they were spoken."""

from __future__ import annotations

from collections.abc import Mapping
from types import GenericAlias
from typing import Annotated, Any, NamedTuple

from graph_engine import Conversation, Needs, Skip, node
from graph_engine.graph.kinds import CONVERSATION
from nodes.nextgpt.kinds import Reply
from nodes.nextgpt.modality import noun_of, stamped
from nodes.nextgpt.per_modality import Port, per_modality


class Assembled(NamedTuple):
    conversation: Conversation
    reply_text: str


@node(id="nextgpt.assemble", version=stamped("1.1.0"), category="NExT-GPT/stages", needs=Needs(inline=True))
@per_modality(media=lambda row: Port(f"{row.name}s", GenericAlias(list, row.media), None))
def assemble(
    reply: Reply,
    *,
    media: Mapping[str, Any],
    previous: Annotated[Any, CONVERSATION] | None = None,
) -> Assembled:
    """The assistant's turn, added to the conversation it answers.

    images, videos, audios: what was made of the signals, in their order; a list that is too short lacks the last ones.
    What is missing stays a signal, with the reason. reply_text: the turn for people, with media as [picture 1], [sound
    1: not made].
    """
    made = {name: _entries(given) for name, given in media.items()}
    counts: dict[str, int] = {}
    parts: list[dict[str, Any]] = []
    shown = ""
    for event in reply:
        if event["type"] == "text":
            parts.append(dict(event))
            shown += event["text"]
            continue
        name = event["modality"]
        number = counts.get(name, 0)
        counts[name] = number + 1
        medium = made.get(name, [])[number : number + 1] or [Skip("nothing made it")]
        label = f"{noun_of(name)} {number + 1}"
        if isinstance(medium[0], Skip):
            parts.append({**event, "missing": medium[0].message or "it was skipped"})
            label += ": not made"
        else:
            parts += [dict(event), {"type": name, name: medium[0], "order": event["order"]}]
        shown += f"{' ' if shown and not shown[-1].isspace() else ''}[{label}]"
    return Assembled([*(previous or []), {"role": "assistant", "parts": parts}], shown.strip())


def _entries(media: Any) -> list[Any]:
    """A list port may be given one value, a list, in which a `Skip` keeps the place of what was not made, or nothing."""
    if media is None or isinstance(media, Skip):
        return []
    return list(media) if isinstance(media, list) else [media]
