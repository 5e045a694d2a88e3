"""MosIT: a set of dialogues as the original's raw JSON, with its media beside it.

    [{"image_list": [{"image_name", "data_source", "caption"}], "video_list": [...], "audio_list": [...],
      "conversation": [{"from": "human", "value": "..."}, {"from": "gpt", "value": "... <image>"}]}]

The lists hold what the assistant gives, in the order of the placeholders. What the human shows, which the published set
does not have, is named by `input_image`, `input_video` and `input_audio`, as its understanding files do. Media lie in
folders called like their modality and are named by their content, so that equal ones are there once and a set that was
interrupted is taken up where it was; the JSON is written last.
"""

from __future__ import annotations

import json
import shutil
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodes.media.file_faults import complete_or_gone
from nodes.nextgpt.training.data.dialogue import Dialogue, Wanted
from nodes.nextgpt.training.media_file import MediaFile

SUFFIX: Mapping[str, str] = {"image": ".png", "video": ".mp4", "audio": ".wav"}


@dataclass(frozen=True)
class Found:
    """A medium that was made or taken for a place: its value (IMAGE, VIDEO, AUDIO) or file, and where it is from."""

    value: Any
    source: str


def lay_down(found: Found, modality: str, folder: Path) -> str:
    """Put a medium into `folder/MODALITY` and return its name there. A file is copied as it is."""
    from nodes.nextgpt.medium import digest

    place = folder / modality
    place.mkdir(parents=True, exist_ok=True)
    if isinstance(found.value, MediaFile):
        name = f"{_digest(found.value.path)}{found.value.path.suffix.lower()}"
        _whole(place / name, modality, lambda path: shutil.copyfile(found.value.path, path))
        return name
    name = f"{digest(found.value)}{SUFFIX[modality]}"
    _whole(place / name, modality, lambda path: _write(path, modality, found.value))
    return name


def record_of(dialogue: Dialogue, names: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The record; names: (name, source) of its media, in the order in which they are wanted."""
    record: dict[str, Any] = {f"{modality}_list": [] for modality in SUFFIX}
    waiting = iter(names)
    conversation = []
    for turn in dialogue.turns:
        value = []
        for part in turn.parts:
            if isinstance(part, str):
                value.append(part)
                continue
            name, source = next(waiting)
            value.append(f"<{part.modality}>")
            if turn.speaker == "gpt":
                entry = {f"{part.modality}_name": name, "data_source": source, "caption": part.caption}
                record[f"{part.modality}_list"].append(entry)
            else:
                record.setdefault(f"input_{part.modality}", []).append(name)
        conversation.append({"from": turn.speaker, "value": "\n".join(value)})
    return {**record, "conversation": conversation}


def write_set(
    file: Path,
    dialogues: Sequence[Dialogue],
    media: Sequence[Sequence[Found]],
    on_progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Write `file` and its media beside it; media: of each dialogue, in the order in which it wants them."""
    records = []
    for number, (dialogue, found) in enumerate(zip(dialogues, media, strict=True), 1):
        wanted = [medium for _, medium in dialogue.wanted()]
        names = [
            (lay_down(entry, medium.modality, file.parent), entry.source)
            for medium, entry in zip(wanted, found, strict=True)
        ]
        records.append(record_of(dialogue, names))
        on_progress(number)
    text = json.dumps(records, ensure_ascii=False, indent=1) + "\n"
    with complete_or_gone(file, "data set"):
        file.write_text(text, encoding="utf-8", newline="\n")


def drawn(medium: Wanted) -> Found | None:
    """What the small world shows of it; None for a medium that it does not know."""
    from nodes.nextgpt.training.media import as_value

    return None if medium.drawn is None else Found(as_value(medium.drawn), "small world")


def statistics_of(dialogues: Sequence[Dialogue]) -> dict[str, Any]:
    """A TABLE of what there is."""
    turns = [len(dialogue.turns) for dialogue in dialogues]
    media = Counter((turn.speaker, medium.modality) for one in dialogues for turn, medium in one.wanted())
    rows: list[list[Any]] = [
        ["dialogues", len(dialogues)],
        ["turns", sum(turns)],
        ["turns of a dialogue, mean", round(statistics.fmean(turns), 2) if turns else 0],
        ["words of a dialogue, mean", round(statistics.fmean(d.words for d in dialogues), 1) if dialogues else 0],
    ]
    rows += [[f"{modality}s made", media["gpt", modality]] for modality in SUFFIX]
    rows += [[f"{modality}s shown", media["human", modality]] for modality in SUFFIX]
    rows += [[f"in {name}", count] for name, count in sorted(Counter(d.language for d in dialogues).items())]
    rows += [[f"by {name}", count] for name, count in sorted(Counter(d.source for d in dialogues).items())]
    return {"columns": ["what", "number"], "rows": rows}


def _whole(path: Path, modality: str, write: Callable[[Path], Any]) -> None:
    """Under its name a medium is there as a whole: it is written aside and renamed, whatever ends the process."""
    if not path.exists():
        aside = path.with_name(f".part-{path.name}")
        with complete_or_gone(aside, modality):
            write(aside)
            aside.replace(path)


def _write(path: Path, modality: str, value: Any) -> None:
    """As PNG, MP4 or 16-bit WAV, which everything that trains reads. The writers remove what they could not finish."""
    if modality == "image":
        from nodes.media.image_file import write_image

        write_image(path, value[0], "png")
    elif modality == "video":
        from nodes.media.video_file import write_video

        write_video(path, value, "mp4")
    else:
        from nodes.media.audio_file import write_audio

        write_audio(path, value["waveform"][0], value["sample_rate"], "wav")


def _digest(path: Path) -> str:
    import hashlib

    return hashlib.blake2b(path.read_bytes(), digest_size=10).hexdigest()
