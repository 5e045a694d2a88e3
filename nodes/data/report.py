"""Report: words, tables, pictures, sounds and films of any origin as one page that opens anywhere."""

from __future__ import annotations

import base64
import html
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from graph_engine import AnyValue, Effect, File, NodeContext, NodeError, Widget, node
from graph_engine.graph.kinds import describe
from nodes.control.port_order import natural
from nodes.data.table_text import columns_of, is_number, to_markdown, written

LIMIT_BYTES = 256 << 20
STYLE = """
body { font: 16px/1.6 system-ui, "Noto Sans CJK SC", sans-serif; color: #1f2937; background: #fff;
       max-width: 54rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3 { line-height: 1.25; } figure { margin: 1.5rem 0; } figcaption { color: #6b7280; font-size: .9rem; }
img, video { max-width: 100%; height: auto; border-radius: 6px; } audio { width: 100%; }
img, video { min-width: 16rem; }
table { border-collapse: collapse; margin: 1rem 0; } th, td { border: 1px solid #d1d5db; padding: .3rem .7rem; }
th { background: #e8eef7; text-align: left; } td.number { text-align: right; font-variant-numeric: tabular-nums; }
pre { background: #f3f4f6; padding: .8rem; overflow-x: auto; }
@media (prefers-color-scheme: dark) { body { color: #e5e7eb; background: #111827; } th { background: #1f2937; }
  pre { background: #1f2937; } th, td { border-color: #374151; } }
"""
POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"


class Report(NamedTuple):
    file: File
    markdown: str


@node(id="data.report", category="data/report", effect=Effect.EXTERNAL, output=True)
def report(
    context: NodeContext,
    title: str = "Report",
    text: Annotated[str, Widget(multiline=True)] = "",
    name: str = "report",
    **parts: list[AnyValue],
) -> Report:
    """Write a page with everything on it: one HTML file without links to others, and no script in it.

    text: an introduction in Markdown. parts, in the natural order of their port names: STRING (Markdown), TABLE, IMAGE,
    AUDIO, VIDEO, or anything that is JSON; the port's name is the caption, what follows a number in front of it
    ("_2_what_it_looks_like"). What was skipped is left out. `markdown` has the words and tables, with the captions of the
    media in their places.
    """
    pages, lines = [_markdown(text)] if text.strip() else [], [f"# {title}", *([text] if text.strip() else [])]
    room = LIMIT_BYTES
    given = [(port, value) for port in natural(parts) for value in parts[port] or []]
    for number, (port, value) in enumerate(given):
        caption = port.lstrip("_0123456789").strip("_ ").replace("_", " ")
        page, line = _part(value, caption, port)
        room -= len(page)
        if room < 0:
            raise NodeError(
                f"the report is larger than {LIMIT_BYTES >> 20} MB with {port!r} in it.",
                remedy="Make its films shorter or its pictures smaller.",
                code="too_large",
                port=port,
            )
        pages.append(page)
        lines.append(line)
        context.progress(number + 1, len(given))
    if not pages:
        raise NodeError(
            "the report is empty: it has neither text nor parts.",
            remedy="Enter a text or connect something.",
            code="empty_report",
            port="text",
        )
    from nodes.media.file_faults import complete_or_gone

    path = context.output_path(name, "html")
    with complete_or_gone(path, "report"):
        path.write_text(_page(title, pages), encoding="utf-8", newline="\n")
    return Report(context.file(path, "text/html", parts=len(given)), "\n\n".join(lines) + "\n")


def _page(title: str, pages: list[str]) -> str:
    name = html.escape(title)
    return (
        '<!doctype html>\n<html><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name}</title>\n<style>{STYLE}</style></head>\n<body>\n<h1>{name}</h1>\n"
        + "\n".join(pages)
        + "\n</body></html>\n"
    )


def _part(value: Any, caption: str, port: str) -> tuple[str, str]:
    """One part as HTML and as Markdown."""
    head = f"## {caption}\n\n" if caption else ""
    if isinstance(value, str):
        return _markdown(head + value), head + value
    if isinstance(value, Mapping) and {"columns", "rows"} <= set(value):
        title = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
        return f"<figure>{title}{_table(value)}</figure>", head + to_markdown(dict(value))
    medium = _medium(value, caption)
    if medium is not None:
        below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
        return f"<figure>{medium[0]}{below}</figure>", f"[{medium[1]}: {caption or port}]"
    import json

    try:
        code = json.dumps(value, ensure_ascii=False, indent=1)
    except (TypeError, ValueError):
        raise NodeError(
            f"a report shows STRING, TABLE, IMAGE, AUDIO, VIDEO and JSON, not {describe(value)}.",
            remedy="Link an output of one of these kinds, or turn it into text by control.to_text.",
            code="wrong_kind",
            port=port,
        ) from None
    return _markdown(f"{head}~~~~~~json\n{code}\n~~~~~~"), f"{head}```json\n{code}\n```"


def _medium(value: Any, caption: str) -> tuple[str, str] | None:
    """A medium as an HTML element, and what it is; None for what is none."""
    label = html.escape(caption, quote=True)
    if getattr(value, "ndim", 0) == 4 and value.shape[-1] in (1, 3, 4):
        from nodes.media.image_file import encode_image

        pictures = [_data("image/png", encode_image(picture, "png")) for picture in value]
        return "".join(f'<img alt="{label}" src="{source}">' for source in pictures), "picture"
    if isinstance(value, Mapping) and "frames" in value:
        return f'<video controls loop aria-label="{label}" src="{_written(value, "mp4")}"></video>', "film"
    if isinstance(value, Mapping) and "waveform" in value:
        sounds = [_written({**value, "waveform": one[None]}, "wav") for one in value["waveform"]]
        return "".join(f'<audio controls aria-label="{label}" src="{source}"></audio>' for source in sounds), "sound"
    return None


def _written(value: Mapping[str, Any], suffix: str) -> str:
    """A film or a sound as a data URL; the encoders want a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"part.{suffix}"
        if suffix == "mp4":
            from nodes.media.video_file import write_video

            write_video(path, value, "mp4")
            return _data("video/mp4", path.read_bytes())
        from nodes.media.audio_file import write_audio

        write_audio(path, value["waveform"][0], value["sample_rate"], "wav")
        return _data("audio/wav", path.read_bytes())


def _data(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _table(table: Mapping[str, Any]) -> str:
    numbers = [is_number(column) for column in columns_of(dict(table)).values()]
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table["columns"])
    rows = [
        "".join(
            f'<td class="number">{html.escape(written(cell))}</td>'
            if number
            else f"<td>{html.escape(written(cell))}</td>"
            for cell, number in zip(row, numbers, strict=True)
        )
        for row in table["rows"]
    ]
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _markdown(text: str) -> str:
    """CommonMark with tables; HTML in it is shown as text, and pictures from elsewhere are links."""
    from markdown_it import MarkdownIt

    return str(MarkdownIt("commonmark", {"html": False}).enable("table").disable("image").render(text))
