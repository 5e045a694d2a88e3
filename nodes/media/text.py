"""Text in and out of files."""

from __future__ import annotations

from typing import Annotated, Literal

from graph_engine import Effect, File, NodeContext, NodeError, Widget, node

CATEGORY = "media/text"
LIMIT_BYTES = 32 << 20
MEDIA_TYPES = {"txt": "text/plain", "md": "text/markdown", "json": "application/json", "csv": "text/csv"}


@node(id="media.load_text", category=CATEGORY)
def load_text(
    context: NodeContext,
    file: Annotated[str, Widget(upload="text")],
    encoding: Literal["utf-8", "utf-16", "gb18030", "latin-1"] = "utf-8",
) -> str:
    """Read a text file; a byte order mark is dropped and line ends become `\\n`."""
    path = context.input_path(file)
    size = path.stat().st_size
    if size > LIMIT_BYTES:
        raise NodeError(
            f"{path.name} has {size:,} bytes, more than the limit of {LIMIT_BYTES:,}.",
            remedy="Split the file.",
            code="too_large",
            port="file",
        )
    try:
        text = path.read_bytes().decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except UnicodeDecodeError as error:
        raise NodeError(
            f"{path.name} is no {encoding} text: byte {error.start} fits no character.",
            remedy="Choose the encoding in which it was written (gb18030 for older Chinese files).",
            code="wrong_encoding",
            port="encoding",
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


@node(id="media.save_text", category=CATEGORY, effect=Effect.EXTERNAL, output=True)
def save_text(
    context: NodeContext,
    text: Annotated[str, Widget(multiline=True)],
    name: str = "text",
    format: Literal["txt", "md", "json", "csv"] = "txt",
) -> File:
    """Write a text file in UTF-8 to the output folder. It carries no workflow, since it has no place for one."""
    from nodes.media.file_faults import complete_or_gone

    path = context.output_path(name, format)
    with complete_or_gone(path, "text"):
        path.write_text(text, encoding="utf-8", newline="\n")
    return context.file(path, MEDIA_TYPES[format], characters=len(text))


@node(id="media.show_text", category=CATEGORY, effect=Effect.EXTERNAL, output=True)
def show_text(text: str) -> str:
    """Show a text on the canvas."""
    return text
