"""Trace picture: why an answer is as it is, as a picture for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from graph_engine import Image, NodeError, Widget, node
from nodes.nextgpt.kinds import Generation
from nodes.nextgpt.modality import noun_of
from nodes.nextgpt.trace import ENDS, in_words, trace_of, vocabulary_of

if TYPE_CHECKING:
    from nodes.nextgpt.heat_strip import Cell


@node(id="nextgpt.trace_picture", category="NExT-GPT/stages")
def trace_picture(
    generation: Generation,
    width: Annotated[int, Widget(min=480, max=4096, step=8)] = 1600,
    text_size: Annotated[int, Widget(min=10, max=64)] = 22,
) -> Image:
    """The answer token by token as a picture "1 H W 3": how sure the model was, and how near it was to each modality.

    Each token is a cell, coloured by its probability; a run of signals is one cell in the colour of its modality. The
    rows below show how likely the model was, at each token, to begin a picture, a video or a sound.
    """
    import numpy
    import torch

    from nodes.nextgpt.glyphs import line
    from nodes.nextgpt.heat_strip import Strip, draw_strip

    trace = trace_of(generation)
    names = vocabulary_of(generation).modalities
    confidence = _numbers(generation.get("confidence"), len(generation["ids"]), "confidence")
    cells = _cells(generation, trace, names, confidence)
    notes = in_words(trace).splitlines()[:-1]  # the last one is the title
    lacking = "".join(dict.fromkeys(sign for cell in cells for sign in line(cell.label, text_size * 0.9).lacking))
    if lacking:
        codes = " ".join(f"u{ord(sign):04X}" for sign in lacking[:12])
        notes.append(f"no font here has {codes}{' …' if len(lacking) > 12 else ''}; install one, such as Noto Sans CJK")
    strip = Strip(
        cells=cells,
        mass=_mass(generation, trace, names),
        counts={name: facts["items"] for name, facts in trace["modalities"].items()},
        title=f"{trace['tokens']} tokens: {ENDS.get(trace['finished'], trace['finished'])}",
        notes=notes,
        confidence=any(value is not None for value in confidence),
    )
    picture = numpy.asarray(draw_strip(strip, width, text_size), dtype=numpy.float32) / 255
    return torch.from_numpy(picture)[None]


def _cells(
    generation: Any, trace: Mapping[str, Any], names: Sequence[str], confidence: Sequence[float | None]
) -> list[Cell]:
    """A cell per word token and per run; of a very long answer the beginning and the end."""
    from nodes.nextgpt.heat_strip import BLANK, BROKEN, FORCED, INK, MOST_TOKENS, SOFT, Cell, hue, sure

    cells: list[Cell] = []
    for event in trace["events"]:
        start, stop = event["start"], event["stop"]
        if event["type"] == "signal":
            label = noun_of(event["modality"])
            if event["probability"] is not None:
                label += f"  p {event['probability']:.2g}"
            if event["reason"] in FORCED:
                label += f"  {FORCED[event['reason']]}"
            cells.append(Cell(start, stop, label, hue(names, event["modality"]), "#ffffff"))
        elif event["type"] == "broken":
            cells.append(Cell(start, stop, "broken run", BROKEN, "#ffffff"))
        else:
            for token in range(start, stop):
                known = confidence[token]
                fill = BLANK if known is None else sure(known)
                text = generation["pieces"][token]
                shown = text.strip().replace("\n", "\\n") or {"": "·"}.get(text, "\\n" if "\n" in text else "␣")
                cells.append(Cell(token, token + 1, shown, fill, INK if text.strip() else SOFT))
    if len(cells) > MOST_TOKENS:
        begin, end = cells[: MOST_TOKENS // 2], cells[-MOST_TOKENS // 2 :]
        left_out = end[0].start - begin[-1].stop
        cells = [*begin, Cell(begin[-1].stop, begin[-1].stop + 1, f"… {left_out} tokens …", BLANK, SOFT), *end]
    return cells


def _mass(generation: Any, trace: Mapping[str, Any], names: Sequence[str]) -> dict[str, list[float | None]]:
    """Per modality the probability of its first signal token at each token; without a record, at its runs alone."""
    length, recorded = len(generation["ids"]), generation.get("signal_mass") or {}
    rows: dict[str, list[float | None]] = {}
    for name in names:
        rows[name] = _numbers(recorded.get(name), length, f"signal_mass of {name}")
    for event in trace["events"]:
        if event["type"] == "signal" and rows[event["modality"]][event["start"]] is None:
            rows[event["modality"]][event["start"]] = event["probability"]
    return rows


def _numbers(values: Any, length: int, what: str) -> list[float | None]:
    """One number per token, None where it is not known. Raises NodeError for another length."""
    if values is None:
        return [None] * length
    if len(values) != length:
        raise NodeError(
            f"the {what} has {len(values)} numbers for {length} tokens.",
            remedy="Link an output of nextgpt.reason.",
            code="bad_generation",
            port="generation",
        )
    return [None if value is None else float(value) for value in values]
