"""Message: what the user says and shows in one turn, with files read as what they are."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from graph_engine import Conversation, NodeContext, NodeError, Widget, node
from nodes.nextgpt.conversation import OptionalConversation
from nodes.nextgpt.modality import SPOKEN

PLACE = re.compile("<(" + "|".join(map(re.escape, SPOKEN)) + ")>")
"""Where a medium stands within the text; as the training data of NExT-GPT write it."""
Parts = list[dict[str, Any]]


@node(id="nextgpt.message", category="NExT-GPT/conversation")
def message(
    context: NodeContext,
    text: Annotated[str, Widget(multiline=True)] = "",
    files: Annotated[list[str], Widget(upload="*")] = [],  # noqa: B006  (a default is only read)
    read_as: list[str] = [],  # noqa: B006  (as above)
    place: Annotated[Literal["before the text", "after the text"], Widget(label="media")] = "before the text",
    previous: OptionalConversation | None = None,
) -> Conversation:
    """Add the user's turn to a conversation, or begin one: a text and any number of pictures, sounds and videos.

    files: names in the input folder (or output/NAME), in the order in which the model gets them. Each is read as what
    it is; read_as has a modality per file where that is not what is meant ("audio" hears a video), "" for the rest.
    Media stand before or after the text, or where the text has `<image>`, `<video>` or `<audio>`.
    """
    from nodes.nextgpt.medium import reader_of, recognise

    media: Parts = []
    for index, name in enumerate(files):
        path = context.input_path(name)
        modality = read_as[index] if index < len(read_as) else ""
        if modality and modality not in SPOKEN:
            raise NodeError(
                f"{name} cannot be read as {modality!r}.",
                remedy=f"Use one of {', '.join(SPOKEN)}, or leave it out.",
                code="unknown_modality",
                port="read_as",
            )
        modality = modality or recognise(path).modality
        media.append({"type": modality, modality: reader_of(modality, path)(path)})
        context.progress(index + 1, len(files))
    parts = laid_out(text, media, place)
    if not parts:
        raise NodeError(
            "the message is empty: it has neither text nor files.",
            remedy="Enter a text or name a file.",
            code="empty_turn",
            port="text",
        )
    turns = list(previous or [])
    if turns and turns[-1]["role"] == "user":
        raise NodeError(
            "the conversation before this message ends with a turn of the user, which nobody answered.",
            remedy="Go on from a conversation that ends with an answer.",
            code="wrong_role",
            port="previous",
        )
    return [*turns, {"role": "user", "parts": parts}]


def laid_out(text: str, media: Parts, place: str) -> Parts:
    """Text and media as parts: `<image>` is the next picture in line, while there is one; the rest stand at `place`."""
    waiting = list(media)
    words: Parts = []
    end = 0
    for mark in PLACE.finditer(text):
        found = next((part for part in waiting if part["type"] == mark[1]), None)
        if found is not None:
            waiting = [part for part in waiting if part is not found]
            words += [*_words(text[end : mark.start()]), found]
            end = mark.end()
    words += _words(text[end:])
    return [*waiting, *words] if place == "before the text" else [*words, *waiting]


def _words(text: str) -> Parts:
    return [{"type": "text", "text": text}] if text.strip() else []
