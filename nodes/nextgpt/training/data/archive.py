"""A webdataset archive: members of one name are one sample, "0001.jpg" with "0001.txt" (its caption) or "0001.json".

Media are unpacked beside the archive when it is first read, under their own plain names.
"""

from __future__ import annotations

import contextlib
import errno
import json
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from graph_engine.errors import Problem, StoreError
from nodes.nextgpt.training.data.record import Find

KINDS = {
    "image": (".jpg", ".jpeg", ".png", ".webp"),
    "audio": (".wav", ".flac", ".mp3"),
    "video": (".mp4", ".webm", ".gif"),
}
_MODALITY = {ending: modality for modality, endings in KINDS.items() for ending in endings}


def archived(file: Path, problems: list[Problem]) -> Iterator[tuple[str, Any, Find]]:
    """Records of an archive with their places; what is wrong is added to `problems`. Raises StoreError where media cannot
    be unpacked."""
    folder = file.with_name(f"{file.name}.unpacked")
    samples: dict[str, dict[str, bytes | Path]] = {}
    try:
        with tarfile.open(file) as archive:
            for member in archive:
                if not member.isfile():
                    continue
                name = PurePosixPath(member.name)
                stem, ending = name.name.partition(".")[0], PurePosixPath(name.name.lower()).suffix
                content = archive.extractfile(member)
                if content is None or (ending not in _MODALITY and ending not in (".txt", ".json")):
                    continue
                key = str(name.parent / stem)
                sample = samples.setdefault(key, {})
                if ending in _MODALITY:
                    # The folder is flattened, so a name like "../x" is nothing but a name.
                    path = folder / f"{len(samples):06d}_{stem}{ending}"
                    if not path.is_file() or path.stat().st_size != member.size:
                        unpack(path, content.read())
                    sample[ending] = path
                else:
                    sample[ending] = content.read()
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        problems.append(Problem("unreadable", f"the archive is damaged: {error}.", "Fetch it again.", place=str(file)))
        return
    for key, sample in samples.items():
        place = f"{file}:{key}"
        media = {_MODALITY[e]: v for e, v in sample.items() if isinstance(v, Path)}
        try:
            record = _record(sample, media)
        except ValueError as error:
            problems.append(Problem("bad_line", f"{error}.", "Correct or remove the sample.", place=place))
            continue
        yield place, record, lambda modality, name, media=media: media.get(modality)  # type: ignore[misc]


def unpack(path: Path, content: bytes) -> None:
    """Writes a medium out of a set. Raises StoreError where the disk is full or cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()  # half a medium would take the room that is to be made
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise StoreError(
            f"the media of the data set cannot be unpacked to {path.parent}: "
            f"{'the disk is full' if full else error.strerror or error}.",
            remedy="Make room there."
            if full
            else "Let the folder be written, or move the data set to one that can be.",
            code="disk_full" if full else "not_writable",
        ) from error


def _record(sample: dict[str, bytes | Path], media: dict[str, Path]) -> Any:
    """The sample's own record, or the pair of its caption and its one medium."""
    told = sample.get(".json")
    if isinstance(told, bytes):
        record = json.loads(told)
        if not (isinstance(record, dict) and "caption" in record and not any(k.endswith("_name") for k in record)):
            return record
        caption = record["caption"]
    else:
        text = sample.get(".txt")
        if not isinstance(text, bytes):
            raise ValueError("the sample has neither .txt nor .json")
        caption = text.decode("utf-8").strip()
    return {"caption": caption, **{f"{modality}_name": path.name for modality, path in media.items()}}
