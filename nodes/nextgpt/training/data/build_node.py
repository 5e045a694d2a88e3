"""Nodes that make an instruction-tuning set: authors, what media they want, and the builder.

dialogues_by_template ─┐                    ┌─ captions ─▶ any generator ─▶ images ─┐
                       ├─▶ wanted_media ────┴─ ...                                  ├─▶ build_mosit ─▶ preview_data
a language model ─▶ dialogues_from_text ────────────── dialogues ───────────────────┘
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

from graph_engine import Audio, Effect, File, Image, Json, NodeContext, NodeError, Video, Widget, node
from nodes.control.seed import MAX_SEED
from nodes.data.kinds import Table

CATEGORY = "NExT-GPT/training data"
Spoken = Literal["English", "Chinese", "both"]
Share = Annotated[float, Widget(min=0.0, max=1.0, step=0.01)]
_SPOKEN: dict[str, tuple[Any, ...]] = {"English": ("en",), "Chinese": ("zh",), "both": ("en", "zh")}


class Parsed(NamedTuple):
    dialogues: Json
    problems: Table


class Wishes(NamedTuple):
    images: list[str]
    videos: list[str]
    audios: list[str]


class Built(NamedTuple):
    file: File
    data: str
    statistics: Table
    rejected: Table


@node(id="nextgpt.dialogues_by_template", title="Dialogues by template", category=CATEGORY)
def dialogues_by_template(
    count: Annotated[int, Widget(min=1, max=100_000)] = 20,
    seed: Annotated[int, Widget(min=0, max=MAX_SEED, control="seed")] = 0,
    kinds: Annotated[str, Widget(placeholder="all; or: make image, mixed, edit")] = "",
    languages: Spoken = "both",
    least_rounds: Annotated[int, Widget(min=1, max=20)] = 1,
    most_rounds: Annotated[int, Widget(min=1, max=20)] = 4,
) -> Json:
    """Conversations about the small world of shapes, notes and moving things, whose media it can draw itself.

    kinds: of talks that follow one another in a conversation, separated by commas. rounds: how many.
    """
    from nodes.nextgpt.training.data.author import by_templates
    from nodes.nextgpt.training.data.dialogue import to_json

    names = [name.strip() for name in kinds.split(",") if name.strip()]
    if least_rounds > most_rounds:
        raise NodeError(
            f"at least {least_rounds} and at most {most_rounds} rounds are none.",
            remedy="Raise most_rounds, or lower least_rounds.",
            code="bad_range",
            port="least_rounds",
        )
    try:
        made = by_templates(count, seed, names, _SPOKEN[languages], (least_rounds, most_rounds))
    except ValueError as error:
        wrong, _, remedy = f"{error}".partition("; ")
        raise NodeError(
            f"{wrong}.", remedy=f"{remedy[0].upper()}{remedy[1:]}.", code="unknown_kind", port="kinds"
        ) from None
    return [to_json(dialogue) for dialogue in made]


@node(id="nextgpt.dialogue_request", title="Ask for a dialogue", category=CATEGORY)
def dialogue_request(
    topic: Annotated[str, Widget(multiline=True)] = "a walk along the coast",
    image: bool = True,
    video: bool = False,
    audio: bool = False,
    turns: Annotated[int, Widget(min=1, max=10)] = 3,
    language: Literal["English", "Chinese"] = "English",
) -> str:
    """What to ask a language model, so that `nextgpt.dialogues_from_text` understands its answer."""
    from nodes.nextgpt.training.data.author import request_for

    wanted = [name for name, on in (("image", image), ("video", video), ("audio", audio)) if on]
    return request_for(topic, wanted, turns, _SPOKEN[language][0])


@node(id="nextgpt.dialogues_from_text", title="Dialogues from text", category=CATEGORY)
def dialogues_from_text(texts: list[str], source: str = "language model") -> Parsed:
    """Conversations out of what a language model wrote, one per text.

    Lines begin with "Human:" or "GPT:"; a medium stands as `<image: its caption>`. problems: texts that are none, and why.
    """
    from nodes.nextgpt.training.data.author import by_text
    from nodes.nextgpt.training.data.dialogue import to_json

    found, problems = by_text(texts, source)
    rows = [[problem.place, problem.message, problem.remedy] for problem in problems]
    return Parsed([to_json(one) for one in found], {"columns": ["text", "problem", "remedy"], "rows": rows})


@node(id="nextgpt.wanted_media", title="Media that dialogues want", category=CATEGORY)
def wanted_media(dialogues: list[Json], drawn_too: bool = False) -> Wishes:
    """The captions of the media that have to be made, in the order in which `nextgpt.build_mosit` takes them.

    Link each list to any generator, which then makes one medium per caption. drawn_too: also of media that the small world
    can draw itself.
    """
    from nodes.nextgpt.training.data.gather import dialogues_of, is_to_make

    wanted = [medium for one in dialogues_of(dialogues) for _, medium in one.wanted() if is_to_make(medium, drawn_too)]
    captions = {name: [one.caption for one in wanted if one.modality == name] for name in ("image", "video", "audio")}
    return Wishes(captions["image"], captions["video"], captions["audio"])


@node(id="nextgpt.build_mosit", title="Build MosIT set", category=CATEGORY, effect=Effect.EXTERNAL, output=True)
def build_mosit(
    context: NodeContext,
    dialogues: list[Json],
    images: list[Image] | None = None,
    videos: list[Video] | None = None,
    audios: list[Audio] | None = None,
    shelf: Annotated[str, Widget(upload="*", placeholder="none")] = "",
    least_likeness: Share = 0.25,
    most_words: Annotated[int, Widget(min=1, max=100_000)] = 300,
    least_turns: Annotated[int, Widget(min=2, max=1000)] = 2,
    most_turns: Annotated[int, Widget(min=2, max=1000)] = 14,
    near_duplicate: Annotated[float, Widget(min=0.5, max=1.01, step=0.01)] = 0.8,
    largest_share: Annotated[float, Widget(min=0.01, max=1.0, step=0.01)] = 1.0,
    made_only: bool = False,
    name: str = "mosit/mosit",
) -> Built:
    """Write dialogues with their media as an instruction-tuning set in the original MosIT format.

    images, videos, audios: one per caption of `nextgpt.wanted_media` of the same dialogues. shelf: a data set with
    captions, or the file of one medium in a folder of media with text files beside them; what nothing was linked for is
    taken from it where a caption is like enough, else drawn if the small world can. A dialogue that lacks a medium is
    left out, and so are those that are too long, there already, or of a kind that has more than `largest_share` of the
    set. near_duplicate: share of five-character pieces from which on two are one; above 1 only equal ones are.
    made_only: without dialogues in which the human shows something. data: what the nodes of training data read.
    """
    from nodes.nextgpt.training.data import sift
    from nodes.nextgpt.training.data.gather import Source, dialogues_of
    from nodes.nextgpt.training.data.mosit import statistics_of, write_set

    all = dialogues_of(dialogues)
    source = Source(context, all, {"image": images, "video": videos, "audio": audios}, shelf, least_likeness)
    media = [source.of(dialogue) for dialogue in all]
    rules = sift.Rules(most_words, least_turns, most_turns, near_duplicate, largest_share, made_only)
    complete = [index for index, found in enumerate(media) if None not in found]
    lacking = [
        sift.Rejected(index + 1, "missing_medium", source.lacks(all[index], media[index]), all[index])
        for index in range(len(all))
        if None in media[index]
    ]
    kept, rejected = sift.sift([all[index] for index in complete], rules)
    renumbered = [
        sift.Rejected(complete[entry.number - 1] + 1, entry.code, entry.why, entry.dialogue) for entry in rejected
    ]
    left_out = sorted([*lacking, *renumbered], key=lambda entry: entry.number)
    if not kept:
        told = sorted({f"{entry.code} ({entry.why})" for entry in left_out})[:3] or ["there is no dialogue"]
        raise NodeError(
            f"nothing is left of {len(all)} dialogues: {'; '.join(told)}.",
            remedy="Relax the rules, or give it more dialogues and media.",
            code="empty_data",
            port="dialogues",
        )
    chosen = [complete[index] for index in kept]
    path = context.output_path(name, "json")
    try:
        write_set(
            path,
            [all[index] for index in chosen],
            [[found for found in media[index] if found is not None] for index in chosen],
            lambda done: context.progress(done, len(chosen)),
        )
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    written = [all[index] for index in chosen]
    file = context.file(path, "application/json", dialogues=len(written), left_out=len(left_out))
    data = f"{file['folder']}/{file['name']}"
    return Built(file, data, statistics_of(written), sift.table_of(left_out))
