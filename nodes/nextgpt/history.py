"""History: conversations in and out of files, so that a run can go on where an earlier one ended.

A history is never changed: each run writes a file of its own, and the next one names the file it goes on from. So it
outlives restarts, two chats at once cannot mix, and going back is naming an earlier file.
"""

from __future__ import annotations

from typing import Annotated, Literal

from graph_engine import Conversation, Effect, File, NodeContext, Widget, node

CATEGORY = "NExT-GPT/conversation"


@node(id="nextgpt.load_conversation", category=CATEGORY)
def load_conversation(context: NodeContext, file: Annotated[str, Widget(upload="*")] = "") -> Conversation:
    """Read a conversation from a file, with all of its media; no file begins a new one.

    file: what `nextgpt.save_conversation` wrote (`output/chat_00001.json` is found there), or a ZIP archive of it. It is
    checked: a role out of order, a part of an unknown type, a missing medium and a path that leaves the folder are errors
    that name turn and part. Media are named by their content; give a changed medium a new name.
    """
    if not file:
        return []
    from nodes.nextgpt.conversation_file import read

    return read(context.input_path(file), context.scratch())


@node(id="nextgpt.save_conversation", category=CATEGORY, effect=Effect.EXTERNAL, output=True)
def save_conversation(
    context: NodeContext,
    conversation: Conversation,
    name: str = "chat",
    form: Literal["folder", "archive"] = "folder",
) -> File:
    """Write a conversation to the output folder: as JSON with its media beside it, or as one ZIP archive.

    Pictures become PNG, films Matroska with FFV1, sounds WAV with 32-bit floats; nothing is lost but what a picture has
    beyond 8 bits a channel. `folder` writes only media that are not there yet (NAME_media is shared by NAME_00001.json,
    NAME_00002.json, ...); `archive` can be moved and uploaded as it is.
    """
    from nodes.media.file_faults import complete_or_gone
    from nodes.nextgpt.conversation_file import pack, write

    suffix, media_type = {"folder": ("json", "application/json"), "archive": ("zip", "application/zip")}[form]
    path = context.output_path(name, suffix)
    with complete_or_gone(path, "conversation"):
        if form == "folder":
            write(conversation, path)
        else:
            loose = context.scratch() / "conversation.json"
            write(conversation, loose)
            pack(loose, path)
    media = sum("text" not in part and part["type"] != "signal" for turn in conversation for part in turn["parts"])
    return context.file(path, media_type, turns=len(conversation), media=media)
