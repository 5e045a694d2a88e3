"""Conversation: turns of typed parts, from which the language model's prompt is laid out.

    [{"role": "user", "parts": [{"type": "features", "modality": "image", "tensor": "M H"},
                                {"type": "text", "text": "..."}]},
     {"role": "assistant", "parts": [{"type": "text", "text": "..."},
                                     {"type": "signal", "modality": "audio", "order": 0},
                                     {"type": "audio", "audio": AUDIO, "order": 0}]}]

A medium that was made in reply to a signal stands after it, under the name of its modality.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from graph_engine import Conversation, Encoder, InputProjector, Needs, NodeContext, NodeError, Tokens, Widget, node
from graph_engine.graph.kinds import CONVERSATION
from nodes.control.port_order import natural
from nodes.nextgpt.modality import SPOKEN

CATEGORY = "NExT-GPT/stages"
OptionalConversation = Annotated[Any, CONVERSATION]


@node(id="nextgpt.conversation", category=CATEGORY, needs=Needs(inline=True))
def conversation(
    text: Annotated[str, Widget(multiline=True)] = "",
    role: Literal["user", "assistant"] = "user",
    place: Annotated[Literal["before the text", "after the text"], Widget(label="media")] = "before the text",
    previous: OptionalConversation | None = None,
    **media: list[Tokens],
) -> Conversation:
    """Add a turn to a conversation, or begin one: media, in the natural order of their port names, and a text.

    media: TOKENS "B M H", B media each; a list adds all of its entries. A medium that was skipped is left out.
    """
    features = [part for name in natural(media) for tokens in _as_list(media[name]) for part in _features(tokens)]
    words = [{"type": "text", "text": text}] if text else []
    parts = [*features, *words] if place == "before the text" else [*words, *features]
    if not parts:
        raise NodeError(
            "the turn is empty: it has neither text nor media.",
            remedy="Enter a text or connect TOKENS.",
            code="empty_turn",
            port="text",
        )
    turns = list(previous or [])
    if not turns and role != "user":
        raise NodeError(
            "a conversation begins with a turn of the user.",
            remedy="Set role to user, or connect what was said before.",
            code="wrong_role",
            port="role",
        )
    return [*turns, {"role": role, "parts": parts}]


@node(id="nextgpt.encode_conversation", category=CATEGORY, needs=Needs(device=True))
def encode_conversation(
    context: NodeContext,
    conversation: Conversation,
    encoder: Encoder,
    projector: InputProjector,
    form: Literal["auto", "global", "patch"] = "auto",
) -> Conversation:
    """Let the language model see and hear what earlier turns made: their media go through encoder and projector again.

    Each picture, video or sound of a turn becomes features "M H" and takes the place of the signal that asked for it.
    """
    from nodes.nextgpt.encode import embed
    from nodes.nextgpt.project_in import project_in

    turns = []
    for turn in conversation:
        made = {part.get("order") for part in turn["parts"] if part["type"] in SPOKEN}
        parts: list[Any] = []
        for part in turn["parts"]:
            name = part["type"]
            if name in SPOKEN:
                embedding = embed(context, name, part[name], encoder, form)
                parts += _features(project_in(context, embedding, projector))
            elif name != "signal" or part.get("order") not in made:
                parts.append(part)
        turns.append({**turn, "parts": parts})
    return turns


def _features(tokens: Any) -> list[dict[str, Any]]:
    return [{"type": "features", "modality": tokens["modality"], "tensor": item} for item in tokens["tensor"]]


def _as_list(value: Any) -> list[Any]:
    """A port that takes a list may be given one value, a list with holes, or nothing."""
    if value is None:
        return []
    return [entry for entry in value if hasattr(entry, "get")] if isinstance(value, list) else [value]
