"""Assemble: words and decoded media as the assistant's turn, in the order in which they were spoken."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

from graph_engine import Audio, Conversation, Image, Needs, Video, node
from graph_engine.graph.kinds import CONVERSATION
from nodes.nextgpt.kinds import Reply
from nodes.nextgpt.modality import SPOKEN


class Assembled(NamedTuple):
    conversation: Conversation
    reply_text: str


@node(id="nextgpt.assemble", category="NExT-GPT/stages", needs=Needs(inline=True))
def assemble(
    reply: Reply,
    images: list[Image] | None = None,
    videos: list[Video] | None = None,
    audios: list[Audio] | None = None,
    previous: Annotated[Any, CONVERSATION] | None = None,
) -> Assembled:
    """The assistant's turn, added to the conversation it answers.

    images, videos, audios: what was made of the signals, in their order; what is missing stays a signal.
    reply_text: the turn for people, with media as [picture 1], [sound 1].
    """
    made = {"image": _present(images), "video": _present(videos), "audio": _present(audios)}
    counts = dict.fromkeys(SPOKEN, 0)
    parts: list[dict[str, Any]] = []
    shown = ""
    for event in reply:
        parts.append(dict(event))
        if event["type"] == "text":
            shown += event["text"]
            continue
        name, number = event["modality"], counts[event["modality"]]
        counts[name] += 1
        shown += f"{' ' if shown and not shown[-1].isspace() else ''}[{SPOKEN[name].noun} {number + 1}]"
        if number < len(made[name]):
            parts.append({"type": name, name: made[name][number], "order": event["order"]})
    return Assembled([*(previous or []), {"role": "assistant", "parts": parts}], shown.strip())


def _present(media: Any) -> list[Any]:
    """A list port may be given one value, a list with holes, or nothing; tensors and dicts are media, a Skip is not."""
    if media is None:
        return []
    entries = media if isinstance(media, list) else [media]
    return [entry for entry in entries if not isinstance(entry, tuple)]
