"""Nodes that look at a data set of any format that is read: a preview sheet, duplicates, balance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NamedTuple

from graph_engine import Effect, File, NodeContext, Widget, node
from nodes.data.kinds import Table
from nodes.nextgpt.training.data.build_node import CATEGORY

Data = Annotated[str, Widget(upload="*", placeholder="mosit.json, pairs.jsonl, shards.tar")]


class Duplicates(NamedTuple):
    duplicates: Table
    summary: str


class Balance(NamedTuple):
    table: Table
    evenness: Table


@node(id="nextgpt.preview_data", title="Preview data", category=CATEGORY, effect=Effect.EXTERNAL, output=True)
def preview_data(
    context: NodeContext,
    data: Data,
    count: Annotated[int, Widget(min=1, max=200)] = 12,
    name: str = "preview",
    statistics: Table | None = None,
) -> File:
    """A page with the first conversations of a data set, their media where they stand, and what could not be read."""
    from nodes.data.report import report
    from nodes.nextgpt.training.data.place import place_of
    from nodes.nextgpt.training.data.talks import SHOWN, read_set

    found = read_set(place_of(context, data))
    parts: dict[str, list[Any]] = {}
    if statistics is not None:
        parts["0_what there is"] = [statistics]
    for number, talk in enumerate(found.talks[:count], 1):
        parts[f"{number}"] = _shown(number, talk)
    if found.problems:
        rows = [[problem.place, problem.message] for problem in found.problems[:SHOWN]]
        title = f"{count + 1}_what cannot be read ({len(found.problems)})"
        parts[title] = [{"columns": ["place", "problem"], "rows": rows}]
    text = f"{len(found.talks):,} conversations; the first {min(count, len(found.talks))} of them."
    return report(context, title=Path(data).name, text=text, name=name, **parts).file


@node(id="nextgpt.find_duplicates", title="Find duplicates", category=CATEGORY, effect=Effect.EXTERNAL)
def find_duplicates(
    context: NodeContext,
    data: Data,
    near_text: Annotated[float, Widget(min=0.5, max=1.0, step=0.01)] = 0.8,
) -> Duplicates:
    """What is in a data set more than once: conversations and media, equal or nearly so, one row per entry of a group.

    near_text: share of five-character pieces from which on two texts are nearly one.
    """
    from nodes.nextgpt.training.data import duplicates

    found = _read(context, data)
    media = duplicates.media_of(found.talks)
    same, broken = duplicates.duplicate_media(media, lambda done: context.progress(done, len(media)))
    words, beside = duplicates.texts_of(found.talks)
    groups = [*duplicates.duplicate_texts(words, near_text, beside), *same]
    lines = [f"{len(found.talks)} conversations, {len(media)} media files."]
    for what in ("text", "image", "video", "audio"):
        for how in ("exact", "near"):
            chosen = [group for group in groups if (group.what, group.how) == (what, how)]
            if chosen:
                spare = sum(len(group.places) - 1 for group in chosen)
                lines.append(f"{what}, {how}: {spare} could go, of {len(chosen)} groups.")
    if len(lines) == 1:
        lines.append("Nothing is there twice.")
    lines += [f"cannot be read: {place}: {why}" for place, why in broken.items()]
    return Duplicates(duplicates.table_of(groups), "\n".join(lines))


@node(id="nextgpt.balance", title="Balance of data", category=CATEGORY, effect=Effect.EXTERNAL)
def balance(
    context: NodeContext, data: Data, labels: Annotated[str, Widget(placeholder="all; or: kind, colour")] = ""
) -> Balance:
    """How often each label occurs in a data set: kinds, languages, media, and attributes that captions name.

    table: a row per value, to be drawn by `data.chart`. evenness: a row per label, 1 where all values are equally
    frequent.
    """
    from nodes.nextgpt.training.data import balance as balances

    counts = balances.counts_of(_read(context, data).talks)
    names = [name.strip() for name in labels.split(",") if name.strip()]
    return Balance(balances.table_of(counts, names), balances.evenness_table(counts))


def _read(context: NodeContext, data: str) -> Any:
    """A `DataSet`. Raises InvalidError if nothing of it can be read; single broken records are for the preview."""
    from graph_engine.errors import InvalidError
    from nodes.nextgpt.training.data.place import place_of
    from nodes.nextgpt.training.data.talks import SHOWN, read_set

    found = read_set(place_of(context, data))
    if not found.talks and found.problems:
        raise InvalidError(found.problems[:SHOWN])
    return found


def _shown(number: int, talk: Any) -> list[Any]:
    """Turns of a `Talk` as words, media between them."""
    from nodes.nextgpt.training.media import as_value
    from nodes.nextgpt.training.media_file import MediaFile
    from nodes.nextgpt.training.world.caption import modality_of

    parts: list[Any] = [f"### {number}. {talk.kind} ({talk.language})"]
    for said in talk.turns:
        words = f"**{'Human' if said.role == 'user' else 'GPT'}:** "
        for part in said.parts:
            if isinstance(part, str):
                words += f"{part} "
                continue
            caption = f" {part.caption}" if isinstance(part, MediaFile) and part.caption else ""
            parts += [f"{words}*{modality_of(part)}:{caption}*", as_value(part)]
            words = ""
        if words.strip():
            parts.append(words)
    return parts
