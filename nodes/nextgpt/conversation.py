"""Conversation: turns of typed parts, from which the language model's prompt is laid out.

    [{"role": "user", "parts": [{"type": "features", "modality": "image", "tensor": "M H"},
                                {"type": "text", "text": "..."}]},
     {"role": "assistant", "parts": [{"type": "text", "text": "..."},
                                     {"type": "signal", "modality": "audio", "order": 0},
                                     {"type": "audio", "audio": AUDIO, "order": 0}]}]

A medium that was made in reply to a signal stands after it, under the name of its modality. A medium of the user has
no order.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from graph_engine import (
    AnyValue,
    Conversation,
    Encoder,
    InputProjector,
    Needs,
    NodeContext,
    NodeError,
    Skip,
    Widget,
    node,
)
from graph_engine.graph.kinds import CONVERSATION, TOKENS, describe
from nodes.control.port_order import natural
from nodes.nextgpt.modality import SPOKEN

CATEGORY = "NExT-GPT/stages"
OptionalConversation = Annotated[Any, CONVERSATION]


@node(id="nextgpt.conversation", version="1.1.0", category=CATEGORY, needs=Needs(inline=True))
def conversation(
    text: Annotated[str, Widget(multiline=True)] = "",
    role: Literal["user", "assistant"] = "user",
    place: Annotated[Literal["before the text", "after the text"], Widget(label="media")] = "before the text",
    previous: OptionalConversation | None = None,
    **media: list[AnyValue],
) -> Conversation:
    """Add a turn to a conversation, or begin one: media, in the natural order of their port names, and a text.

    media: TOKENS "B M H", or IMAGE, VIDEO, AUDIO as they are, which `nextgpt.encode_conversation` turns into features.
    B media each; a list adds all of its entries. A medium that was skipped is left out.
    """
    shown = [part for name in natural(media) for value in _as_list(media[name]) for part in _parts(value, name)]
    words = [{"type": "text", "text": text}] if text else []
    parts = [*shown, *words] if place == "before the text" else [*words, *shown]
    if not parts:
        raise NodeError(
            "the turn is empty: it has neither text nor media.",
            remedy="Enter a text or connect a medium.",
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


@node(
    id="nextgpt.encode_conversation",
    version="1.1.0",
    category=CATEGORY,
    # Which trunks of the encoder are wanted, the conversation says when it is there.
    needs=Needs(device=True, models=lambda values: [values["projector"]]),
)
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

    total = sum(part["type"] in SPOKEN for turn in conversation for part in turn["parts"])
    done, turns = 0, []
    for number, turn in enumerate(conversation):
        made = {part.get("order") for part in turn["parts"] if part["type"] in SPOKEN} - {None}
        parts: list[Any] = []
        for part in turn["parts"]:
            name = part["type"]
            if name in SPOKEN:
                context.progress(done, total, f"{SPOKEN[name].noun} of turn {number + 1}")
                embedding = embed(context, name, part[name], encoder, form)
                parts += _features(project_in(context, embedding, projector))
                done += 1
            elif name != "signal" or part.get("order") not in made:
                parts.append(part)
        turns.append({**turn, "parts": parts})
    if total:
        context.progress(total, total)
    return turns


def _features(tokens: Any) -> list[dict[str, Any]]:
    return [{"type": "features", "modality": tokens["modality"], "tensor": item} for item in tokens["tensor"]]


def _parts(value: Any, port: str) -> list[dict[str, Any]]:
    """TOKENS as features, another medium as it is, one part for each of a batch. Raises NodeError for what is neither."""
    from nodes.nextgpt.medium import form_of

    if isinstance(value, dict) and "tensor" in value:
        return _features(TOKENS.check(value))
    form = form_of(value)
    if form is None:
        raise NodeError(
            f"{describe(value)} is no part of a turn.",
            remedy="Connect TOKENS, a picture, a video or a sound.",
            code="bad_part",
            port=port,
        )
    return [{"type": form.modality, form.modality: single} for single in form.single(form.kind.check(value))]


def _as_list(value: Any) -> list[Any]:
    """A port that takes a list may be given one value, a list with holes, or nothing."""
    if value is None:
        return []
    return [entry for entry in value if not isinstance(entry, Skip)] if isinstance(value, list) else [value]
