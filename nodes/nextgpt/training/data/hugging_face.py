"""A Hugging Face data set on disk (`save_to_disk`): Arrow tables, with media as bytes in columns of their own.

    dataset_info.json, state.json, data-*.arrow          one split
    dataset_dict.json, train/..., test/...               several

A row with a caption is a T-X pair; one with a conversation is as in the JSON formats, its media columns belonging to the
side whose words have their placeholder. Media are unpacked beside the data set when it is first read. Needs the package
`datasets` (`pip install "anyloom[datasets]"`), which is asked for nothing but what lies in the folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from graph_engine.errors import Problem, RequestError
from nodes.nextgpt.training.data.archive import KINDS, unpack
from nodes.nextgpt.training.data.record import MODALITIES, Find

CAPTIONS = ("caption", "text", "sentence", "description", "captions")
"""Columns that may hold a caption, the first there is."""
_CONVERSATIONS = ("conversations", "conversation", "messages")
_MAGIC = (
    (b"\x89PNG", ".png"),
    (b"\xff\xd8", ".jpg"),
    (b"RIFF", ".wav"),
    (b"fLaC", ".flac"),
    (b"\x1aE\xdf\xa3", ".webm"),
)


def is_saved(path: Path) -> bool:
    """Whether a folder is such a data set, of one split or of several."""
    return (path / "state.json").is_file() or (path / "dataset_dict.json").is_file()


def saved(path: Path, problems: list[Problem]) -> Iterator[tuple[str, Any, Find]]:
    """Its rows as records, with their places; what is wrong is added to `problems`. Raises RequestError without `datasets`,
    StoreError where media cannot be unpacked."""
    try:
        import datasets
    except ImportError:
        raise RequestError(
            f"{path} is a Hugging Face data set, and the package `datasets` that reads it is not installed.",
            remedy='Install it: pip install "anyloom[datasets]".',
            code="library_missing",
        ) from None
    try:
        found = datasets.load_from_disk(str(path), keep_in_memory=False)
    except Exception as error:  # whatever Arrow or JSON raise for files that are not what they should be
        told = f"the data set cannot be read: {error}".rstrip(".")
        problems.append(Problem("unreadable", f"{told}.", "Fetch or save it again.", place=str(path)))
        return
    for name, split in found.items() if isinstance(found, datasets.DatasetDict) else [("", found)]:
        columns = {}
        for column, feature in split.features.items():
            modality = type(feature).__name__.lower()
            if modality in MODALITIES:
                split = split.cast_column(column, type(feature)(decode=False))
                columns[column] = modality
        folder = path.with_name(f"{path.name}.unpacked") / name
        for number, row in enumerate(split):
            place = f"{path / name}:{number + 1}"
            try:
                yield place, *_record(row, columns, folder, number)
            except ValueError as error:
                problems.append(Problem("bad_record", f"{error}.", "Correct or remove the row.", place=place))


def _record(row: Mapping[str, Any], columns: Mapping[str, str], folder: Path, number: int) -> tuple[Any, Find]:
    media: dict[str, list[tuple[str, Path]]] = {}
    for column, modality in columns.items():
        path = _unpacked(row[column], modality, folder, f"{number:07d}_{column}")
        if path is not None:
            media.setdefault(modality, []).append((path.name, path))
    there = {(modality, name): path for modality, entries in media.items() for name, path in entries}
    names = {modality: [name for name, _ in entries] for modality, entries in media.items()}
    # A row may name files beside the data set instead of holding them.
    record = {key: value for key, value in row.items() if key not in columns and value is not None}
    turns = next((record[name] for name in _CONVERSATIONS if name in record), None)
    if turns is not None:
        if not isinstance(turns, list) or not all(isinstance(turn, Mapping) for turn in turns):
            raise ValueError("its conversation is no list of turns with from and value, or role and content")
        told = [{_SPOKEN.get(key, key): value for key, value in turn.items()} for turn in turns]
        shown = " ".join(str(turn.get("value")) for turn in told[::2])
        sides = {m: "input" if f"<{m}>" in shown else "output" for m in names}
        record |= {f"{sides[m]}_{m}": entries for m, entries in names.items()}
        record = {key: value for key, value in record.items() if key not in _CONVERSATIONS} | {"conversations": told}
    else:
        caption = next((record[name] for name in CAPTIONS if record.get(name)), None)
        if caption is None:
            raise ValueError(f"the row has neither a conversation nor one of the columns {', '.join(CAPTIONS)}")
        record["caption"] = caption[0] if isinstance(caption, list) else caption
        record |= {f"{modality}_name": entries[0] for modality, entries in names.items()}
    return record, lambda modality, name: there.get((modality, name))


_SPOKEN = {"role": "from", "content": "value"}
"""How messages are written elsewhere."""


def _unpacked(value: Any, modality: str, folder: Path, stem: str) -> Path | None:
    """The file of a cell {bytes, path}; None for an empty one. Raises ValueError for one whose bytes are elsewhere."""
    if value is None:
        return None
    content = value.get("bytes")
    if content is None:
        raise ValueError(f"its {modality} is not in the data set but at {value.get('path')!r}; save it with its media")
    ending = Path(value.get("path") or "").suffix.lower()
    if ending not in KINDS[modality]:
        ending = next((suffix for magic, suffix in _MAGIC if content.startswith(magic)), KINDS[modality][0])
    path = folder / f"{stem}{ending}"
    if not path.is_file() or path.stat().st_size != len(content):
        unpack(path, content)
    return path
