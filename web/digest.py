"""Digest: any value of a wire as a small tree of JSON, for people to look at: what it is, how large, and a strip of it.

    {"form": "tensor", "shape": [1, 1, 1024], "dtype": "float32", "min": -0.1, "max": 0.2, "mean": 0.0, "not_finite": 0,
     "rows": 1, "columns": 512, "strip": [...]}

A strip is the tensor as rows (all axes but the last) by columns (the last), averaged down to at most 512 numbers. What a
browser can show as a picture, a sound or a film says so under `medium`, with how many there are; `media_of` writes one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graph_engine.errors import NotFoundError
from graph_engine.graph.kinds import AUDIO, IMAGE, MASK, VIDEO, describe
from graph_engine.graph.outcome import Skip

STRIP = 512
"""Numbers of a strip at most."""
ROWS = 16
LOOKED_AT = 4_000_000
"""Numbers that a strip is averaged from; of larger tensors every n-th row and column is taken."""
TEXT = 20_000
JSON_BYTES = 64 * 1024
TABLE_ROWS = 500
FIELDS, ITEMS, DEPTH = 32, 16, 4
LARGEST_SIDE = 2048
SUFFIXES = {"image": "png", "audio": "wav", "video": "mp4"}


def digest(value: Any, depth: int = 0) -> dict[str, Any]:
    """Takes milliseconds for ordinary values and a second for a gigabyte, so call it in a thread."""
    if isinstance(value, Skip):
        return {"form": "skipped", "message": value.message}
    if isinstance(value, str):
        return {"form": "text", "text": value[:TEXT], "length": len(value)}
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return _tensor(value, depth)
    if (table := _table(value)) is not None:
        return table
    if (plain := _json(value)) is not None:
        return {"form": "json", "value": plain[0]}
    if hasattr(value, "to_dict"):
        return {"form": "json", "value": value.to_dict()}
    if depth >= DEPTH:
        return {"form": "other", "text": describe(value)}
    if isinstance(value, Mapping):
        fields = [{"name": str(name), "value": digest(part, depth + 1)} for name, part in list(value.items())[:FIELDS]]
        made = {"form": "record", "fields": fields, "more": max(0, len(value) - FIELDS)}
        return {**made, **_medium(value)} if depth == 0 else made
    if isinstance(value, list | tuple):
        items = [digest(part, depth + 1) for part in value[:ITEMS]]
        return {"form": "list", "length": len(value), "items": items}
    return {"form": "other", "text": describe(value)}


def _tensor(value: Any, depth: int) -> dict[str, Any]:
    import torch

    tensor = value if isinstance(value, torch.Tensor) else torch.as_tensor(value)
    found: dict[str, Any] = {
        "form": "tensor",
        "shape": list(tensor.shape),
        "dtype": str(tensor.dtype).removeprefix("torch."),
    }
    if depth == 0:
        found |= _medium(value)
    if not tensor.numel():
        return found
    numbers = tensor.detach()
    if numbers.is_complex():
        numbers = numbers.abs()
    last = numbers.shape[-1] if numbers.ndim else 1
    grid = numbers.reshape(-1, last)
    whole = numbers if numbers.is_floating_point() else numbers.float()
    finite = bool(torch.isfinite(whole.sum(dtype=torch.float32)))
    if not finite:  # the sum may be too large as well, so this is looked at closely
        ok = torch.isfinite(whole)
        found["not_finite"] = int(whole.numel() - ok.sum())
        whole = whole[ok]
    else:
        found["not_finite"] = 0
    if whole.numel():
        low, high = torch.aminmax(whole)
        found |= {"min": float(low), "max": float(high), "mean": float(whole.mean(dtype=torch.float32))}
        found["mean"] = found["mean"] if math.isfinite(found["mean"]) else None
    return found | _strip(grid)


def _strip(grid: Any) -> dict[str, Any]:
    import torch
    import torch.nn.functional as F

    rows = min(grid.shape[0], ROWS)
    columns = min(grid.shape[1], STRIP // rows)
    while grid.numel() > LOOKED_AT:
        step = (2, 1) if grid.shape[0] > 2 * ROWS else (1, 2)
        grid = grid[:: step[0], :: step[1]]
    small = F.adaptive_avg_pool2d(torch.nan_to_num(grid.float(), 0.0, 0.0, 0.0)[None, None], (rows, columns))
    return {"rows": rows, "columns": columns, "strip": [round(x, 5) for x in small.flatten().tolist()]}


def _table(value: Any) -> dict[str, Any] | None:
    if not isinstance(value, Mapping) or set(value) != {"columns", "rows"} or not isinstance(value["rows"], list):
        return None
    rows = value["rows"]
    shown = _json({"columns": value["columns"], "rows": rows[:TABLE_ROWS]}, 16 * JSON_BYTES)
    return None if shown is None else {"form": "table", **shown[0], "length": len(rows)}


def _json(value: Any, limit: int = JSON_BYTES) -> tuple[Any] | None:
    """(value,) where it is JSON and small."""
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return None
    return (json.loads(text),) if len(text) <= limit else None


def medium_of(value: Any) -> str:
    """`image`, `audio`, `video`, or nothing: by the form that the kinds prescribe, whatever the wire was declared as."""
    for kind, medium in ((IMAGE, "image"), (MASK, "image"), (AUDIO, "audio"), (VIDEO, "video")):
        try:
            kind.check(value)
        except Exception:
            continue
        return medium
    return ""


def _medium(value: Any) -> dict[str, Any]:
    medium = medium_of(value)
    if not medium:
        return {}
    count = 1 if medium == "video" else len(value["waveform"] if medium == "audio" else value)
    more = {"fps": value["fps"]} if medium == "video" else {}
    return {"medium": medium, "count": count, **more}


def media_of(value: Any, index: int, path: Path) -> None:
    """Write entry `index` of a batch as PNG, WAV or MP4. Raises NotFoundError for what is none of these."""
    medium = medium_of(value)
    entries = 0 if not medium else 1 if medium == "video" else len(value["waveform"] if medium == "audio" else value)
    if not 0 <= index < entries:
        what = f"has {entries} entries" if entries else "is no picture, sound or film"
        raise NotFoundError(
            f"the value {what}: {describe(value)}.",
            remedy="Ask for ?format=digest, which says what it is.",
            code="no_media",
        )
    if medium == "image":
        _picture(value[index], path)
    elif medium == "audio":
        from nodes.media.audio_file import write_audio

        write_audio(path, value["waveform"][index], value["sample_rate"], "wav")
    else:
        from nodes.media.video_file import write_video

        write_video(path, value, "mp4")


def _picture(value: Any, path: Path) -> None:
    import torch
    import torch.nn.functional as F

    from nodes.media.image_file import write_image

    picture = torch.as_tensor(value)
    picture = picture.unsqueeze(-1) if picture.ndim == 2 else picture
    side = max(picture.shape[:2])
    if side > LARGEST_SIDE:
        size = [max(1, round(length * LARGEST_SIDE / side)) for length in picture.shape[:2]]
        picture = F.interpolate(picture.permute(2, 0, 1)[None], size, mode="area")[0].permute(1, 2, 0)
    write_image(path, picture, "png")
