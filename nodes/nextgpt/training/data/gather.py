"""Gather: the media that dialogues want, from wherever they come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from graph_engine import NodeContext, NodeError, Skip
from graph_engine.errors import InvalidError, Problem
from nodes.nextgpt.training.data.dialogue import Dialogue, Wanted, from_json
from nodes.nextgpt.training.data.mosit import Found, drawn
from nodes.nextgpt.training.data.shelf import Shelf, open_shelf


class Source:
    """Where the media of dialogues come from: what was linked, else the shelf, else the small world."""

    def __init__(
        self, context: NodeContext, dialogues: Sequence[Dialogue], linked: Mapping[str, Any], shelf: str, least: float
    ) -> None:
        self.least = least
        self.shelf: Shelf | None = None
        self.shelf_name = shelf
        if shelf:
            file = context.input_path(shelf)
            self.shelf = open_shelf(file if file.suffix in (".json", ".jsonl", ".tar") else file.parent)
        wanted = [medium for one in dialogues for _, medium in one.wanted()]
        self.linked: dict[str, Iterator[Any]] = {}
        self.drawn_too: dict[str, bool] = {}
        for modality, values in linked.items():
            if values is None:
                continue
            counts = [sum(m.modality == modality and is_to_make(m, too) for m in wanted) for too in (False, True)]
            if len(values) not in counts:
                raise NodeError(
                    f"{len(values)} {modality}s are linked, but the dialogues want {counts[0]} (with those that the small "
                    f"world can draw: {counts[1]}).",
                    remedy="Make one per caption of nextgpt.wanted_media of the same dialogues; a generator that skips "
                    "one shifts the rest.",
                    code="media_mismatch",
                    port=f"{modality}s",
                )
            self.linked[modality], self.drawn_too[modality] = iter(values), len(values) != counts[0]

    def of(self, dialogue: Dialogue) -> list[Found | None]:
        """In the order in which they are wanted; None for what is nowhere."""
        return [self._one(medium) for _, medium in dialogue.wanted()]

    def lacks(self, dialogue: Dialogue, found: Sequence[Found | None]) -> str:
        wanted = [medium for _, medium in dialogue.wanted()]
        lost = [f"the {m.modality} {m.caption!r}" for m, there in zip(wanted, found, strict=True) if there is None]
        return f"nothing was found for {', '.join(lost)}"

    def _one(self, medium: Wanted) -> Found | None:
        if medium.modality in self.linked and is_to_make(medium, self.drawn_too[medium.modality]):
            value = next(self.linked[medium.modality])
            return None if isinstance(value, Skip) else Found(value, "generated")
        if self.shelf is not None:
            near = self.shelf.nearest(medium.caption, medium.modality, self.least)
            if near is not None:
                return Found(near, Path(self.shelf_name).name)
        return drawn(medium)


def is_to_make(medium: Wanted, drawn_too: bool) -> bool:
    return drawn_too or medium.drawn is None


def dialogues_of(values: Sequence[Any]) -> list[Dialogue]:
    """Of one author or of several. Raises InvalidError that says which is none."""
    found, problems = [], []
    flat = [entry for value in values for entry in (value if isinstance(value, list) else [value])]
    for number, entry in enumerate(flat, 1):
        try:
            found.append(from_json(entry))
        except ValueError as error:
            remedy = "Link nextgpt.dialogues_by_template or nextgpt.dialogues_from_text."
            problems.append(Problem("bad_dialogue", f"{error}.", remedy, place=f"dialogue {number}"))
    if problems:
        raise InvalidError(problems[:20])
    return found
